FROM alpine:3.20
RUN apk add --no-cache \
        bash \
        curl \
        git \
    && adduser -D builder
USER builder
WORKDIR /home/builder
ENTRYPOINT ["/bin/bash"]
