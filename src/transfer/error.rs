//! What can go wrong between a registry and the store.

use crate::oci::{Digest, DocumentError, Platform, Reference};
use crate::registry::RegistryError;
use crate::store::{ContentsError, StoreError};

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The registry's part. Its message says what, so it is not wrapped in another.
    #[error(transparent)]
    Registry(RegistryError),
    /// The store's part.
    #[error(transparent)]
    Store(StoreError),
    /// A manifest, an index or a config cannot be read.
    #[error("`{reference}` cannot be used")]
    Document {
        /// Of which image.
        reference: Box<Reference>,
        /// What is wrong.
        source: DocumentError,
    },
    /// A manifest in the store is of a kind that coracle cannot read.
    #[error("`{reference}` is a manifest of a kind that is not supported")]
    UnknownKind {
        /// Which image.
        reference: Box<Reference>,
    },
    /// The index has no image for this platform (rule B053).
    #[error("`{reference}` has no image for {wanted}, only for {}", list(.available))]
    NoPlatform {
        /// Which image.
        reference: Box<Reference>,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// Those that there are.
        available: Vec<Platform>,
    },
    /// Indexes within indexes, without an end.
    #[error("`{0}` is an index within an index within an index")]
    TooDeep(Box<Reference>),
    /// The manifest and the config disagree over the number of layers (rule B050).
    #[error("`{reference}` has {layers} layers, but its config lists {diff_ids}")]
    LayerCount {
        /// Which image.
        reference: Box<Reference>,
        /// How many layers the manifest lists.
        layers: usize,
        /// How many the config lists.
        diff_ids: usize,
    },
    /// A blob that must be pushed is neither in the store nor known to be anywhere else.
    #[error("blob {digest} of `{reference}` is neither in the store nor on {}", .reference.registry())]
    MissingContent {
        /// Where it should go.
        reference: Box<Reference>,
        /// Which blob.
        digest: Digest,
    },
    /// The image is to be pushed under a digest that is not its own.
    #[error("`{reference}` names another image than {actual}")]
    OtherDigest {
        /// The name.
        reference: Box<Reference>,
        /// The image's own digest.
        actual: Digest,
    },
}

impl TransferError {
    /// That it is not known what `reference` consists of.
    pub(crate) fn contents(error: ContentsError, reference: &Reference) -> Self {
        let reference = Box::new(reference.clone());
        match error {
            ContentsError::Store(StoreError::Missing(digest)) => {
                Self::MissingContent { reference, digest }
            }
            ContentsError::Store(error) => Self::Store(error),
            ContentsError::Document(source) => Self::Document { reference, source },
            ContentsError::UnknownKind(_) => Self::UnknownKind { reference },
            ContentsError::TooDeep(_) => Self::TooDeep(reference),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::NoPlatform { available, .. } => {
                let first = available.first()?;
                Some(format!("choose one with `--platform`, such as `--platform {first}`"))
            }
            Self::MissingContent { .. } => {
                Some("pull or build the image again; its blobs were pruned".to_owned())
            }
            _ => None,
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
