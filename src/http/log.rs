//! What goes on, told line by line to whoever looks for a fault.
//!
//! No line holds a secret: of a URL the host and the path are told, and never the query, which may be
//! a signature; headers and bodies not at all (rule B018).

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{Method, StatusCode, Url, Version};

use crate::http::{HttpError, Place, Request};

/// Where the lines go; nowhere by default.
#[derive(Clone, Default)]
pub struct Log(Option<Sink>);

type Sink = Arc<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Log(on)" } else { "Log(off)" })
    }
}

impl Log {
    /// Lines go to `sink`, one a call, without an end of line.
    pub fn to(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// Tells a line, which is made only if somebody listens.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(sink) = &self.0 {
            sink(&line());
        }
    }

    /// Tells how one exchange went: `PUT https://r/v2/a/manifests/1 201 in 12 ms, HTTP/2.0`.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        url: &Url,
        outcome: Result<(StatusCode, Version), &HttpError>,
        took: Duration,
    ) {
        self.tell(|| {
            let asked = asked(request, url);
            let took = took.as_millis();
            match outcome {
                Ok((status, version)) => {
                    format!("{asked} {} in {took} ms, {version:?}", status.as_u16())
                }
                Err(error) => format!("{asked} failed after {took} ms: {}", story(error)),
            }
        });
    }
}

/// What was asked for: method, place, part, and how much was sent.
fn asked(request: &Request, url: &Url) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    let mut text = format!("{} {}{query}", request.method, Place::of(url));
    for name in ["range", "content-range"] {
        if let Some(range) = request.headers.get(name).and_then(|it| it.to_str().ok()) {
            text.extend([" [", range.trim_start_matches("bytes="), "]"]);
        }
    }
    let has_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    match request.body.size() {
        0 => text,
        size if has_body => text + &format!(" of {size} bytes"),
        _ => text,
    }
}

/// An error and its causes, on one line.
pub(crate) fn story(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |it| it.source());
    let words: Vec<String> =
        [error.to_string()].into_iter().chain(causes.map(ToString::to_string)).collect();
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use reqwest::header::{HeaderValue, RANGE};

    use super::*;

    #[test]
    fn b018_a_line_tells_what_was_asked_and_no_query_header_or_body() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&lines);
        let log =
            Log::to(move |line| kept.lock().expect("no panic while locked").push(line.to_owned()));
        let url: Url =
            "https://u:secret@r.example/v2/a?X-Amz-Signature=secret".parse().expect("a URL");
        let mut request = Request::new(Method::GET, url.clone())
            .header(RANGE, HeaderValue::from_static("bytes=5-"));
        request.authorization = Some(HeaderValue::from_static("Bearer secret"));
        let took = Duration::from_millis(12);
        log.exchange(&request, &url, Ok((StatusCode::PARTIAL_CONTENT, Version::HTTP_2)), took);
        let error = HttpError::Timeout { place: Place::of(&url), after: Duration::from_secs(60) };
        log.exchange(&Request::new(Method::HEAD, url.clone()), &url, Err(&error), took);
        Log::default().tell(|| unreachable!("nobody listens"));
        let expected = [
            "GET https://r.example/v2/a?… [5-] 206 in 12 ms, HTTP/2.0",
            "HEAD https://r.example/v2/a?… failed after 12 ms: nothing came from \
             https://r.example/v2/a for 60 seconds",
        ];
        assert_eq!(*lines.lock().expect("no panic while locked"), expected);
    }
}
