# syntax=docker/dockerfile:1
FROM debian:bookworm
ARG GREETING=hello
RUN <<EOF
set -e
apt-get update
apt-get install -y vim
EOF
COPY <<-"CONF" /etc/app.conf
	[main]
	value = $literal
	CONF
COPY <<EOF /greeting
${GREETING}, world
EOF
RUN python3 <<PY
print("a")
PY
