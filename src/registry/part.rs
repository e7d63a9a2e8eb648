//! A part of a blob, whose digest is known from elsewhere.

use reqwest::{
    Method, StatusCode,
    header::{HeaderValue, RANGE},
};

use crate::http::Follow;
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::blob::range_start;
use crate::registry::client::Client;
use crate::registry::endpoint::Endpoint;
use crate::registry::manifest::pull_call;

/// Which bytes of a blob, and what they have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The first of them.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// Their digest.
    pub digest: Digest,
}

impl Client {
    /// Reads a part of a blob of the repository of `reference` into memory.
    ///
    /// `None` if it cannot be had by itself, for whatever reason: then the blob itself must be read,
    /// which says what is wrong, if anything is.
    pub async fn blob_part(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        part: &Part,
    ) -> Option<Vec<u8>> {
        for endpoint in self.sources(reference).ok()? {
            let bytes = self.part_of(&endpoint, reference, descriptor, part).await;
            if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == part.digest) {
                return Some(bytes);
            }
        }
        None
    }

    async fn part_of(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        part: &Part,
    ) -> Option<Vec<u8>> {
        let subject = reference.with_digest(descriptor.digest).to_string();
        let call = pull_call(endpoint, subject, false);
        let path = endpoint.path(&format!("blobs/{}", descriptor.digest));
        let last = part.offset.checked_add(part.length)?.checked_sub(1)?;
        let range = HeaderValue::try_from(format!("bytes={}-{last}", part.offset)).ok()?;
        // What comes is verified, so it may come over any wire.
        let request = self.request(&call, Method::GET, &path).ok()?.follow(Follow::Unencrypted);
        let mut response = self.call(&call, request.header(RANGE, range)).await.ok()?;
        let start = response.header("content-range").and_then(range_start);
        if response.status() != StatusCode::PARTIAL_CONTENT || start != Some(part.offset) {
            // A registry that does not know ranges sends all of it.
            return None;
        }
        let length = usize::try_from(part.length).ok()?;
        let mut bytes = Vec::new();
        while bytes.len() <= length {
            match response.chunk().await.ok()? {
                Some(piece) => bytes.extend_from_slice(&piece),
                None => break,
            }
        }
        (bytes.len() == length).then_some(bytes)
    }
}
