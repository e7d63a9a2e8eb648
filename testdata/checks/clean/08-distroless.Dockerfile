FROM debian:12 AS files
RUN mkdir -p /out/etc && echo 'nonroot:x:65532:65532::/:/sbin/nologin' > /out/etc/passwd

FROM scratch
COPY --from=files /out /
COPY --chmod=0755 app /app
USER 65532
ENTRYPOINT ["/app"]
