# escape=`
# check=skip=WorkdirRelativePath;error=true
FROM alpine
WORKDIR app
RUN echo one `
    two
# check=skip=JSONArgsRecommended
CMD run it
