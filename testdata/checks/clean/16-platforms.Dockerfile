FROM --platform=linux/amd64 alpine AS tools-amd64
RUN apk add --no-cache qemu
FROM --platform=linux/arm64 alpine AS tools-arm64
RUN apk add --no-cache qemu
FROM tools-${TARGETARCH:-amd64} AS tools
WORKDIR /work
RUN ls
