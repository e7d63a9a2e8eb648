//! A proxy in front of a real registry that remembers every request and breaks some on purpose.
//!
//! Bodies are held whole in memory: test images are small.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::support::client;
use crate::support::serve::Service;

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// This status instead, and how many seconds the client is told to wait.
    Status(u16, Option<u32>),
    /// The request is swallowed, and nothing ever comes back.
    Hang,
    /// The request arrives, and its answer is lost.
    Lose,
    /// One byte in the middle of the body is another one.
    Corrupt,
    /// The answer comes this much later.
    Delay(Duration),
    /// The client is sent to the same path on another host.
    Redirect(String),
}

/// Which requests a fault meets, and how many of them.
#[derive(Debug)]
struct Rule {
    method: Method,
    path: String,
    /// How many requests go by before the first that it meets.
    skip: usize,
    times: usize,
    fault: Fault,
}

/// Faults by chance, the same for the same seed.
#[derive(Debug)]
struct Chance {
    percent: u64,
    state: u64,
}

impl Chance {
    /// A number below `limit`.
    fn draw(&mut self, limit: u64) -> u64 {
        // SplitMix64: https://prng.di.unimi.it/splitmix64.c
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// What goes wrong with the next request, if anything does.
    fn fault(&mut self) -> Option<Fault> {
        if self.draw(100) >= self.percent {
            return None;
        }
        Some(match self.draw(6) {
            0 => Fault::Status(500, None),
            1 => Fault::Status(502, None),
            2 => Fault::Status(503, Some(0)),
            3 => Fault::Status(429, Some(0)),
            4 => Fault::Lose,
            _ => Fault::Cut(100),
        })
    }
}

/// A request that came by.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// The `Range` header.
    pub(crate) range: Option<String>,
    /// The status that the client got.
    pub(crate) status: StatusCode,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    service: Service,
    state: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    chance: Mutex<Option<Chance>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Starts one before the registry at `upstream`, an address.
    pub(crate) fn start(upstream: &str) -> Self {
        let state = Arc::new(Inner {
            upstream: upstream.to_owned(),
            client: client::http(),
            rules: Mutex::default(),
            chance: Mutex::default(),
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&state));
        let service = Service::start("127.0.0.1:0", router).expect("loopback has free ports");
        Self { service, state }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.service.address()
    }

    /// The value of `--registry-mirror` that puts this proxy in the place of Docker Hub.
    pub(crate) fn as_docker_hub(&self) -> String {
        format!("docker.io=http://{}", self.address())
    }

    /// Makes the next `times` requests of this method whose path contains `path` fail.
    pub(crate) fn fail(&self, times: usize, method: Method, path: &str, fault: Fault) {
        self.fail_after(0, times, method, path, fault);
    }

    /// The same, but lets the first `skip` of them go by.
    pub(crate) fn fail_after(
        &self,
        skip: usize,
        times: usize,
        method: Method,
        path: &str,
        fault: Fault,
    ) {
        let rule = Rule { method, path: path.to_owned(), skip, times, fault };
        self.state.rules.lock().expect("no panic while locked").push(rule);
    }

    /// Makes so many requests of a hundred fail, each in one of several ways.
    pub(crate) fn fail_at_random(&self, percent: u64, seed: u64) {
        let chance = Chance { percent, state: seed };
        *self.state.chance.lock().expect("no panic while locked") = Some(chance);
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no panic while locked").clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.state.seen.lock().expect("no panic while locked").clear();
    }

    /// The requests so far that went well, of this method and with this in their path.
    pub(crate) fn count(&self, method: &Method, path: &str) -> usize {
        let meant = |seen: &&Seen| {
            seen.method == *method && seen.path.contains(path) && seen.status.is_success()
        };
        self.seen().iter().filter(meant).count()
    }

    /// Blobs that were fetched so far.
    pub(crate) fn downloads(&self) -> usize {
        self.count(&Method::GET, "/blobs/sha256:")
    }

    /// Blobs whose bytes were sent so far.
    pub(crate) fn uploads(&self) -> usize {
        let path = "/blobs/uploads/";
        self.count(&Method::PUT, path) + self.count(&Method::PATCH, path)
    }
}

impl Inner {
    /// The fault that meets this request, used up by one.
    fn fault(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("no panic while locked");
        let meets = |rule: &&mut Rule| {
            rule.times > 0 && rule.method == *method && path.contains(&rule.path)
        };
        let Some(rule) = rules.iter_mut().find(meets) else {
            return self.chance.lock().expect("no panic while locked").as_mut()?.fault();
        };
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}

async fn forward(State(state): State<Arc<Inner>>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().to_string();
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    let range = request.headers().get(header::RANGE);
    let range = range.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
    let fault = state.fault(&method, &path);
    let response = match &fault {
        Some(Fault::Status(status, wait)) => refuse(*status, *wait),
        Some(Fault::Hang) => {
            drop(axum::body::to_bytes(request.into_body(), usize::MAX).await);
            tokio::time::sleep(Duration::from_secs(600)).await;
            refuse(504, None)
        }
        Some(Fault::Redirect(host)) => redirect(host, &path),
        _ => relay(&state, &path, request).await,
    };
    let status = response.status();
    let seen = Seen { method, path, authorization, range, status };
    state.seen.lock().expect("no panic while locked").push(seen);
    match fault {
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            response
        }
        Some(Fault::Cut(bytes)) => cut(response, bytes).await,
        Some(Fault::Lose) => refuse(504, None),
        Some(Fault::Corrupt) => corrupt(response).await,
        _ => response,
    }
}

/// Asks the registry, as if it had been asked by the client's name for it.
async fn relay(state: &Inner, path: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let url = format!("http://{}{path}", state.upstream);
    let sent =
        state.client.request(parts.method, url).headers(end_to_end(parts.headers)).body(body);
    let answer = match sent.send().await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let (status, headers) = (answer.status(), end_to_end(answer.headers().clone()));
    match answer.bytes().await {
        Ok(bytes) => {
            let mut response = (status, bytes).into_response();
            *response.headers_mut() = headers;
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Leaves out what concerns one connection only.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers
}

fn refuse(status: u16, wait: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).expect("tests use real status codes");
    let mut response = (status, "the proxy was told to fail").into_response();
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn redirect(host: &str, path: &str) -> Response {
    let location = format!("http://{host}{path}");
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
}

/// Keeps the headers, sends a part of the body, and then hangs up.
async fn cut(response: Response, bytes: usize) -> Response {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let piece = body.slice(..bytes.min(body.len()));
    let hang_up = Err(std::io::Error::other("the proxy was told to hang up"));
    let stream = futures_util::stream::iter([Ok::<Bytes, std::io::Error>(piece), hang_up]);
    Response::from_parts(parts, Body::from_stream(stream))
}

async fn corrupt(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    Response::from_parts(parts, Body::from(bytes))
}
