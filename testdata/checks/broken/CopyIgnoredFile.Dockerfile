FROM scratch
COPY ./tmp/data ./src /data/
ADD notes.md /
