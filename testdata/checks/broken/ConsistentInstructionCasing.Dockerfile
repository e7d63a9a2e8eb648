FROM alpine
WORKDIR /app
copy . .
Run make
