//! Descriptors: what a document says of a blob before anybody has the blob.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::{DiffId, Digest, MediaType, Platform};

/// The type, digest and size of a blob.
///
/// The size is unsigned: a negative one does not parse, so nobody has to remember to refuse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: MediaType,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// Where else the blob can be had (foreign layers, rule B055).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact a manifest describes, where it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with nothing but the three fields that every one has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// A layer: where its compressed bytes are, and what they unpack to.
///
/// The manifest and the config keep these apart, in two lists matched by position. Here they are
/// one value until the very end (`image::assemble`), so they cannot fall out of step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The blob, for the manifest.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar, for the config.
    pub diff_id: DiffId,
}
