FROM postgres:16
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=5 \
    CMD pg_isready -U postgres || exit 1
VOLUME ["/var/lib/postgresql/data"]
COPY initdb.d/ /docker-entrypoint-initdb.d/
EXPOSE 5432
