//! A parsed JSON document together with the exact bytes it was read from.

use serde::{Serialize, de::DeserializeOwned};

use crate::oci::Digest;

/// A value and the bytes that it was parsed from, or serialised to, exactly once.
///
/// The two cannot fall out of step: the value is read-only, and the digest is of the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<T> {
    value: T,
    bytes: Vec<u8>,
    digest: Digest,
}

/// Why some bytes are not the document that they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or JSON of another shape.
    #[error("not a valid {what}")]
    Malformed {
        /// What was expected, such as `image manifest`.
        what: &'static str,
        /// Where the JSON parser stopped.
        source: serde_json::Error,
    },
    /// The value would not be one that we can use.
    #[error("not a usable {what}: {reason}")]
    Unusable {
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses `bytes`, whose size the caller has bounded. `what` is for the error message.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Malformed`].
    pub fn parse(bytes: Vec<u8>, what: &'static str) -> Result<Self, DocumentError> {
        let value = serde_json::from_slice(&bytes)
            .map_err(|source| DocumentError::Malformed { what, source })?;
        let digest = Digest::of(&bytes);
        Ok(Self { value, bytes, digest })
    }
}

impl<T: Serialize> Document<T> {
    /// Serialises `value`, once: from here on its bytes and so its digest are fixed.
    ///
    /// # Panics
    ///
    /// If `value` has a map whose keys are not strings, which none of our types has.
    pub fn new(value: T) -> Self {
        let bytes = serde_json::to_vec(&value).expect("our own types have only string keys");
        let digest = Digest::of(&bytes);
        Self { value, bytes, digest }
    }
}

impl<T> Document<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}
