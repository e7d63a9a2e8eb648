//! Manifests: asks what a name means, reads a manifest by its digest, puts one under a name.
//!
//! Rules B043 to B049, B061, B082, B087, B089. Manifests are small, so they are held in memory.

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};

use crate::http::{Body, HttpError, Request, Response, is_transient};
use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Misbehaviour, RegistryError};
use crate::registry::media::{self, MAX_MANIFEST, TypeError, manifest_type};
use crate::registry::scope::Scopes;
use crate::registry::subject;

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes, verified, where finding out took reading them.
    pub bytes: Option<Vec<u8>>,
}

/// What became of a manifest that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutManifest {
    /// It was sent.
    Written,
    /// The name meant it already (rule B089).
    Existing,
}

impl Client {
    /// Asks what `reference` means: its mirrors in order, then its registry.
    ///
    /// A tag costs a `HEAD`, where the registry answers one fully. A digest means itself, so the
    /// manifest is read.
    ///
    /// # Errors
    ///
    /// Fails if nobody has it, or if what comes is not what was asked for.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        let sources = self.sources(reference)?;
        let count = sources.len();
        for (index, endpoint) in sources.iter().enumerate() {
            let call = pull_call(endpoint, reference.to_string(), index + 1 == count);
            let resolved = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => self.get(&call, &digest.to_string(), Some(digest)).await,
                (None, tag) => self.resolve_tag(&call, tag.unwrap_or("latest")).await,
            };
            match resolved {
                Ok(resolved) => return Ok(resolved),
                Err(error) => self.give_up_on(endpoint, call.patience, error)?,
            }
        }
        unreachable!("the last source is the registry itself, whose error is returned")
    }

    /// Reads the manifest or index that `descriptor` describes, from the repository of `reference`.
    ///
    /// # Errors
    ///
    /// Fails if nobody has it, or if what comes is not what was asked for.
    pub async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let digest = descriptor.digest;
        let sources = self.sources(reference)?;
        let count = sources.len();
        for (index, endpoint) in sources.iter().enumerate() {
            let subject = reference.with_digest(digest).to_string();
            let call = pull_call(endpoint, subject, index + 1 == count);
            match self.get(&call, &digest.to_string(), Some(digest)).await {
                Ok(Resolved { bytes: Some(bytes), .. }) => return Ok(bytes),
                Ok(Resolved { bytes: None, .. }) => unreachable!("`get` reads the bytes"),
                Err(error) => self.give_up_on(endpoint, call.patience, error)?,
            }
        }
        unreachable!("the last source is the registry itself, whose error is returned")
    }

    /// Puts a manifest into the repository of `target` under `name`, a tag or its digest; does
    /// nothing if the name means it already.
    ///
    /// # Errors
    ///
    /// Fails if the registry refuses it, or calls it by another digest than ours.
    pub async fn put_manifest(
        &self,
        target: &Reference,
        name: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<PutManifest, RegistryError> {
        let endpoint = self.registry(target)?;
        let separator = if name.contains(':') { '@' } else { ':' };
        let call = Call {
            endpoint: &endpoint,
            scopes: Scopes::push(&endpoint.repository),
            subject: format!("{}/{}{separator}{name}", endpoint.name, endpoint.repository),
            patience: Patience::Retry,
        };
        let digest = Digest::of(bytes);
        let path = endpoint.path(&format!("manifests/{name}"));
        let head = accepting(self.request(&call, Method::HEAD, &path)?);
        let there = self.call(&call, head).await?;
        if there.status().is_success() && content_digest(&there) == Some(digest) {
            return Ok(PutManifest::Existing);
        }
        let content_type = HeaderValue::try_from(media_type.to_string())
            .map_err(|_| call.misbehaved(Misbehaviour::BadUrl(media_type.to_string())))?;
        let request = self
            .request(&call, Method::PUT, &path)?
            .header(CONTENT_TYPE, content_type)
            .body(Body::Bytes(bytes.to_vec().into()));
        let response = self.call(&call, request).await?;
        if !matches!(response.status().as_u16(), 200..=202 | 204) {
            return Err(self.failure(&call, response).await);
        }
        match content_digest(&response) {
            Some(actual) if actual != digest => {
                let other = Misbehaviour::OtherDigest { expected: digest, actual };
                Err(call.misbehaved(other))
            }
            _ => {
                // A registry that keeps the list itself says so with this header (rule B088).
                let kept = response.header("oci-subject").is_some();
                let referrer = subject::entry(media_type, bytes).filter(|_| !kept);
                if let Some((subject, entry)) = referrer {
                    self.note_referrer(target, &subject, entry).await?;
                }
                Ok(PutManifest::Written)
            }
        }
    }

    async fn resolve_tag(&self, call: &Call<'_>, tag: &str) -> Result<Resolved, RegistryError> {
        let path = call.endpoint.path(&format!("manifests/{tag}"));
        let request = accepting(self.request(call, Method::HEAD, &path)?);
        let response = self.call(call, request).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.failure(call, response).await);
        }
        if let Some(descriptor) = described(&response).filter(|_| response.status().is_success()) {
            return Ok(Resolved { descriptor, bytes: None });
        }
        // No HEAD here, or not all in it, or an error whose text only a GET shows (rules B046, B061).
        // Trouble has been waited out already.
        let status = response.status();
        let patience = if is_transient(status) { Patience::Once } else { call.patience };
        let scopes = call.scopes.clone();
        let call =
            Call { endpoint: call.endpoint, scopes, subject: call.subject.clone(), patience };
        self.get(&call, tag, content_digest(&response).filter(|_| status.is_success())).await
    }

    /// Reads a manifest by its name, and checks that it is `expected`.
    pub(crate) async fn get(
        &self,
        call: &Call<'_>,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Resolved, RegistryError> {
        let path = call.endpoint.path(&format!("manifests/{name}"));
        let request = accepting(self.request(call, Method::GET, &path)?);
        let response = self.call(call, request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.failure(call, response).await);
        }
        let content_type = response.header("content-type").map(str::to_owned);
        let told = content_digest(&response);
        let size = response.header(CONTENT_LENGTH.as_str()).and_then(|it| it.parse().ok());
        if let Some(size) = size.filter(|size| *size > MAX_MANIFEST) {
            return Err(too_large(call, size));
        }
        let bytes = response.bytes(MAX_MANIFEST).await.map_err(|error| match error {
            HttpError::TooLarge { limit, .. } => too_large(call, limit + 1),
            other => call.unreachable(other),
        })?;
        let actual = Digest::of(&bytes);
        if let Some(expected) = expected.or(told).filter(|expected| *expected != actual) {
            let (host, subject) = (call.endpoint.name.clone(), call.subject.clone());
            return Err(RegistryError::DigestMismatch { host, subject, expected, actual });
        }
        let media_type = manifest_type(content_type.as_deref(), &bytes);
        let media_type = media_type.map_err(|error| type_error(call, error))?;
        let descriptor = Descriptor::new(media_type, actual, bytes.len() as u64);
        Ok(Resolved { descriptor, bytes: Some(bytes.into()) })
    }
}

/// A pull from one source of several. Only the last is worth patience (rule B097).
pub(crate) fn pull_call(endpoint: &Endpoint, subject: String, is_last: bool) -> Call<'_> {
    let scopes = Scopes::pull(&endpoint.repository);
    let patience = if is_last { Patience::Retry } else { Patience::Brief };
    Call { endpoint, scopes, subject, patience }
}

fn accepting(request: Request) -> Request {
    request.header(ACCEPT, HeaderValue::from_static(media::ACCEPT))
}

/// `Docker-Content-Digest`, if it is a digest that we can compute.
fn content_digest(response: &Response) -> Option<Digest> {
    response.header("docker-content-digest")?.trim().parse().ok()
}

/// The descriptor, if a `HEAD` has told all of it.
fn described(response: &Response) -> Option<Descriptor> {
    let media_type = MediaType::from(response.header(CONTENT_TYPE.as_str())?);
    let size = response.header(CONTENT_LENGTH.as_str())?.parse().ok()?;
    let plausible = media::is_specific(&media_type) && (1..=MAX_MANIFEST).contains(&size);
    plausible.then_some(Descriptor::new(media_type, content_digest(response)?, size))
}

fn too_large(call: &Call<'_>, size: u64) -> RegistryError {
    let (host, subject) = (call.endpoint.name.clone(), call.subject.clone());
    RegistryError::TooLarge { host, subject, size, limit: MAX_MANIFEST }
}

fn type_error(call: &Call<'_>, error: TypeError) -> RegistryError {
    match error {
        TypeError::Two { header, document } => {
            call.misbehaved(Misbehaviour::TwoTypes { header, document })
        }
        TypeError::Unsupported(media_type) => {
            RegistryError::UnsupportedManifest { subject: call.subject.clone(), media_type }
        }
    }
}
