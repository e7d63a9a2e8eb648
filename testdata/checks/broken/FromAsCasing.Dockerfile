FROM scratch as release
COPY app /app
