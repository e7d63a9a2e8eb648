//! A web server of a few files, which notes what it was asked.

use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;

use crate::support::serve::Service;

/// What a file's address answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// The content.
    pub(crate) body: Vec<u8>,
    /// Headers, such as `ETag`.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Where else the file is.
    pub(crate) location: Option<String>,
}

/// One exchange.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// `Authorization`
    pub(crate) authorization: Option<String>,
    /// What was answered.
    pub(crate) status: u16,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct FileServer {
    service: Service,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<(String, Answer)>,
    exchanges: Vec<Exchange>,
}

impl FileServer {
    /// Starts one without files.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request| {
            let answer = shared.lock().expect("no test panics here").answer(&request);
            async move { answer }
        });
        let service = Service::start("127.0.0.1:0", router).expect("loopback has free ports");
        Self { service, state }
    }

    /// Puts a file at `path`, in the place of what is there.
    pub(crate) fn put(&self, path: &str, answer: Answer) {
        let mut state = self.state.lock().expect("no test panics here");
        state.files.retain(|(name, _)| name != path);
        state.files.push((path.to_owned(), answer));
    }

    /// Puts a file without anything special at `path`.
    pub(crate) fn put_text(&self, path: &str, text: impl AsRef<[u8]>) {
        self.put(path, Answer { body: text.as_ref().to_vec(), ..Answer::default() });
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.service.address()
    }

    /// The URL of a file.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// What was asked since the last time.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.state.lock().expect("no test panics here").exchanges)
    }

    /// The statuses that were answered since the last time.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.exchanges().iter().map(|exchange| exchange.status).collect()
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Response {
        // As apt asks for what is in the directory `./`.
        let path = request.uri().path().replace("/./", "/");
        let found = self.files.iter().find(|(name, _)| *name == path).map(|(_, it)| it.clone());
        let response = match found {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(Answer { location: Some(location), .. }) => {
                (StatusCode::FOUND, [("location", location)]).into_response()
            }
            Some(answer) if is_known(&answer, request.headers()) => {
                StatusCode::NOT_MODIFIED.into_response()
            }
            Some(answer) => {
                let mut response = answer.body.into_response();
                for (name, value) in answer.headers {
                    let value = value.parse().expect("a header's value");
                    response.headers_mut().insert(name, value);
                }
                response
            }
        };
        let authorization = request.headers().get("authorization");
        let authorization =
            authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let status = response.status().as_u16();
        self.exchanges.push(Exchange { authorization, status });
        response
    }
}

/// Whether the client says that it has this version.
fn is_known(answer: &Answer, request: &HeaderMap) -> bool {
    let header = |wanted: &str| answer.headers.iter().find(|(name, _)| *name == wanted);
    let same = |wanted: &str, condition: &str| {
        let condition = request.get(condition).and_then(|value| value.to_str().ok());
        condition.is_some() && condition == header(wanted).map(|(_, value)| value.as_str())
    };
    same("etag", "if-none-match") || same("last-modified", "if-modified-since")
}
