ARG REGISTRY=docker.io
ARG DISTRO=bookworm
ARG SUFFIX
# base is what all others start from
FROM ${REGISTRY}/library/debian:${DISTRO}${SUFFIX:+-$SUFFIX} AS base
ARG VERSION
ARG PREFIX=/opt
ENV VERSION=${VERSION:-1.0} \
    PATH=${PREFIX}/bin:$PATH
LABEL org.opencontainers.image.version=$VERSION
WORKDIR ${PREFIX}
ADD https://example.org/app-${VERSION}.tar.gz /tmp/
COPY --exclude=*.md --parents docs/**/*.txt ./
