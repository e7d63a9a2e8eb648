FROM ubuntu:24.04
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN curl -fsSL https://example.org/install.sh | bash
ENTRYPOINT exec server "$SERVER_FLAGS"
CMD sleep 1
