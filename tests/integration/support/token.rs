//! A token server: the place that a registry with `auth: token` sends its clients to.
//!
//! It signs JWTs that Debian's docker-registry 2.8 verifies: ES256, with the certificate in the
//! `x5c` header and in the registry's `rootcertbundle`. Tokens are granted by user and scope, and
//! anonymous clients get what [`TokenServer::start`] was told. The demonstration starts the same
//! server by itself (`examples/token-server.rs`).
//!
//! Spec: <https://distribution.github.io/distribution/spec/auth/token/>

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::SigningKey;
use serde_json::Value;
use serde_json::json;

use crate::support::serve::Service;

/// The name of the registry as its configuration and the tokens' audience give it.
pub(crate) const SERVICE: &str = "coracle-test-registry";
/// Who signs, as the registry's configuration and the tokens give it.
pub(crate) const ISSUER: &str = "coracle-test-issuer";

/// Somebody who may have tokens.
#[derive(Debug, Clone)]
pub(crate) struct User {
    /// The name.
    pub(crate) name: String,
    /// The password.
    pub(crate) password: String,
    /// What may be done, such as `pull` or `push`.
    pub(crate) actions: Vec<String>,
    /// Repositories that begin with this.
    pub(crate) prefix: String,
}

impl User {
    /// Somebody who may do `actions` (with commas between them) with what begins with `prefix`.
    pub(crate) fn new(name: &str, password: &str, actions: &str, prefix: &str) -> Self {
        Self {
            name: name.to_owned(),
            password: password.to_owned(),
            actions: actions.split(',').map(str::to_owned).collect(),
            prefix: prefix.to_owned(),
        }
    }
}

/// A running token server.
#[derive(Debug)]
pub(crate) struct TokenServer {
    service: Service,
    authority: Arc<Authority>,
}

/// What is needed to judge a request and to sign the answer.
#[derive(Debug)]
struct Authority {
    key: rcgen::KeyPair,
    certificate: rcgen::Certificate,
    users: Vec<User>,
    /// How many seconds a token is good for.
    life: u64,
    asked: Mutex<Vec<String>>,
}

/// By how many seconds the registry forgives clocks that differ.
const LEEWAY: u64 = 60;

impl TokenServer {
    /// Starts one on `address` (port 0 takes a free one). A user with an empty name stands for
    /// anonymous clients.
    pub(crate) fn start(address: &str, users: Vec<User>) -> std::io::Result<Self> {
        Self::start_with_life(address, users, 300)
    }

    /// The same, with tokens that the registry takes for `life` seconds and not longer.
    pub(crate) fn start_with_life(
        address: &str,
        users: Vec<User>,
        life: u64,
    ) -> std::io::Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .expect("a key can be generated");
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("no names is valid");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, ISSUER);
        let certificate = parameters.self_signed(&key).expect("the key can sign");
        let asked = Mutex::default();
        let authority = Arc::new(Authority { key, certificate, users, life, asked });
        let router = Router::new().route("/token", get(answer)).with_state(Arc::clone(&authority));
        Ok(Self { service: Service::start(address, router)?, authority })
    }

    /// Where clients get their tokens, for the registry's configuration.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.service.address())
    }

    /// Writes the certificate, for the registry's `rootcertbundle`.
    pub(crate) fn write_certificate(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.authority.certificate.pem())
    }

    /// The scopes that were asked for, in order, one string a request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.authority.asked.lock().expect("no panic while locked").clone()
    }

    /// Lets the tests' own client in.
    pub(crate) fn granter(&self) -> Arc<Granter> {
        Arc::new(Granter(Arc::clone(&self.authority)))
    }
}

/// Makes tokens for the tests' own client, without asking.
#[derive(Debug)]
pub(crate) struct Granter(Arc<Authority>);

impl Granter {
    /// A token that may do everything with `repository`.
    pub(crate) fn grant(&self, repository: &str) -> String {
        let actions = ["pull", "push", "delete"];
        let access = json!([{"type": "repository", "name": repository, "actions": actions}]);
        self.0.sign("support", &access)
    }
}

impl Authority {
    /// Who asks: `None` if the password is wrong.
    fn authenticate(&self, headers: &HeaderMap) -> Option<&User> {
        let (name, password) = match headers.get("authorization") {
            None => (String::new(), String::new()),
            Some(value) => {
                let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
                let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
                let (name, password) = text.split_once(':')?;
                (name.to_owned(), password.to_owned())
            }
        };
        self.users.iter().find(|user| user.name == name && user.password == password)
    }

    /// The part of a scope, `repository:NAME:ACTION,ACTION`, that the user may have.
    fn access(user: &User, scope: &str) -> Option<Value> {
        let (kind, rest) = scope.split_once(':')?;
        let (name, wanted) = rest.rsplit_once(':')?;
        if !name.starts_with(&user.prefix) {
            return None;
        }
        let granted = |action: &&str| user.actions.iter().any(|allowed| allowed == action);
        let actions: Vec<&str> = wanted.split(',').filter(granted).collect();
        Some(json!({"type": kind, "name": name, "actions": actions}))
    }

    /// A signed token. One with a short life has run out already, and lives by the leeway alone.
    fn sign(&self, subject: &str, access: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let certificate = STANDARD.encode(self.certificate.der());
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [certificate]});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "access": access, "nbf": now - 30,
            "iat": now, "exp": now + self.life - LEEWAY, "jti": format!("{subject}-{now}"),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let der = self.key.sign(signed.as_bytes()).expect("the key can sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed_width(&der)))
    }
}

async fn answer(
    State(authority): State<Arc<Authority>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let scopes: Vec<&str> = query
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' '))
        .filter(|scope| !scope.is_empty())
        .collect();
    authority.asked.lock().expect("no panic while locked").push(scopes.join(" "));
    let Some(user) = authority.authenticate(&headers) else {
        let error = json!({"code": "UNAUTHORIZED", "message": "wrong user name or password"});
        let body = json!({"errors": [error]});
        return (StatusCode::UNAUTHORIZED, json_text(&body)).into_response();
    };
    let access: Vec<Value> =
        scopes.iter().filter_map(|scope| Authority::access(user, scope)).collect();
    let token = authority.sign(&user.name, &Value::Array(access));
    let life = authority.life;
    json_text(&json!({"token": token, "access_token": token, "expires_in": life})).into_response()
}

/// A JSON body with its header.
fn json_text(value: &Value) -> impl IntoResponse {
    ([("content-type", "application/json")], value.to_string())
}

/// An ES256 signature as JWT wants it: two numbers of 32 bytes each, from a DER `SEQUENCE` of two `INTEGER`s.
///
/// RFC 7518, section 3.4.
fn fixed_width(der: &[u8]) -> [u8; 64] {
    let mut fixed = [0; 64];
    let mut rest = &der[2..];
    for half in fixed.chunks_exact_mut(32) {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = &rest[2 + length..];
    }
    fixed
}
