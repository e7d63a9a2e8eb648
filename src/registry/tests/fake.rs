//! A registry for tests that answers whatever a test tells it to, and remembers what it was asked.
//!
//! For the behaviour that no honest registry shows. Real ones are spoken to in the integration tests.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The value of a header; all of them where there are several, with commas between.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
        let joined = values.collect::<Vec<_>>().join(", ");
        Some(joined).filter(|text| !text.is_empty())
    }
}

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    cut: Option<usize>,
}

pub(crate) fn reply(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Puts the fake's own address in the place of `SELF` in the values of headers.
    fn addressed(mut self, address: &str) -> Self {
        for (_, value) in &mut self.headers {
            *value = value.replace("SELF", address);
        }
        self
    }

    /// Breaks the connection after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// A running fake.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// Starts one that answers by `answer`, which sees the request and how many were like it
    /// (same method, path and query) before.
    pub(crate) async fn start(
        answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let own = address.clone();
        let answer = move |seen: &Seen, count| answer(seen, count).addressed(&own);
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let router = axum::Router::new().fallback(move |request: Request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move { handle(&log, &*answer, request).await }
        });
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serving does not fail");
        });
        Self { address, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `METHOD path` of each request, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn handle(
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    request: Request,
) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let text = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        authorization: text("authorization"),
        range: text("range"),
        headers: parts.headers.clone(),
        body: to_bytes(body, usize::MAX).await.unwrap_or_default(),
    };
    let before = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let like = |it: &&Seen| it.method == seen.method && it.path == seen.path;
        let before = log.iter().filter(like).count();
        log.push(seen.clone());
        before
    };
    let reply = answer(&seen, before);
    let mut response = axum::http::Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = match reply.cut {
        None => Body::from(reply.body),
        Some(after) => {
            response = response.header("content-length", reply.body.len());
            let piece = reply.body.slice(..after.min(reply.body.len()));
            // The pause lets the piece go out before the connection is torn down.
            Body::from_stream(stream::unfold(Some(piece), |piece| async {
                match piece {
                    Some(piece) if !piece.is_empty() => Some((Ok(piece), Some(Bytes::new()))),
                    Some(_) => {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        Some((Err(std::io::Error::other("cut")), None))
                    }
                    None => None,
                }
            }))
        }
    };
    response.body(body).expect("a valid response")
}
