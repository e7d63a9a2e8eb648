//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::oci::{Digest, DocumentError, Reference};

/// Why the store could not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was being done, as a verb: `open`, `write`, `rename`.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file system or the user's quota is full.
    #[error("no space left for `{}`", .path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory holds something else, or a store of another version.
    #[error("`{}` is not an image store: {reason}", .path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `index.json`, the list of tags, cannot be read.
    #[error("the list of images `{}` is damaged", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// A document is larger than any honest one.
    #[error("{what} has {size} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Which document.
        what: String,
        /// How large it is, or says that it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The blob is not in the store.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// The bytes are not as many as their descriptor promised.
    #[error("blob {digest} should have {expected} bytes but has {}", at_least(*.actual, *.expected))]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// What the descriptor promised.
        expected: u64,
        /// How many came. Reading stops at the first byte too many.
        actual: u64,
    },
    /// The bytes are not those that their descriptor promised.
    #[error("blob should have digest {expected} but has {actual}")]
    WrongDigest {
        /// What the descriptor promised.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// No image of that name is in the store.
    #[error("image `{0}` is not in the store")]
    NoSuchImage(Reference),
    /// Another process, or another part of this one, is using the store.
    #[error("the store `{}` is in use", .0.display())]
    InUse(PathBuf),
}

fn at_least(actual: u64, expected: u64) -> String {
    if actual > expected { "more".to_owned() } else { actual.to_string() }
}

impl StoreError {
    /// What `source` means when `action` was tried on `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Gives back the error that a [`VerifiedReader`](crate::store::VerifiedReader) or a
    /// [`BlobWriter`](crate::store::BlobWriter) had to dress up as an `io::Error`; anything else
    /// becomes what [`StoreError::io`] makes of it.
    pub fn unwrap_io(action: &'static str, path: impl AsRef<Path>, error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => Self::io(action, path, error),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace { .. } => Some(
                "free some space, run `coracle prune`, or keep the store elsewhere with `--root`"
                    .to_owned(),
            ),
            Self::NotAStore { .. } => {
                Some("name an empty directory, or one that coracle made, with `--root`".to_owned())
            }
            Self::Index { path, .. } => Some(format!(
                "remove `{}`: tags are lost, but every layer and cached step is kept",
                path.display()
            )),
            Self::WrongSize { .. } | Self::WrongDigest { .. } | Self::Missing(_) => {
                Some("the next build or pull fetches or makes it again".to_owned())
            }
            Self::InUse(_) => Some("try again when running builds have ended".to_owned()),
            Self::NoSuchImage(_) => Some("`coracle images` lists what there is".to_owned()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the store must belong to the user who runs coracle".to_owned())
            }
            Self::Io { .. } | Self::TooLarge { .. } => None,
        }
    }
}
