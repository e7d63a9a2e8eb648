FROM alpine
ARG TOKEN_FILE=/run/secrets/token
RUN --mount=type=secret,id=token,required=true \
    --mount=type=ssh \
    cat "$TOKEN_FILE" | wc -c
COPY --link app /app
CMD ["/app"]
