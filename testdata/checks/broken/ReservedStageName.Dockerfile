FROM alpine AS context
RUN make
