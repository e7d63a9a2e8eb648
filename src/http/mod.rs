//! One HTTP client for everything that coracle asks of the network. It knows no registry.
//!
//! It adds to `reqwest` what a careful client of registries needs: redirects that never carry
//! credentials to another host, bodies that can be sent again, an idle time-out instead of a total
//! one, and retries that obey `Retry-After`. Certificates come from the system's bundle
//! (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), proxies from `HTTPS_PROXY` and its kin.
//!
//! Rules B010 to B018 and B092 to B098.

mod body;
mod budget;
mod certs;
mod error;
mod log;
mod redirect;
mod request;
mod response;
mod retry;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION},
};

use crate::http::body::Activity;
pub use crate::http::body::{Body, FileBody};
use crate::http::budget::Budget;
pub use crate::http::certs::CertificateDirectories;
use crate::http::certs::Certificates;
pub use crate::http::error::{HttpError, Place};
pub use crate::http::log::Log;
pub(crate) use crate::http::log::story;
pub use crate::http::redirect::{Refused, check_private, resolve, same_origin};
pub use crate::http::request::{Follow, Request};
pub use crate::http::response::Response;
pub use crate::http::retry::{Retry, is_transient, retry_after};

/// How many redirects are followed (rule B011).
const MAX_REDIRECTS: usize = 10;

/// How much of an error's body is kept (rule B091).
const MAX_ERROR_BODY: u64 = 64 * 1024;

/// What a client of HTTP needs to know beforehand.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Hosts, as `host` or `host:port`, whose certificates are taken as they come (rule B008).
    pub insecure: BTreeSet<String>,
    /// Certificates in PEM to trust besides the system's.
    pub authorities: Vec<Vec<u8>>,
    /// Where certificates for single hosts are.
    pub certificates: CertificateDirectories,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long nothing at all may move before the exchange is given up.
    pub idle_timeout: Duration,
    /// How long to wait for others in all: for answers, for their bodies, and before another try.
    /// `None` is for ever.
    pub time_limit: Option<Duration>,
    /// When to try again.
    pub retry: Retry,
    /// Who is told of each exchange.
    pub log: Log,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            authorities: Vec::new(),
            certificates: CertificateDirectories::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            time_limit: None,
            retry: Retry::default(),
            log: Log::default(),
        }
    }
}

/// The client. Keeps connections open between requests.
#[derive(Debug)]
pub struct Http {
    config: HttpConfig,
    budget: Arc<Budget>,
    authorities: Vec<reqwest::Certificate>,
    /// Each made when the first host that needs it is spoken to.
    clients: Mutex<BTreeMap<Kind, reqwest::Client>>,
}

/// What hosts must have in common to share a client; the last is their directory of certificates.
type Kind = (Trust, Route, Option<PathBuf>);

/// Which certificates are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Verified,
    /// All, or there will be none: then nobody reads the system's, which takes longer than most
    /// requests.
    Any,
}

/// Whether a proxy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    /// As the environment says.
    Environment,
    /// Never: no proxy can reach this machine's own loopback addresses. Go's clients see it the
    /// same way, so people do not write these into `NO_PROXY`.
    Direct,
}

impl Http {
    /// Makes the client.
    ///
    /// # Errors
    ///
    /// Fails if a certificate in `config` is not one. A system without certificates is no error:
    /// a registry on plain HTTP can still be used.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        // The default of the process is the one place where reqwest looks for the cryptography.
        // A second call finds the first one's provider installed, which is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut authorities = Vec::new();
        for pem in &config.authorities {
            let bundle = reqwest::Certificate::from_pem_bundle(pem);
            authorities
                .extend(bundle.map_err(|source| HttpError::BadCertificate { path: None, source })?);
        }
        let budget = Arc::new(Budget::new(config.time_limit));
        Ok(Self { config, budget, authorities, clients: Mutex::default() })
    }

    /// The policy that [`send_retrying`](Self::send_retrying) was made with.
    pub fn retry(&self) -> Retry {
        self.config.retry
    }

    /// Who is told what goes on.
    pub fn log(&self) -> &Log {
        &self.config.log
    }

    /// Waits before `place` is asked again.
    ///
    /// # Errors
    ///
    /// [`HttpError::OutOfTime`], at once, if there is less time left than that.
    pub async fn pause(&self, place: Place, pause: Duration) -> Result<(), HttpError> {
        self.config.log.tell(|| format!("waits for {} ms before {place}", pause.as_millis()));
        let waited = self.budget.pause(pause).await;
        waited.map_err(|spent| HttpError::OutOfTime { place, limit: spent.0 })
    }

    /// Sends `request` until it gets an answer that another try would not change.
    ///
    /// `is_final` sees each answer of a kind that is worth another try (status, headers, the first
    /// 64 KiB of the body), and may say that it is not. The last answer is returned, whatever it
    /// is: a status is not an error here.
    ///
    /// # Errors
    ///
    /// Fails if no answer came, or a redirect had to be refused.
    pub async fn send_retrying(
        &self,
        request: &Request,
        retry: Retry,
        is_final: impl Fn(StatusCode, &HeaderMap, &[u8]) -> bool,
    ) -> Result<Response, HttpError> {
        let mut attempt = 0;
        loop {
            let more = retry.allows(attempt + 1);
            let delay = match self.send(request).await {
                Err(error) => {
                    let unconnected = matches!(error, HttpError::Connect { .. });
                    let worth_it = !unconnected || attempt + 1 < retry.connects;
                    if !more || !worth_it || !error.is_transient() {
                        return Err(error);
                    }
                    retry.delay(attempt)
                }
                Ok(response) if !is_transient(response.status()) => return Ok(response),
                Ok(response) => {
                    let response = response.buffered(MAX_ERROR_BODY).await;
                    let asked = retry_after(response.headers(), jiff::Timestamp::now());
                    let (status, headers) = (response.status(), response.headers());
                    // Whoever asks for more patience than we have would refuse every try until
                    // then, so the user is told at once (rule B096).
                    let hopeless = status == StatusCode::TOO_MANY_REQUESTS
                        && asked.is_some_and(|delay| delay > retry.longest_asked);
                    if !more || hopeless || is_final(status, headers, response.peek()) {
                        return Ok(response);
                    }
                    asked.map_or(retry.delay(attempt), |delay| delay.min(retry.longest_asked))
                }
            };
            self.pause(Place::of(&request.url), delay).await?;
            attempt += 1;
        }
    }

    /// Sends `request` once, and follows redirects as its [`Follow`] says.
    ///
    /// # Errors
    ///
    /// Fails if no answer came, or a redirect had to be refused.
    pub async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization.as_ref();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(request, &url, authorization).await?;
            let Some(location) = location_to_follow(request, &response) else {
                let idle = self.config.idle_timeout;
                return Ok(Response::new(response, url, idle, Arc::clone(&self.budget)));
            };
            let next = redirect::next(&request.url, &url, &location, request.follow)
                .map_err(|source| HttpError::Redirect { place: Place::of(&url), source })?;
            // Once dropped it stays dropped, even if the way leads back (rule B012).
            authorization = authorization.filter(|_| same_origin(&url, &next));
            url = next;
        }
        let source = Refused::TooMany(MAX_REDIRECTS);
        Err(HttpError::Redirect { place: Place::of(&request.url), source })
    }

    /// Whether TLS is spoken where `url` points to, whoever it is that speaks it.
    ///
    /// # Errors
    ///
    /// Fails if there is no time left, or nobody listens there.
    pub async fn speaks_tls(&self, url: &Url) -> Result<bool, HttpError> {
        let place = Place::of(url);
        let client = self.client_with(url, Trust::Any)?;
        let asked = self.budget.spend(client.head(url.clone()).send()).await;
        let asked = asked.map_err(|spent| HttpError::OutOfTime { place, limit: spent.0 })?;
        let spoken = match asked.map_err(|source| HttpError::from_reqwest(url, source)) {
            Ok(_) => true,
            Err(error) if error.is_refused() => return Err(error),
            Err(error) => !matches!(error, HttpError::Connect { .. }),
        };
        self.config.log.tell(|| {
            let does = if spoken { "speaks" } else { "does not speak" };
            format!("{} {does} TLS", Place::of(url))
        });
        Ok(spoken)
    }

    /// One request, one answer, and a line in the log.
    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, HttpError> {
        let begun = Instant::now();
        let result = match self.budget.spend(self.ask(request, url, authorization)).await {
            Ok(result) => result,
            Err(spent) => Err(HttpError::OutOfTime { place: Place::of(url), limit: spent.0 }),
        };
        let outcome = result.as_ref().map(|it| (it.status(), it.version()));
        self.config.log.exchange(request, url, outcome, begun.elapsed());
        result
    }

    async fn ask(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<reqwest::Response, HttpError> {
        let activity = Activity::new();
        let mut builder = self
            .client(url)?
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let takes_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        if takes_body {
            builder = builder.header(CONTENT_LENGTH, request.body.size());
        }
        let builder = match request.body.to_reqwest(&activity) {
            None => builder,
            Some(body) => builder.body(body),
        };
        let waits = if takes_body { ANSWER_AFTER_BODY } else { 1 };
        activity
            .watch(builder.send(), self.config.idle_timeout * waits)
            .await
            .map_err(|after| HttpError::Timeout { place: Place::of(url), after })?
            .map_err(|source| HttpError::from_reqwest(url, source))
    }

    /// The client for the host of `url`.
    fn client(&self, url: &Url) -> Result<reqwest::Client, HttpError> {
        let is_any = url.scheme() == "http" || redirect::is_listed(&self.config.insecure, url);
        self.client_with(url, if is_any { Trust::Any } else { Trust::Verified })
    }

    fn client_with(&self, url: &Url, trust: Trust) -> Result<reqwest::Client, HttpError> {
        let route = if redirect::is_loopback(url) { Route::Direct } else { Route::Environment };
        let directory = self.config.certificates.of(url);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (trust, route, directory);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let own = match &key.2 {
            Some(directory) => certs::read(directory)?,
            None => None,
        };
        let client = self.build(trust, route, own);
        let client = client.map_err(|source| HttpError::Setup { source })?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(
        &self,
        trust: Trust,
        route: Route,
        own: Option<Certificates>,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let (mut authorities, mut identity) = (self.authorities.clone(), None);
        if let Some(own) = own {
            authorities.extend(own.authorities);
            identity = own.identity;
        }
        let builder = || {
            let builder = builder(&self.config);
            let builder = match identity.clone() {
                Some(identity) => builder.identity(identity),
                None => builder,
            };
            if route == Route::Direct { builder.no_proxy() } else { builder }
        };
        if trust == Trust::Any {
            return builder().tls_danger_accept_invalid_certs(true).build();
        }
        let with_system = builder().tls_certs_merge(authorities.clone()).build();
        // It fails where this machine has no bundle. Plain HTTP works there all the same, and an
        // `https` host is refused with a hint.
        with_system.or_else(|_| builder().tls_certs_only(authorities.clone()).build())
    }
}

/// A registry may have to move or hash gigabytes before it answers the end of an upload, so it
/// gets this many idle time-outs' time.
const ANSWER_AFTER_BODY: u32 = 5;

fn builder(config: &HttpConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
}

/// Where `response` sends us, if it does and this kind of request may go there.
fn location_to_follow(request: &Request, response: &reqwest::Response) -> Option<String> {
    let repeatable = matches!(request.method, Method::GET | Method::HEAD);
    let follows = match (request.follow, response.status().as_u16()) {
        (Follow::Never, _) => false,
        (_, 301..=303) => repeatable,
        (_, 307 | 308) => true,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| follows)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
