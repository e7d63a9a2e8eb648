FROM scratch
MAINTAINER somebody@example.org
