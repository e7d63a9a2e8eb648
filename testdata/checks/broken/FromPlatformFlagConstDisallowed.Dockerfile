FROM --platform=linux/amd64 alpine AS build
RUN make
FROM --platform=linux/arm64 alpine AS build-arm64
RUN make
