FROM scratch AS base
COPY one /
FROM scratch AS base
COPY two /
