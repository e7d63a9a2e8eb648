//! Blobs on their way in: verified, bounded, and gone on with where a connection broke.
//!
//! Rules B048, B055, B057 to B059 and B014. The bytes go to whoever asks for the next piece; nothing
//! is kept here.

use std::collections::VecDeque;

use bytes::Bytes;
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_LENGTH, HeaderValue, RANGE},
};

use crate::http::{Follow, HttpError, Place, Refused, Request, Response, check_private, story};
use crate::oci::{Descriptor, Digest, Digester, Reference};
use crate::registry::client::{Call, Client};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Misbehaviour, RegistryError};
use crate::registry::manifest::pull_call;

/// After this much progress a broken connection is a new misfortune, and not the same one again
/// (rule B058).
const PROGRESS: u64 = 1024 * 1024;

/// A blob that is being read.
///
/// The end, `None`, is given only if size and digest are right: read to the end before trusting
/// anything. The digest is the reader's own business after [`behind`](Self::behind).
#[derive(Debug)]
pub struct BlobStream<'a> {
    client: &'a Client,
    descriptor: Descriptor,
    subject: String,
    sources: VecDeque<Source>,
    /// The registry, if nobody may be asked.
    blocked: Option<String>,
    connection: Option<Response>,
    /// `None` if the reader computes the digest.
    digester: Option<Digester>,
    /// How many bytes have been given out.
    offset: u64,
    /// How many bytes of the answer were given out before it began.
    skip: u64,
    /// Connections that broke in a row, without much coming through between.
    broken: u32,
    broken_at: u64,
    verified: bool,
}

/// Where a blob can be had.
#[derive(Debug, Clone)]
enum Source {
    Registry(Endpoint),
    /// One of a foreign layer's URLs, which is asked without credentials (rule B055).
    Elsewhere(Url),
}

impl Client {
    /// Begins to read a blob of the repository of `reference`. Nothing is sent before the first
    /// piece is asked for.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> BlobStream<'_> {
        let urls = descriptor.urls.iter().filter(|_| descriptor.media_type.is_foreign());
        let elsewhere = urls.filter_map(|url| url.parse().ok()).map(Source::Elsewhere);
        // Nobody may be asked where the configuration says so, which `next` will tell.
        let registries = self.sources(reference);
        let blocked = registries.is_err().then(|| reference.registry().to_owned());
        let registries = registries.unwrap_or_default().into_iter().map(Source::Registry);
        BlobStream {
            client: self,
            descriptor: descriptor.clone(),
            subject: reference.with_digest(descriptor.digest).to_string(),
            sources: elsewhere.chain(registries).collect(),
            blocked,
            connection: None,
            digester: Some(Digester::new()),
            offset: 0,
            skip: 0,
            broken: 0,
            broken_at: 0,
            verified: false,
        }
    }

    /// Reads a small blob, such as a config, whole.
    ///
    /// # Errors
    ///
    /// Fails if it is larger than `limit`, nobody has it, or what comes is something else.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size > limit {
            let host = reference.registry().to_owned();
            let subject = reference.with_digest(descriptor.digest).to_string();
            return Err(RegistryError::TooLarge { host, subject, size: descriptor.size, limit });
        }
        let mut stream = self.blob(reference, descriptor);
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

impl BlobStream<'_> {
    /// Goes on behind the first `offset` bytes, which the reader has already. He computes the digest
    /// of all of them himself, and says so of one that is wrong by [`wrong_digest`](Self::wrong_digest):
    /// to do it here too would cost as much as all else.
    #[must_use]
    pub fn behind(mut self, offset: u64) -> Self {
        (self.offset, self.broken_at, self.digester) = (offset, offset, None);
        self
    }

    /// The error that the digest `actual` means.
    pub fn wrong_digest(&self, actual: Digest) -> RegistryError {
        let (host, subject) = (self.host(), self.subject.clone());
        let expected = self.descriptor.digest;
        RegistryError::DigestMismatch { host, subject, expected, actual }
    }

    /// The next piece; `None` at the end, once size and digest have proved right.
    ///
    /// # Errors
    ///
    /// Fails if nobody has the blob, what comes is something else, or connections break again and
    /// again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if let Some(host) = self.blocked.clone() {
            return Err(RegistryError::Blocked { host, subject: self.subject.clone() });
        }
        if self.client.interrupt.is_wanted() {
            return Err(RegistryError::Interrupted { subject: self.subject.clone() });
        }
        while !self.verified {
            if self.connection.is_none() {
                if self.offset == self.descriptor.size {
                    // All has come, or there is nothing to come (rule B059).
                    self.verify()?;
                    break;
                }
                self.connection = Some(self.open().await?);
            }
            let Some(connection) = self.connection.as_mut() else { continue };
            match connection.chunk().await {
                Ok(Some(piece)) => {
                    if let Some(piece) = self.accept(piece)? {
                        return Ok(Some(piece));
                    }
                }
                // Without a Content-Length, a connection that breaks may look like an end.
                Ok(None) if self.offset < self.descriptor.size => self.rest(None).await?,
                Err(error) if self.offset < self.descriptor.size => self.rest(Some(error)).await?,
                Ok(None) | Err(_) => self.connection = None,
            }
        }
        Ok(None)
    }

    /// Takes a piece of the answer; `None` if all of it was given out before.
    fn accept(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let known = self.skip.min(piece.len() as u64);
        self.skip -= known;
        let piece = piece.split_off(usize::try_from(known).unwrap_or(piece.len()));
        if piece.is_empty() {
            return Ok(None);
        }
        let offset = self.offset + piece.len() as u64;
        if offset > self.descriptor.size {
            return Err(self.wrong_size(offset));
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&piece);
        }
        self.offset = offset;
        Ok(Some(piece))
    }

    fn verify(&mut self) -> Result<(), RegistryError> {
        let actual = self.digester.take().map(Digester::finish);
        if let Some(actual) = actual.filter(|actual| *actual != self.descriptor.digest) {
            return Err(self.wrong_digest(actual));
        }
        self.verified = true;
        Ok(())
    }

    /// Waits after a connection broke, unless that happens too often.
    async fn rest(&mut self, error: Option<HttpError>) -> Result<(), RegistryError> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        if self.offset - self.broken_at >= PROGRESS {
            self.broken = 0;
        }
        (self.broken, self.broken_at) = (self.broken + 1, self.offset);
        let retry = self.client.http.retry();
        let hopeless = error.as_ref().is_some_and(|error| !error.is_transient());
        if hopeless || !retry.allows(self.broken) {
            if self.sources.len() > 1 {
                self.sources.pop_front();
                self.broken = 0;
                return Ok(());
            }
            let host = self.host();
            return Err(match error {
                Some(source) => RegistryError::unreachable(host, self.subject.clone(), source),
                None => self.wrong_size(self.offset),
            });
        }
        self.client.http.log().tell(|| {
            let cause = error.as_ref().map_or("it ended too early".to_owned(), |it| story(it));
            format!("{} stopped after {} bytes: {cause}", self.subject, self.offset)
        });
        let place = Place::of(connection.url());
        let waited = self.client.http.pause(place, retry.delay(self.broken - 1)).await;
        waited
            .map_err(|source| RegistryError::unreachable(self.host(), self.subject.clone(), source))
    }

    /// Asks the first source that answers for what is still missing. After a redirect to signed
    /// storage this begins at the registry again, since the signature may have expired (B014).
    async fn open(&mut self) -> Result<Response, RegistryError> {
        loop {
            let Some(source) = self.sources.front().cloned() else {
                unreachable!("the last source is never taken away")
            };
            let is_last = self.sources.len() == 1;
            let (result, fallback) = match &source {
                Source::Registry(endpoint) => {
                    let call = pull_call(endpoint, self.subject.clone(), is_last);
                    (self.ask_registry(&call).await, Some((endpoint, call.patience)))
                }
                Source::Elsewhere(url) => (self.ask_elsewhere(url).await, None),
            };
            match (result, fallback) {
                (Ok(response), _) => return Ok(response),
                (Err(error), Some((endpoint, patience))) => {
                    self.client.give_up_on(endpoint, patience, error)?;
                }
                (Err(error), None) if error.is_fatal() => return Err(error),
                (Err(error), None) => self.client.warn(format!("foreign layer: {error}")),
            }
            self.sources.pop_front();
        }
    }

    async fn ask_registry(&mut self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let path = call.endpoint.path(&format!("blobs/{}", self.descriptor.digest));
        let request = self.client.request(call, Method::GET, &path)?;
        let response = self.client.call(call, self.ranged(request)).await?;
        self.begin(call, response).await
    }

    async fn ask_elsewhere(&mut self, url: &Url) -> Result<Response, RegistryError> {
        let Some(Source::Registry(registry)) = self.sources.back().cloned() else {
            unreachable!("the registry itself is the last source")
        };
        let endpoint = Endpoint { name: url.host_str().unwrap_or_default().into(), ..registry };
        let call = pull_call(&endpoint, self.subject.clone(), false);
        let place = Place::of(url);
        let refused = |source| call.unreachable(HttpError::Redirect { place, source });
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(Refused::Scheme(Place::of(url))));
        }
        let registry = self.client.request(&call, Method::GET, "/v2/")?.url;
        check_private(&registry, url).map_err(refused)?;
        let request = self.ranged(Request::new(Method::GET, url.clone()));
        let sent = self.client.send(&request, call.patience).await;
        let response = sent.map_err(|source| call.unreachable(source))?;
        self.begin(&call, response).await
    }

    /// Asks for what is missing. What comes is verified, so it may come over any wire.
    fn ranged(&self, request: Request) -> Request {
        let request = request.follow(Follow::Unencrypted);
        if self.offset == 0 {
            return request;
        }
        let range = HeaderValue::try_from(format!("bytes={}-", self.offset));
        request.header(RANGE, range.expect("a number is plain ASCII"))
    }

    /// Looks at the beginning of an answer: is it what was asked for?
    async fn begin(
        &mut self,
        call: &Call<'_>,
        response: Response,
    ) -> Result<Response, RegistryError> {
        let length = response.header(CONTENT_LENGTH.as_str()).and_then(|it| it.parse().ok());
        let start = match response.status() {
            // The range was not heeded: what we have comes again (rule B057).
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = response.header("content-range").unwrap_or_default().to_owned();
                let offset = self.offset;
                if range_start(&range) != Some(offset) {
                    return Err(call.misbehaved(Misbehaviour::BadRange { offset, range }));
                }
                offset
            }
            _ => return Err(self.client.failure(call, response).await),
        };
        let total = length.map(|length: u64| start.saturating_add(length));
        if let Some(total) = total.filter(|total| *total != self.descriptor.size) {
            return Err(self.wrong_size(total));
        }
        self.skip = self.offset - start;
        Ok(response)
    }

    fn host(&self) -> String {
        match self.sources.front() {
            Some(Source::Registry(endpoint)) => endpoint.name.clone(),
            Some(Source::Elsewhere(url)) => url.host_str().unwrap_or_default().to_owned(),
            None => String::new(),
        }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        let (host, subject) = (self.host(), self.subject.clone());
        RegistryError::SizeMismatch { host, subject, expected: self.descriptor.size, actual }
    }

    /// How many bytes have come so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Which blob this is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// The first byte of a `Content-Range: bytes 5-9/10`.
pub(super) fn range_start(text: &str) -> Option<u64> {
    let (unit, range) = text.trim().split_once(' ')?;
    let (start, rest) = range.trim().split_once('-')?;
    let end: u64 = rest.split('/').next()?.trim().parse().ok()?;
    let start: u64 = start.trim().parse().ok()?;
    (unit.eq_ignore_ascii_case("bytes") && start <= end).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b057_only_a_range_of_bytes_says_where_it_begins() {
        let check = |text: &str, expected| assert_eq!(range_start(text), expected, "{text}");
        check("bytes 5-9/10", Some(5));
        check("bytes 5-9/*", Some(5));
        check("Bytes  0-0/1 ", Some(0));
        check("bytes */10", None);
        check("bytes 9-5/10", None);
        check("bytes 5-", None);
        check("5-9", None);
        check("items 5-9/10", None);
        check("bytes -5-9/10", None);
        check("", None);
    }
}
