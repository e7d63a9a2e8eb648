//! Proof of identity: turns a registry's challenge and a user's credentials into the value of
//! `Authorization`.
//!
//! Rules B019 to B042. Credentials are looked up for the host that is contacted (B109), anew each
//! time a token is fetched, since a helper's may have a short life of their own (B110).

use std::{sync::Arc, time::Instant};

use base64::Engine as _;
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};

use crate::http::{Body, Follow, Place, Refused, Request, Response, check_private};
use crate::registry::answer::Answer;
use crate::registry::challenge::{BearerChallenge, Challenge};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::docker_config::canonical;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Login, Misbehaviour, RegistryError};
use crate::registry::host::Grant;
use crate::registry::scope::Scopes;
use crate::registry::secret::{Credential, Secret};
use crate::registry::token::{self, Token};

/// The most that is read of a token server's answer (rule B028).
const MAX_TOKEN: u64 = 1024 * 1024;

/// What is longer is not sent with a token that may be refused (rule B031).
const LARGE_BODY: u64 = 1024 * 1024;

impl Client {
    /// Checks `credential` with the registry called `host`, for a login.
    ///
    /// A registry that asks for nothing takes any credentials.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Unauthorized`] if the registry or its token server refuses them.
    pub async fn check_login(
        &self,
        host: &str,
        credential: &Credential,
    ) -> Result<(), RegistryError> {
        let endpoint = Endpoint::host(canonical(host), "", &self.insecure);
        let subject = endpoint.name.clone();
        let (scopes, patience) = (Scopes::none(), Patience::Retry);
        let call = Call { endpoint: &endpoint, scopes, subject, patience };
        let mut request = self.request(&call, Method::GET, "/v2/")?;
        let response = self.deliver(&call, &mut request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = challenge_of(&response);
            let challenge = challenge.ok_or_else(|| call.misbehaved(Misbehaviour::NoChallenge))?;
            let grant = self.answer_challenge(&call, &challenge, Some(credential), &request.url);
            request.authorization = Some(grant.await?.header);
            let response = self.deliver(&call, &mut request).await?;
            return match response.status() {
                status if status.is_success() => Ok(()),
                StatusCode::UNAUTHORIZED => {
                    Err(call.unauthorized(Login::Known, self.answer(response).await))
                }
                _ => Err(self.failure(&call, response).await),
            };
        }
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.failure(&call, response).await)
    }

    /// What the host has to be shown with `request`, as far as it is known: nothing before it has
    /// asked.
    pub(crate) async fn grant(
        &self,
        call: &Call<'_>,
        request: &Request,
    ) -> Result<Option<Grant>, RegistryError> {
        let host = self.host(call.endpoint);
        let Some(challenge) = host.challenge() else { return Ok(None) };
        let slot = host.slot(&slot_key(call));
        let mut slot = slot.lock().await;
        let is_large = request.body.size() > LARGE_BODY;
        if let Some(grant) = slot.as_ref().filter(|grant| grant.is_fresh(is_large)) {
            return Ok(Some(grant.clone()));
        }
        let grant = self.obtain(call, &challenge, &request.url).await?;
        *slot = Some(grant.clone());
        Ok(Some(grant))
    }

    /// What to show after `response` refused `refused`: something else, or an error.
    pub(crate) async fn renew(
        &self,
        call: &Call<'_>,
        response: Response,
        refused: Option<&Grant>,
        registry: &Url,
    ) -> Result<Grant, RegistryError> {
        let host = self.host(call.endpoint);
        let challenge = match challenge_of(&response) {
            Some(challenge) => Some(challenge),
            None => match host.challenge() {
                Some(challenge) => Some(challenge),
                // GCR has sent bare 401s, but has told what it wants when asked (rule B020).
                None => self.ping(call).await?,
            },
        };
        let challenge = challenge.ok_or_else(|| call.misbehaved(Misbehaviour::NoChallenge))?;
        host.set_challenge(&challenge);
        let slot = host.slot(&slot_key(call));
        let mut slot = slot.lock().await;
        let is_other = |grant: &&Grant| refused.is_none_or(|it| it.header != grant.header);
        // Another task may have met the same refusal, and got something better already.
        if let Some(grant) = slot.as_ref().filter(|it| it.is_fresh(false)).filter(is_other) {
            return Ok(grant.clone());
        }
        let grant = self.obtain(call, &challenge, registry).await?;
        if let Some(refused) = refused.filter(|refused| refused.header == grant.header) {
            *slot = None;
            return Err(call.unauthorized(refused.login, self.answer(response).await));
        }
        *slot = Some(grant.clone());
        Ok(grant)
    }

    /// Drops what was shown in vain, so that the next request does not show it again (rule B030).
    pub(crate) async fn forget(&self, call: &Call<'_>) {
        let slot = self.host(call.endpoint).slot(&slot_key(call));
        *slot.lock().await = None;
    }

    /// Asks the host what it wants to see.
    async fn ping(&self, call: &Call<'_>) -> Result<Option<Challenge>, RegistryError> {
        let mut request = self.request(call, Method::GET, "/v2/")?;
        let response = self.deliver(call, &mut request).await?;
        Ok(challenge_of(&response))
    }

    /// Looks up the credentials and answers `challenge` with them.
    async fn obtain(
        &self,
        call: &Call<'_>,
        challenge: &Challenge,
        registry: &Url,
    ) -> Result<Grant, RegistryError> {
        let credential = self.credential(call.endpoint).await?;
        let grant = self.answer_challenge(call, challenge, credential.as_ref(), registry).await?;
        self.host(call.endpoint).set_login(grant.login);
        Ok(grant)
    }

    /// The user's credentials for the host and repository that are contacted.
    pub(crate) async fn credential(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<Credential>, RegistryError> {
        let sources = Arc::clone(&self.credentials);
        let (host, repository) = (endpoint.name.clone(), endpoint.repository.clone());
        let lookup = tokio::task::spawn_blocking(move || sources.find(&host, &repository));
        let found = lookup.await.expect("looking up credentials does not panic");
        let failed = |source| RegistryError::Credentials { host: endpoint.name.clone(), source };
        let found = found.map_err(failed)?;
        self.http.log().tell(|| match &found {
            Some(found) => format!("credentials for {} are in {}", endpoint.name, found.place),
            None => format!("no credentials for {}", endpoint.name),
        });
        Ok(found.map(|found| found.credential))
    }

    async fn answer_challenge(
        &self,
        call: &Call<'_>,
        challenge: &Challenge,
        credential: Option<&Credential>,
        registry: &Url,
    ) -> Result<Grant, RegistryError> {
        let login = if credential.is_some() { Login::Known } else { Login::Anonymous };
        let forever = |header| Ok(Grant { header, until: None, declared: None, login });
        match (challenge, credential) {
            (_, Some(Credential::RegistryToken(token))) => forever(bearer(call, token)?),
            (Challenge::Basic, Some(credential)) => forever(basic(credential)),
            (Challenge::Basic, None) => {
                let text = Some("no basic auth credentials".to_owned());
                Err(call.unauthorized(login, Answer { errors: Vec::new(), text }))
            }
            (Challenge::Bearer(challenge), credential) => {
                // Taken before the request: the token's life began while it was under way.
                let asked = Instant::now();
                let token = self.fetch_token(call, challenge, credential, registry).await?;
                self.http.log().tell(|| {
                    let scopes = call.scopes.iter().collect::<Vec<_>>().join(" ");
                    format!("token for `{scopes}`, good for {} s", token.declared.as_secs())
                });
                let header = bearer(call, &token.value)?;
                let (until, declared) = (asked + token.lifetime, asked + token.declared);
                Ok(Grant { header, until: Some(until), declared: Some(declared), login })
            }
        }
    }

    async fn fetch_token(
        &self,
        call: &Call<'_>,
        challenge: &BearerChallenge,
        credential: Option<&Credential>,
        registry: &Url,
    ) -> Result<Token, RegistryError> {
        let realm = realm(challenge, registry).map_err(|source| call.misbehaved(source))?;
        let scopes = call.scopes.and_demanded(challenge.scope.as_deref());
        let service = challenge.service.as_deref();
        if let Some(Credential::IdentityToken { token, .. }) = credential {
            let form = token::refresh_form(&realm, service, &scopes, token);
            let request = Request::new(Method::POST, realm.clone())
                // The body is a secret, so it goes where we were told and nowhere else.
                .follow(Follow::Never)
                .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
                .body(Body::Bytes(form.into()));
            let response = self.ask_token_server(call, &request).await?;
            // What token servers without this POST answer (rule B027).
            if !matches!(response.status().as_u16(), 400 | 401 | 403 | 404 | 405) {
                return self.read_token(call, credential, response).await;
            }
        }
        let account = match credential {
            Some(Credential::Password { username, .. }) => Some(username.as_str()),
            _ => None,
        };
        let url = token::get_url(&realm, service, &scopes, account);
        let mut request = Request::new(Method::GET, url);
        request.authorization = credential.map(basic);
        let response = self.ask_token_server(call, &request).await?;
        self.read_token(call, credential, response).await
    }

    async fn ask_token_server(
        &self,
        call: &Call<'_>,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let sent = self.send(request, call.patience).await;
        sent.map_err(|source| call.unreachable(source))
    }

    async fn read_token(
        &self,
        call: &Call<'_>,
        credential: Option<&Credential>,
        response: Response,
    ) -> Result<Token, RegistryError> {
        let login = if credential.is_some() { Login::Known } else { Login::Anonymous };
        let status = response.status();
        if !status.is_success() {
            let answer = self.answer(response).await;
            // Token servers say "forbidden" and mean the same.
            let status =
                if status == StatusCode::FORBIDDEN { StatusCode::UNAUTHORIZED } else { status };
            return Err(call.failure(status, login, answer));
        }
        let body = response.bytes(MAX_TOKEN).await.map_err(|source| call.unreachable(source))?;
        token::parse(&body).ok_or_else(|| call.misbehaved(Misbehaviour::NoToken))
    }
}

/// Tokens are kept for each set of scopes. Requests without any still differ by repository, since
/// credentials may (rule B102).
fn slot_key(call: &Call<'_>) -> String {
    format!("{} {}", call.endpoint.repository, call.scopes.key())
}

fn challenge_of(response: &Response) -> Option<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    let texts: Vec<_> =
        headers.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    Challenge::choose(texts.iter().map(AsRef::as_ref))
}

/// The token server's URL, if it is one that may be told secrets (rules B015, B041).
fn realm(challenge: &BearerChallenge, registry: &Url) -> Result<Url, Misbehaviour> {
    let text = challenge.realm.as_deref().ok_or(Misbehaviour::NoRealm)?;
    let bad = |source| Misbehaviour::BadRealm { realm: text.to_owned(), source };
    let url: Url = text.parse().map_err(|_| bad(Refused::NotAUrl(text.to_owned())))?;
    match (registry.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err(bad(Refused::Downgrade(Place::of(&url)))),
        _ => return Err(bad(Refused::Scheme(Place::of(&url)))),
    }
    check_private(registry, &url).map_err(bad)?;
    Ok(url)
}

fn basic(credential: &Credential) -> HeaderValue {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::IdentityToken { username, token } => (username.as_str(), token),
        Credential::RegistryToken(token) => ("", token),
    };
    let pair = format!("{username}:{}", secret.reveal());
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut header = HeaderValue::try_from(text).expect("base64 is plain ASCII");
    header.set_sensitive(true);
    header
}

fn bearer(call: &Call<'_>, token: &Secret) -> Result<HeaderValue, RegistryError> {
    let header = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
    let mut header = header.map_err(|_| call.misbehaved(Misbehaviour::BadToken))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b015_b023_b041_only_a_plausible_realm_is_asked() {
        let check = |realm_text: Option<&str>, registry: &str, ok: bool| {
            let challenge = BearerChallenge {
                realm: realm_text.map(str::to_owned),
                ..BearerChallenge::default()
            };
            let registry = registry.parse().expect("a URL");
            assert_eq!(realm(&challenge, &registry).is_ok(), ok, "{realm_text:?}");
        };
        check(Some("https://auth.docker.io/token"), "https://registry-1.docker.io/v2/", true);
        check(Some("https://t.example/x?k=v"), "https://r.example/", true);
        check(Some("http://t.example/x"), "https://r.example/", false);
        check(Some("http://127.0.0.1:1/x"), "http://127.0.0.1:2/", true);
        check(Some("https://10.0.0.1/x"), "https://r.example/", false);
        check(Some("https://169.254.169.254/x"), "https://r.example/", false);
        check(Some("file:///etc/passwd"), "https://r.example/", false);
        check(Some("https://nexus:8443:8443/v2/token"), "https://r.example/", false);
        check(Some("/token"), "https://r.example/", false);
        check(None, "https://r.example/", false);
    }

    #[test]
    fn b041_a_bad_realm_is_shown_as_it_was_sent() {
        let realm_text = "https://nexus:8443:8443/v2/token".to_owned();
        let challenge = BearerChallenge { realm: Some(realm_text), ..BearerChallenge::default() };
        let registry = "https://nexus:8443/".parse().expect("a URL");
        let error = realm(&challenge, &registry).expect_err("bad");
        assert!(error.to_string().contains("https://nexus:8443:8443/v2/token"), "{error}");
    }

    #[test]
    fn b038_basic_is_user_and_password_and_is_not_shown() {
        let header = basic(&Credential::basic("Aladdin", "open sesame"));
        assert_eq!(header.to_str().expect("ASCII"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{header:?}").contains("QWxh"));
    }
}
