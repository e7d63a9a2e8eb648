//! A plain registry client for the tests themselves: puts base images in, takes results out.
//!
//! It shares nothing with coracle's own client, so that one can be a witness of the other.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle::oci::Digest;

use crate::support::serve::wait;
use crate::support::token::Granter;

/// What a manifest may be, for the `Accept` header.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// How the client shows that it may do everything.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Nobody asks.
    Open,
    /// This `Authorization` header.
    Header(String),
    /// A token for the repository at hand.
    Tokens(Arc<Granter>),
}

impl Access {
    /// Basic authentication.
    pub(crate) fn basic(name: &str, password: &str) -> Self {
        Self::Header(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

/// A client of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: String,
    access: Access,
}

impl Client {
    /// A client of the registry at `address`.
    pub(crate) fn new(address: &str, access: Access) -> Self {
        Self { address: address.to_owned(), access }
    }

    /// Puts a blob there, unless it is there already.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        let there = self.call(repository, Method::HEAD, &format!("blobs/{digest}"), None);
        if there.status != StatusCode::OK {
            let started = self.call(repository, Method::POST, "blobs/uploads/", None);
            let location = started.headers["location"].to_str().expect("a URL is ASCII").to_owned();
            let url = format!("{location}&digest={digest}");
            let body = Some(("application/octet-stream", bytes.to_vec()));
            let reply = self.send(repository, Method::PUT, &url, body);
            assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        }
        digest
    }

    /// Puts a manifest there; gives its digest.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        let body = Some((media_type, bytes.to_vec()));
        let reply = self.call(repository, Method::PUT, &format!("manifests/{tag}"), body);
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        Digest::of(bytes).to_string()
    }

    /// The exact bytes of a manifest, by tag or digest.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let reply = self.call(repository, Method::GET, &format!("manifests/{reference}"), None);
        (reply.status == StatusCode::OK).then(|| reply.body.to_vec())
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let reply = self.call(repository, Method::GET, &format!("blobs/{digest}"), None);
        (reply.status == StatusCode::OK).then(|| reply.body.to_vec())
    }

    fn call(
        &self,
        repository: &str,
        method: Method,
        rest: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Reply {
        let url = format!("http://{}/v2/{repository}/{rest}", self.address);
        self.send(repository, method, &url, body)
    }

    fn send(
        &self,
        repository: &str,
        method: Method,
        url: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Reply {
        let mut request = http().request(method, url).header("accept", MANIFESTS);
        match &self.access {
            Access::Open => {}
            Access::Header(value) => request = request.header("authorization", value),
            Access::Tokens(granter) => {
                let token = granter.grant(repository);
                request = request.header("authorization", format!("Bearer {token}"));
            }
        }
        if let Some((media_type, bytes)) = body {
            request = request.header("content-type", media_type).body(bytes);
        }
        wait(async {
            let response = request.send().await.expect("the registry answers");
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.expect("the registry's answer is whole");
            Reply { status, headers, body }
        })
    }
}

/// A client without proxies and without redirects, so that what is seen is what was sent.
pub(crate) fn http() -> reqwest::Client {
    // A second installation is refused, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without options can be made")
}

/// Whether a registry at `address` answers at all.
pub(crate) fn answers(address: &str) -> bool {
    wait(http().get(format!("http://{address}/v2/")).send()).is_ok()
}
