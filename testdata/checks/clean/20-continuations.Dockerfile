# A comment that is no directive
FROM debian:12-slim

# The tools that the scripts need.
RUN set -eux; \
	apt-get update; \
# comments between lines are no empty lines
	apt-get install -y --no-install-recommends \
		ca-certificates \
		# and neither are these
		gnupg \
	; \
	rm -rf /var/lib/apt/lists/*

ENV LANG=C.UTF-8 \
    GREETING="hello  world"
COPY docker-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["server"]
