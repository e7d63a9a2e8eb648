//! The bytes of a blob on their way out: whole, or in chunks where a blob is large, and gone on with
//! where the registry has kept a part.
//!
//! Most blobs are one PUT: registries disagree about chunks more than about anything else (B076).
//! A large blob goes in chunks all the same, since only a chunk that was acknowledged survives
//! whatever happens next; a registry that refuses the first one gets the blob whole. What the
//! registry says it has is compared with what it was sent (B077), and asked for after trouble
//! (B078). The registry checks the digest of the whole in any case.

use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE},
};

use crate::http::{Body, FileBody, Request};
use crate::oci::{Descriptor, Reference};
use crate::registry::client::{Client, Patience};
use crate::registry::dialogue::{Dialogue, OCTETS, Place, content_range};
use crate::registry::error::RegistryError;
use crate::registry::upload::{Session, push_call, with_digest};

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

/// One blob to one repository.
struct Upload<'a> {
    dialogue: Dialogue<'a>,
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
        let dialogue = Dialogue { client: self, call: &call };
        let mut upload = Upload { dialogue, blob, content, noted, whole };
        upload.run(session).await
    }
}

impl Upload<'_> {
    async fn run(&mut self, session: Session) -> Result<(), RegistryError> {
        let Dialogue { client, call } = self.dialogue;
        let retry = client.http.retry();
        let mut place = self.take_up(session).await;
        let mut is_inherited = place.as_ref().is_some_and(|place| place.offset > 0);
        let mut failures = 0;
        loop {
            let mut at = match place.take() {
                Some(place) => place,
                None => client.begin_upload(call).await?,
            };
            let before = at.offset;
            let Err((error, chunk)) = self.send(&mut at).await else { return Ok(()) };
            // What another process has begun may be worth nothing.
            let is_bad = matches!(error, RegistryError::Rejected { .. }) && is_inherited;
            if is_bad || self.chunks_are_no_good(&error, chunk, &at) {
                client.abandon(call, &at.to).await;
                is_inherited = false;
                continue;
            }
            failures = if at.offset > before { 1 } else { failures + 1 };
            if !retry.allows(failures) || !is_restartable(&error) {
                if !is_resumable(&error) {
                    client.abandon(call, &at.to).await;
                }
                return Err(error);
            }
            self.dialogue.pause(&at, retry.delay(failures - 1)).await?;
            // All of it may have arrived, and only the answer been lost.
            if client.has_blob(call, self.blob).await? {
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
                self.dialogue.client.abandon(self.dialogue.call, &unused).await;
            }
            return Some(place);
        }
        session.begun.map(fresh)
    }

    /// Where the upload goes on according to the registry, if that can be.
    async fn ask(&self, at: &Place) -> Option<Place> {
        self.dialogue.ask(at).await.filter(|place| place.offset <= self.blob.size)
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
            self.dialogue.client.host(self.dialogue.call.endpoint).refuse_chunks();
        }
        self.whole = refused || spoilt;
        self.whole
    }

    /// Sends what the registry lacks. Says of an error whether a chunk met it.
    async fn send(&self, at: &mut Place) -> Result<(), (RegistryError, bool)> {
        let ours = self
            .dialogue
            .client
            .is_ours(self.dialogue.call, &at.to)
            .map_err(|error| (error, false))?;
        let chunks = self.dialogue.client.chunks;
        if ours && !self.whole && self.blob.size > chunks.above {
            let size = chunks.size.max(at.smallest).max(1);
            // The last piece goes with the end: ECR dislikes an empty one (B075).
            while self.blob.size - at.offset > size {
                self.dialogue.go_on().map_err(|error| (error, false))?;
                self.dialogue
                    .send_chunk(at, self.content, size)
                    .await
                    .map_err(|error| (error, true))?;
                (self.noted)(at.to.as_str());
            }
        }
        self.dialogue.go_on().map_err(|error| (error, false))?;
        self.finish(at, ours).await.map_err(|error| (error, false))
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
            self.dialogue.client.call(&self.dialogue.once(), request).await?
        } else {
            // Signed storage: its URL is the proof, and ours would be refused (rule B070).
            let sent = self.dialogue.client.send(&request, Patience::Once).await;
            sent.map_err(|source| self.dialogue.call.unreachable(source))?
        };
        if matches!(response.status().as_u16(), 200..=202 | 204) {
            return Ok(());
        }
        Err(self.dialogue.failure(response).await)
    }
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
