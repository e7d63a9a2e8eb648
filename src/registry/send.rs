//! The bytes of a blob on their way out: whole, or in chunks where a blob is large, and gone on with
//! where the registry has kept a part.
//!
//! Most blobs are one PUT: registries disagree about chunks more than about anything else (B076).
//! A large blob goes in chunks all the same, since only a chunk that was acknowledged survives
//! whatever happens next; a registry that refuses the first one gets the blob whole. What the
//! registry says it has is compared with what it was sent (B077), and asked for after trouble
//! (B078). The registry checks the digest of the whole in any case.

use std::time::Duration;

use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue},
};

use crate::http::{self, Body, FileBody, Request, Response, retry_after};
use crate::oci::{Descriptor, Reference};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::error::RegistryError;
use crate::registry::upload::{Session, location, push_call, with_digest};

/// Whether a broken upload of a smaller blob may be gone on with is not worth a question.
const WORTH_ASKING: u64 = 8 << 20;

/// When a blob is sent in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// Blobs with more bytes than this.
    pub above: u64,
    /// How many bytes a piece has. The registry may ask for more (`OCI-Chunk-Min-Length`).
    pub size: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { above: 128 << 20, size: 32 << 20 }
    }
}

/// How far an upload has come.
#[derive(Debug)]
pub(crate) struct Place {
    /// The `Location` of the last answer (rule B072).
    pub(crate) to: Url,
    /// How many bytes the registry has.
    pub(crate) offset: u64,
    /// The smallest chunk that the registry takes.
    pub(crate) smallest: u64,
}

/// One blob to one repository.
struct Upload<'a> {
    client: &'a Client,
    call: &'a Call<'a>,
    blob: &'a Descriptor,
    content: &'a FileBody,
    noted: &'a (dyn Fn(&str) + Send + Sync),
    /// Chunks have proved to be no good here.
    whole: bool,
}

impl Client {
    /// Sends a blob that the registry wants.
    ///
    /// `noted` is told, whenever the registry has taken a part, where the upload goes on: that is
    /// what [`Session::or_earlier`] takes.
    ///
    /// # Errors
    ///
    /// Fails if the registry refuses it, or connections break again and again.
    pub async fn upload(
        &self,
        target: &Reference,
        blob: &Descriptor,
        content: &FileBody,
        session: Session,
        noted: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let endpoint = self.registry(target)?;
        let call = push_call(&endpoint, blob);
        let whole = self.host(&endpoint).refuses_chunks();
        let mut upload = Upload { client: self, call: &call, blob, content, noted, whole };
        upload.run(session).await
    }
}

impl Upload<'_> {
    async fn run(&mut self, session: Session) -> Result<(), RegistryError> {
        let retry = self.client.http.retry();
        let mut place = self.take_up(session).await;
        let mut failures = 0;
        loop {
            let mut at = match place.take() {
                Some(place) => place,
                None => self.client.begin_upload(self.call).await?,
            };
            let before = at.offset;
            let Err((error, chunk)) = self.send(&mut at).await else { return Ok(()) };
            if self.chunks_are_no_good(&error, chunk, &at) {
                self.client.abandon(self.call, &at.to).await;
                continue;
            }
            failures = if at.offset > before { 1 } else { failures + 1 };
            if !retry.allows(failures) || !is_restartable(&error) {
                if !is_resumable(&error) {
                    self.client.abandon(self.call, &at.to).await;
                }
                return Err(error);
            }
            self.pause(&at, retry.delay(failures - 1)).await?;
            // All of it may have arrived, and only the answer been lost.
            if self.client.has_blob(self.call, self.blob).await? {
                return Ok(());
            }
            if self.blob.size >= WORTH_ASKING || at.offset > 0 {
                place = self.ask(&at).await;
            }
        }
    }

    /// The place where an earlier upload, or a mount that failed, has left off.
    async fn take_up(&self, session: Session) -> Option<Place> {
        let fresh = |to: Url| Place { to, offset: 0, smallest: 0 };
        if let Some(earlier) = session.earlier
            && let Some(place) = self.ask(&fresh(earlier)).await.filter(|it| it.offset > 0)
        {
            if let Some(unused) = session.begun {
                self.client.abandon(self.call, &unused).await;
            }
            return Some(place);
        }
        session.begun.map(fresh)
    }

    /// Notes that this registry, or this upload, must do without chunks; `false` if the chunks are
    /// not to blame.
    fn chunks_are_no_good(&mut self, error: &RegistryError, chunk: bool, at: &Place) -> bool {
        let RegistryError::Rejected { status, answer, .. } = error else { return false };
        if self.whole {
            return false;
        }
        // GHCR takes no chunk that is larger than its own; others know no chunks at all (B076).
        let refused = chunk && at.offset == 0;
        // Its parts were put together wrongly, here or there (B077).
        let spoilt = at.offset > 0
            && *status != StatusCode::RANGE_NOT_SATISFIABLE
            && (!chunk || answer.has_code("DIGEST_INVALID"));
        if refused {
            self.client.host(self.call.endpoint).refuse_chunks();
        }
        self.whole = refused || spoilt;
        self.whole
    }

    /// Sends what the registry lacks. Says of an error whether a chunk met it.
    async fn send(&self, at: &mut Place) -> Result<(), (RegistryError, bool)> {
        let ours = self.client.is_ours(self.call, &at.to).map_err(|error| (error, false))?;
        let chunks = self.client.chunks;
        if ours && !self.whole && self.blob.size > chunks.above {
            let size = chunks.size.max(at.smallest).max(1);
            // The last piece goes with the end: ECR dislikes an empty one (B075).
            while self.blob.size - at.offset > size {
                self.go_on().map_err(|error| (error, false))?;
                self.send_chunk(at, size).await.map_err(|error| (error, true))?;
                (self.noted)(at.to.as_str());
            }
        }
        self.go_on().map_err(|error| (error, false))?;
        self.finish(at, ours).await.map_err(|error| (error, false))
    }

    /// An error if the user wants to end.
    fn go_on(&self) -> Result<(), RegistryError> {
        if self.client.interrupt.is_wanted() {
            return Err(RegistryError::Interrupted { subject: self.call.subject.clone() });
        }
        Ok(())
    }

    /// One PATCH (rule B075).
    async fn send_chunk(&self, at: &mut Place, size: u64) -> Result<(), RegistryError> {
        let request = Request::new(Method::PATCH, at.to.clone())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_RANGE, content_range(at.offset, size))
            .body(Body::File(self.content.part(at.offset, size)));
        let response = self.client.call(&self.once(), request).await?;
        if !matches!(response.status().as_u16(), 200..=202 | 204) {
            return Err(self.failure(response).await);
        }
        if response.header("location").is_some() {
            at.to = location(self.call, &response)?;
        }
        let expected = at.offset + size;
        at.offset = match range_end(&response) {
            Some(end) if end != expected => match self.ask(at).await {
                // It has kept less than it was sent, and says so twice.
                Some(place) if (at.offset + 1..expected).contains(&place.offset) => {
                    at.to = place.to;
                    place.offset
                }
                // ECR goes on speaking of the first chunk, whatever it has (B077).
                _ => expected,
            },
            _ => expected,
        };
        Ok(())
    }

    /// The PUT that ends an upload, with all that is missing (rule B073).
    async fn finish(&self, at: &Place, ours: bool) -> Result<(), RegistryError> {
        let rest = self.blob.size - at.offset;
        let mut request = Request::new(Method::PUT, with_digest(&at.to, &self.blob.digest))
            .header(CONTENT_TYPE, OCTETS)
            .body(Body::File(self.content.part(at.offset, rest)));
        if at.offset > 0 && rest > 0 {
            request = request.header(CONTENT_RANGE, content_range(at.offset, rest));
        }
        let response = if ours {
            self.client.call(&self.once(), request).await?
        } else {
            // Signed storage: its URL is the proof, and ours would be refused (rule B070).
            let sent = self.client.send(&request, Patience::Once).await;
            sent.map_err(|source| self.call.unreachable(source))?
        };
        if matches!(response.status().as_u16(), 200..=202 | 204) {
            return Ok(());
        }
        Err(self.failure(response).await)
    }

    /// Asks how much of an upload the registry has; `None` if it does not say (rule B078).
    async fn ask(&self, at: &Place) -> Option<Place> {
        if !self.client.is_ours(self.call, &at.to).unwrap_or(false) {
            return None;
        }
        let request = Request::new(Method::GET, at.to.clone());
        let response = self.client.call(&self.once(), request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let offset = range_end(&response)?;
        let to = match response.header("location") {
            Some(_) => location(self.call, &response).ok()?,
            None => at.to.clone(),
        };
        (offset <= self.blob.size).then_some(Place { to, offset, smallest: at.smallest })
    }

    /// The error that an answer means, after the pause that it asks for (rule B095).
    async fn failure(&self, response: Response) -> RegistryError {
        let longest = self.client.http.retry().longest_asked;
        if let Some(pause) = retry_after(response.headers(), jiff::Timestamp::now()) {
            let waited =
                self.client.http.pause(http::Place::of(response.url()), pause.min(longest));
            if let Err(error) = waited.await {
                return self.call.unreachable(error);
            }
        }
        self.client.failure(self.call, response).await
    }

    async fn pause(&self, at: &Place, pause: Duration) -> Result<(), RegistryError> {
        let waited = self.client.http.pause(http::Place::of(&at.to), pause).await;
        waited.map_err(|error| self.call.unreachable(error))
    }

    /// The body is read from a file each time, but a session must not get it twice (rule B093).
    fn once(&self) -> Call<'_> {
        Call { patience: Patience::Once, ..self.call.clone() }
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Without `bytes `, and with the last byte: not as in the standard of HTTP (rule B075).
fn content_range(start: u64, size: u64) -> HeaderValue {
    let text = format!("{start}-{}", start + size - 1);
    HeaderValue::try_from(text).expect("numbers are plain ASCII")
}

/// How many bytes the registry says that it has: `Range: 0-<last>`. `0-0` is how it says none.
fn range_end(response: &Response) -> Option<u64> {
    received(response.header("range")?)
}

fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then_some(if last == 0 { 0 } else { last.saturating_add(1) })
}

/// Whether a new session may do what this one did not.
fn is_restartable(error: &RegistryError) -> bool {
    match error {
        // The session is lost (rule B078).
        RegistryError::NotFound { .. } => true,
        RegistryError::Rejected { status, answer, .. } => {
            *status == StatusCode::RANGE_NOT_SATISFIABLE
                || answer.has_code("BLOB_UPLOAD_INVALID")
                || answer.has_code("BLOB_UPLOAD_UNKNOWN")
        }
        other => other.is_transient(),
    }
}

/// Whether a later process may go on with the session that ended so.
fn is_resumable(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Unreachable { .. }
            | RegistryError::OutOfTime { .. }
            | RegistryError::Interrupted { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b075_a_chunk_is_named_without_a_unit_and_with_its_last_byte() {
        assert_eq!(content_range(0, 5), "0-4");
        assert_eq!(content_range(5, 1), "5-5");
    }

    #[test]
    fn b077_ranges_of_real_registries() {
        let check = |text: &str, expected| assert_eq!(received(text), expected, "{text}");
        check("0-4", Some(5));
        check("bytes=0-4", Some(5));
        check("0-0", Some(0));
        check("0-18446744073709551615", Some(u64::MAX));
        check("3-4", None);
        check("0-", None);
        check("", None);
    }
}
