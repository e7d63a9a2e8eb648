FROM alpine
ENV DEPS curl git
LABEL version 1.0
