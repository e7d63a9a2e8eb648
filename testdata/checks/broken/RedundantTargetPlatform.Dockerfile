FROM --platform=$TARGETPLATFORM alpine AS build
RUN make
