FROM alpine
ENTRYPOINT exec server --port 80
CMD server
