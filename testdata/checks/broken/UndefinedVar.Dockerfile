FROM alpine
ARG DIR_ASSETS=assets/
COPY $DIR_ASSET /srv/
LABEL source=$source
ENV ONE=1 \
    PATH=$PAHT:/opt/bin
