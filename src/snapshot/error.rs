//! Why a snapshot could not be made.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::layer::{LayerError, TreeError};
use crate::oci::{Digest, ImagePath};

/// What went wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The blob of a layer could not be opened.
    #[error("cannot open layer {layer}")]
    Open {
        /// The blob.
        layer: Digest,
        /// What the store said.
        source: io::Error,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// The blob.
        layer: Digest,
        /// What is wrong with it, or with this machine.
        source: LayerError,
    },
    /// The changes of a step could not be turned into a layer.
    #[error("cannot turn the changes of this step into a layer")]
    Diff {
        /// Why.
        source: LayerError,
    },
    /// The directory of a new step could not be given the properties of the root below.
    #[error("cannot prepare a root file system")]
    Prepare {
        /// Why.
        source: LayerError,
    },
    /// What was recorded beside a layer cannot be read.
    #[error("`{}` is damaged", .0.display())]
    Damaged(PathBuf),
    /// The layers below could not be read.
    #[error("cannot put the layers together")]
    Merge {
        /// Why.
        source: TreeError,
    },
    /// A file of a root file system could not be handled.
    #[error("cannot {action} `{path}`")]
    Tree {
        /// What was tried, as a verb.
        action: &'static str,
        /// Which file of the image.
        path: ImagePath,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl SnapshotError {
    /// Ties what the operating system said to a path, for use with `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Ties what the operating system said to a path of the image, for use with `map_err`.
    pub(super) fn tree<E: Into<io::Error>>(
        action: &'static str,
        path: &ImagePath,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Tree { action, path: path.clone(), source: source.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unpack { source, .. } | Self::Diff { source } | Self::Prepare { source } => {
                source.hint()
            }
            Self::Damaged(path) => {
                let directory = path.parent().unwrap_or(path);
                Some(format!("remove `{}`; it is made again when needed", directory.display()))
            }
            Self::Tree { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => Some(
                "here each running stage needs a copy of its root file system: make room where the \
                 store is"
                    .to_owned(),
            ),
            Self::Open { .. } | Self::Merge { .. } | Self::Tree { .. } | Self::Io { .. } => None,
        }
    }
}
