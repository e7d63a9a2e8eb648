//! A blob that is sent while it is being made: its size and its digest are not known yet.
//!
//! It goes in pieces, and what comes after the last whole piece goes with the end, which is an
//! ordinary upload that begins where this one left off ([`Session::or_earlier`]). Whatever goes wrong
//! is no failure: the blob can be sent when it is finished.
//!
//! [`Session::or_earlier`]: crate::registry::Session::or_earlier

use crate::http::FileBody;
use crate::oci::Reference;
use crate::registry::client::Client;
use crate::registry::dialogue::{Dialogue, Place};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::RegistryError;
use crate::registry::upload::upload_call;

/// What errors call it.
const UNFINISHED: &str = " (a layer that is being made)";

/// An upload whose end is not known.
#[derive(Debug)]
pub struct Growing<'a> {
    client: &'a Client,
    endpoint: Endpoint,
    at: Place,
}

impl Client {
    /// How large a blob must be to be worth sending before it is finished: two pieces.
    pub fn worth_growing(&self) -> u64 {
        2 * self.chunks.size
    }

    /// Begins to send a blob that is not finished to the repository of `target`. `None` if this
    /// registry takes blobs whole only, or sends elsewhere with them (rules B070, B076).
    ///
    /// # Errors
    ///
    /// Fails if the registry cannot be reached or refuses.
    pub async fn begin_growing(
        &self,
        target: &Reference,
    ) -> Result<Option<Growing<'_>>, RegistryError> {
        let endpoint = self.registry(target)?;
        if self.host(&endpoint).refuses_chunks() {
            return Ok(None);
        }
        let call = upload_call(&endpoint, UNFINISHED);
        let at = self.begin_upload(&call).await?;
        let is_ours = self.is_ours(&call, &at.to)?;
        Ok(is_ours.then_some(Growing { client: self, endpoint, at }))
    }
}

impl Growing<'_> {
    /// How many bytes have been sent.
    pub fn offset(&self) -> u64 {
        self.at.offset
    }

    /// How many bytes the next piece has.
    pub fn piece(&self) -> u64 {
        self.client.chunks.size.max(self.at.smallest).max(1)
    }

    /// Where the upload goes on. It can be a credential (rule B018).
    pub fn place(&self) -> &str {
        self.at.to.as_str()
    }

    /// Sends the next piece of `content`, which is all that there will ever be.
    ///
    /// # Errors
    ///
    /// Fails if the registry does not take it. The upload is then over.
    pub async fn send(&mut self, content: &FileBody) -> Result<(), RegistryError> {
        let (size, call) = (self.piece(), upload_call(&self.endpoint, UNFINISHED));
        let dialogue = Dialogue { client: self.client, call: &call };
        dialogue.go_on()?;
        let sent = dialogue.send_chunk(&mut self.at, content, size).await;
        if matches!(sent, Err(RegistryError::Rejected { .. })) && self.at.offset == 0 {
            self.client.host(&self.endpoint).refuse_chunks();
        }
        sent
    }

    /// Tells the registry that nothing more will come.
    pub async fn abandon(self) {
        let call = upload_call(&self.endpoint, UNFINISHED);
        self.client.abandon(&call, &self.at.to).await;
    }
}
