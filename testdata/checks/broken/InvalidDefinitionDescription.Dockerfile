# check=experimental=InvalidDefinitionDescription
# the version to build
ARG VERSION=1
# build compiles it
FROM scratch AS build
COPY app /app
# the result
FROM scratch AS release
COPY --from=build /app /app
