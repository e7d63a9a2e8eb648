//! The client: one request to a registry, with the right protocol, name and proof of identity.
//!
//! Every request of the other files goes through `call`. Which requests make a pull or a push is
//! their subject.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, WARNING},
};

use crate::http::{
    CertificateDirectories, Http, HttpConfig, HttpError, Log, Place, Request, Response, Retry,
    same_origin, story,
};
use crate::oci::Reference;
use crate::registry::answer::{Answer, warning_text};
use crate::registry::credential::CredentialSources;
use crate::registry::endpoint::{Endpoint, Mirror, Transport};
use crate::registry::error::{Login, Misbehaviour, RegistryError};
use crate::registry::host::Host;
use crate::registry::interrupt::Interrupt;
use crate::registry::registries::{Located, Registries};
use crate::registry::scope::Scopes;
use crate::registry::send::Chunks;

/// The most that is read of the body of an error (rule B091).
const MAX_ERROR: u64 = 64 * 1024;

/// How a client is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hosts to ask before the registry itself, for pulls, in this order.
    pub mirrors: Vec<Mirror>,
    /// What `registries.conf` and `--registry-map` say.
    pub registries: Registries,
    /// Where certificates for single hosts are.
    pub certificates: CertificateDirectories,
    /// Registries, as `host` or `host:port`, or `*` for all, whose certificates are taken as they come, and that
    /// may speak plain HTTP (rule B008).
    pub insecure: Vec<String>,
    /// Where credentials are kept.
    pub credentials: CredentialSources,
    /// Certificates in PEM to trust besides the system's.
    pub authorities: Vec<Vec<u8>>,
    /// When to try again.
    pub retry: Retry,
    /// Which blobs are sent in pieces.
    pub chunks: Chunks,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long nothing at all may move before an exchange is given up.
    pub idle_timeout: Duration,
    /// How long to wait for registries in all; `None` is for ever.
    pub time_limit: Option<Duration>,
    /// Who is told of each request, and why it is made.
    pub log: Log,
    /// Whether to end early.
    pub interrupt: Interrupt,
}

impl Default for Config {
    fn default() -> Self {
        let http = HttpConfig::default();
        Self {
            mirrors: Vec::new(),
            registries: Registries::default(),
            certificates: http.certificates,
            insecure: Vec::new(),
            credentials: CredentialSources::default(),
            authorities: http.authorities,
            retry: http.retry,
            chunks: Chunks::default(),
            connect_timeout: http.connect_timeout,
            idle_timeout: http.idle_timeout,
            time_limit: http.time_limit,
            log: http.log,
            interrupt: Interrupt::default(),
        }
    }
}

/// A client of any number of registries. It remembers what it learns about each.
#[derive(Debug)]
pub struct Client {
    pub(crate) http: Http,
    mirrors: Vec<Mirror>,
    registries: Registries,
    pub(crate) chunks: Chunks,
    pub(crate) interrupt: Interrupt,
    pub(crate) insecure: BTreeSet<String>,
    pub(crate) credentials: Arc<CredentialSources>,
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
    warnings: Mutex<Warnings>,
    /// Mirrors that could not be reached. They are not asked again.
    unreachable: Mutex<BTreeSet<String>>,
}

/// Each warning is given once.
#[derive(Debug, Default)]
struct Warnings {
    fresh: Vec<String>,
    given: BTreeSet<String>,
}

/// What a request is for.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) scopes: Scopes,
    /// What it is about, for errors: `docker.io/library/python:3`.
    pub(crate) subject: String,
    pub(crate) patience: Patience,
}

/// What to do when a host is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Try again, as the configuration says.
    Retry,
    /// Try again a little: there is another host to ask (rule B097).
    Brief,
    /// Give up: whoever asked begins anew himself.
    Once,
}

impl Client {
    /// Makes a client. Contacts nobody.
    ///
    /// # Errors
    ///
    /// Fails if a certificate in `config` is not one.
    pub fn new(config: Config) -> Result<Self, RegistryError> {
        let listed = config.registries.insecure();
        let insecure: BTreeSet<String> = config.insecure.iter().cloned().chain(listed).collect();
        let http = HttpConfig {
            insecure: insecure.clone(),
            authorities: config.authorities,
            certificates: config.certificates,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            time_limit: config.time_limit,
            retry: config.retry,
            log: config.log,
        };
        Ok(Self {
            http: Http::new(http).map_err(|source| RegistryError::Setup { source })?,
            mirrors: config.mirrors,
            registries: config.registries,
            chunks: config.chunks,
            interrupt: config.interrupt,
            insecure,
            credentials: Arc::new(config.credentials),
            hosts: Mutex::default(),
            warnings: Mutex::default(),
            unreachable: Mutex::default(),
        })
    }

    /// What registries have warned of, and which mirrors failed, since the last call. Each text is
    /// given once.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.warnings).fresh)
    }

    pub(crate) fn warn(&self, text: String) {
        let mut warnings = locked(&self.warnings);
        if warnings.given.insert(text.clone()) {
            warnings.fresh.push(text);
        }
    }

    /// The registry that `reference` names, for what is written to it: mirrors and maps are for pulls
    /// (rule B113).
    ///
    /// # Errors
    ///
    /// Fails if the configuration blocks it (rule B114).
    pub(crate) fn registry(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        if self.registries.blocks(reference) {
            let (host, subject) = (reference.registry().to_owned(), reference.to_string());
            return Err(RegistryError::Blocked { host, subject });
        }
        Ok(Endpoint::registry(reference, &self.insecure))
    }

    /// Who can be asked for what `reference` names, in order: mirrors, then the registry (B113).
    ///
    /// # Errors
    ///
    /// Fails if the configuration blocks it (rule B114).
    pub(crate) fn sources(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        let registry = self.registry(reference)?;
        let mirrors = self.mirrors.iter().filter_map(|it| it.endpoint(reference, &self.insecure));
        let listed = self.registries.places(reference).map(|places| {
            let place = |it: &Located| Endpoint::host(&it.host, &it.repository, &self.insecure);
            places.iter().map(place).collect()
        });
        let mut listed: Vec<Endpoint> = listed.unwrap_or_else(|| vec![registry]);
        let last = listed.pop().expect("the place itself is always the last");
        let unreachable = locked(&self.unreachable);
        let alive = mirrors.chain(listed).filter(|it| !unreachable.contains(&it.host));
        Ok(alive.chain([last]).collect())
    }

    /// What mirrors call the repository of `reference`: a blob that was pulled through one of them can
    /// be mounted from there.
    pub fn mirrored(&self, reference: &Reference) -> Vec<Reference> {
        let sources = self.sources(reference).unwrap_or_default();
        let name = |it: &Endpoint| format!("{}/{}", it.name, it.repository).parse().ok();
        let is_other = |it: &Reference| it.registry() != reference.registry();
        sources.iter().filter_map(name).filter(is_other).collect()
    }

    /// Decides whether the next source may be asked after `error` at `endpoint`: yes, or the error.
    pub(crate) fn give_up_on(
        &self,
        endpoint: &Endpoint,
        patience: Patience,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        if patience == Patience::Retry || error.is_fatal() {
            return Err(error);
        }
        match &error {
            // A mirror need not have everything.
            RegistryError::NotFound { .. } => return Ok(()),
            RegistryError::Unreachable { .. } => {
                locked(&self.unreachable).insert(endpoint.host.clone());
            }
            _ => {}
        }
        self.warn(format!("the mirror {} is passed over: {}", endpoint.name, story(&error)));
        Ok(())
    }

    /// What is known of the host of `endpoint`.
    pub(crate) fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        let key = format!("{:?} {}", endpoint.transport, endpoint.host);
        Arc::clone(locked(&self.hosts).entry(key).or_default())
    }

    /// A request for `path` at the host of `endpoint`.
    pub(crate) fn request(
        &self,
        call: &Call<'_>,
        method: Method,
        path: &str,
    ) -> Result<Request, RegistryError> {
        let endpoint = call.endpoint;
        let scheme = match endpoint.transport {
            Transport::Https => "https",
            Transport::Http => "http",
            Transport::HttpsThenHttp => self.host(endpoint).known_scheme().unwrap_or("https"),
        };
        let url = endpoint.url(scheme, path).map(|mut url| {
            if let Some(namespace) = &endpoint.namespace {
                url.query_pairs_mut().append_pair("ns", namespace);
            }
            url
        });
        let url = url.ok_or_else(|| call.bad_url(scheme, path))?;
        Ok(Request::new(method, url))
    }

    /// Sends `request`, with what proof of identity the host is known to want. If it wants another
    /// one, gets that and sends the request again, once (rules B020, B031 to B033).
    pub(crate) async fn call(
        &self,
        call: &Call<'_>,
        mut request: Request,
    ) -> Result<Response, RegistryError> {
        let grant = self.grant(call, &request).await?;
        request.authorization = grant.as_ref().map(|grant| grant.header.clone());
        let response = self.deliver(call, &mut request).await?;
        // What another host wants, where a redirect led to, is not for us to show (rule B016).
        let asks_us = response.status() == StatusCode::UNAUTHORIZED
            && same_origin(response.url(), &request.url);
        if !asks_us {
            return Ok(response);
        }
        let grant = self.renew(call, response, grant.as_ref(), &request.url).await?;
        request.authorization = Some(grant.header.clone());
        let response = self.deliver(call, &mut request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.forget(call).await;
            return Err(call.unauthorized(grant.login, self.answer(response).await));
        }
        Ok(response)
    }

    /// Sends `request` as it is, over plain HTTP if the host is one that may, and must (rule B007).
    pub(crate) async fn deliver(
        &self,
        call: &Call<'_>,
        request: &mut Request,
    ) -> Result<Response, RegistryError> {
        let may_be_plain = call.endpoint.transport == Transport::HttpsThenHttp;
        if may_be_plain && request.url.scheme() == "https" && self.is_plain(call).await? {
            let path = match request.url.query() {
                None => request.url.path().to_owned(),
                Some(query) => format!("{}?{query}", request.url.path()),
            };
            request.url = call.endpoint.url("http", &path).unwrap_or(request.url.clone());
        }
        self.exchange(call, request).await
    }

    /// Whether the host speaks no TLS. What it speaks decides, and not whether it is trusted: a
    /// certificate that is not is no reason to do without.
    async fn is_plain(&self, call: &Call<'_>) -> Result<bool, RegistryError> {
        let url = call.endpoint.url("https", "/v2/");
        let url = url.ok_or_else(|| call.bad_url("https", "/v2/"))?;
        let retry = self.retry(call.patience);
        let find_out = async {
            let mut attempt = 0;
            loop {
                let failed = match self.http.speaks_tls(&url).await {
                    Ok(true) => return Ok("https"),
                    Ok(false) => return Ok("http"),
                    Err(error) => error,
                };
                attempt += 1;
                if !failed.is_transient() || attempt >= retry.connects.min(retry.attempts) {
                    return Err(failed);
                }
                self.http.pause(Place::of(&url), retry.delay(attempt - 1)).await?;
            }
        };
        let scheme = self.host(call.endpoint).scheme(find_out).await;
        Ok(scheme.map_err(|source| call.unreachable(source))? == "http")
    }

    fn retry(&self, patience: Patience) -> Retry {
        let retry = self.http.retry();
        match patience {
            Patience::Retry => retry,
            Patience::Brief => retry.briefly(),
            Patience::Once => retry.once(),
        }
    }

    async fn exchange(
        &self,
        call: &Call<'_>,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let response = self.send(request, call.patience).await;
        let response = response.map_err(|source| call.unreachable(source))?;
        for text in response.headers().get_all(WARNING).iter().filter_map(|it| it.to_str().ok()) {
            if let Some(text) = warning_text(text) {
                self.warn(format!("{} warns: {text}", call.endpoint.name));
            }
        }
        Ok(response)
    }

    /// Sends a request to any host: a registry, its token server, or the storage behind it.
    pub(crate) async fn send(
        &self,
        request: &Request,
        patience: Patience,
    ) -> Result<Response, HttpError> {
        let is_final = |status, _: &HeaderMap, body: &[u8]| {
            status == StatusCode::TOO_MANY_REQUESTS && Answer::parse(body).is_long_limit()
        };
        self.http.send_retrying(request, self.retry(patience), is_final).await
    }

    /// The error that an answer of an unwelcome status is.
    pub(crate) async fn failure(&self, call: &Call<'_>, response: Response) -> RegistryError {
        let status = response.status();
        let login = self.host(call.endpoint).login();
        let answer = self.answer(response).await;
        call.failure(status, login, answer)
    }

    /// What the body of an error says.
    pub(crate) async fn answer(&self, mut response: Response) -> Answer {
        Answer::parse(&response.beginning(MAX_ERROR).await)
    }
}

impl Call<'_> {
    /// What the registry is called.
    fn name(&self) -> String {
        self.endpoint.name.clone()
    }

    pub(crate) fn unreachable(&self, source: HttpError) -> RegistryError {
        RegistryError::unreachable(self.name(), self.subject.clone(), source)
    }

    pub(crate) fn misbehaved(&self, source: Misbehaviour) -> RegistryError {
        RegistryError::Misbehaved { host: self.name(), subject: self.subject.clone(), source }
    }

    fn bad_url(&self, scheme: &str, path: &str) -> RegistryError {
        self.misbehaved(Misbehaviour::BadUrl(format!("{scheme}://{}{path}", self.endpoint.host)))
    }

    pub(crate) fn unauthorized(&self, login: Login, answer: Answer) -> RegistryError {
        let subject = self.subject.clone();
        RegistryError::Unauthorized { host: self.name(), subject, login, answer }
    }

    /// The error that a status means.
    pub(crate) fn failure(
        &self,
        status: StatusCode,
        login: Login,
        answer: Answer,
    ) -> RegistryError {
        let (host, subject) = (self.name(), self.subject.clone());
        match status.as_u16() {
            401 => RegistryError::Unauthorized { host, subject, login, answer },
            403 => RegistryError::Denied { host, subject, answer },
            404 => RegistryError::NotFound { host, subject, answer },
            429 => RegistryError::RateLimited { host, login, answer },
            408 | 499 | 500..=599 => RegistryError::Unavailable { host, subject, status, answer },
            _ => RegistryError::Rejected { host, subject, status, answer },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
