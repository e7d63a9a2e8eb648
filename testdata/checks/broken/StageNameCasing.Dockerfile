FROM scratch AS Release
COPY app /app
