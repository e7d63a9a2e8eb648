//! Why a layer could not be written, read, applied or found.

use std::io;

use crate::layer::TreeError;
use crate::oci::{DiffId, ImagePath};

/// What went wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The tree that changes are compared with could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file has a name that layers use to say that a file is gone.
    #[error("`{path}` cannot be stored in a layer: names beginning with `.wh.` mark deleted files")]
    ReservedName {
        /// Which file.
        path: ImagePath,
    },
    /// Sockets are made by running programs, and no layer can hold one.
    #[error("`{path}` is a socket, which a layer cannot hold")]
    Socket {
        /// Which file.
        path: ImagePath,
    },
    /// A tar archive has no way to write this extended attribute's name.
    #[error("extended attribute `{name}` of `{path}` cannot be stored in a layer")]
    XattrName {
        /// Which file.
        path: ImagePath,
        /// Which attribute.
        name: String,
    },
    /// A file became shorter or longer between the time it was found and the time it was read.
    #[error("`{path}` changed while it was read: it had {size} bytes before")]
    Changed {
        /// Which file.
        path: ImagePath,
        /// How many bytes were announced.
        size: u64,
    },
    /// The content of a file could not be read.
    #[error("cannot read `{path}`")]
    Content {
        /// Which file.
        path: ImagePath,
        /// What the operating system said.
        source: io::Error,
    },
    /// The finished bytes could not be stored.
    #[error("cannot write the layer")]
    Sink {
        /// What the receiver said.
        source: io::Error,
    },
    /// `finish` was called after an `append` had failed.
    #[error("the layer is incomplete, because an earlier entry could not be written")]
    Incomplete,
    /// The layer's bytes could not be read or decompressed.
    #[error("cannot read the layer")]
    Source {
        /// What the source or the decompressor said.
        source: io::Error,
    },
    /// The bytes are not a tar archive, or a broken one.
    #[error("the layer is not a valid tar archive: {problem} at byte {position}")]
    Malformed {
        /// Where in the uncompressed archive.
        position: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The layer has so many files that even their names would fill the memory.
    #[error("the layer has too many files to be listed: their names take more than {limit} bytes")]
    TooManyFiles {
        /// How many bytes are allowed.
        limit: usize,
    },
    /// The layer's content is not what the image promises.
    #[error("the layer unpacks to {actual}, but the image promises {expected}")]
    WrongDiffId {
        /// What the image config says.
        expected: DiffId,
        /// What the bytes are.
        actual: DiffId,
    },
    /// A hard link leads to a name that no layer has.
    #[error("`{path}` is a hard link to `{target}`, which does not exist")]
    NoLinkTarget {
        /// The link.
        path: ImagePath,
        /// Where it leads.
        target: ImagePath,
    },
    /// The layer sets an attribute that would change how coracle or overlayfs reads the directory.
    #[error("`{path}` sets the reserved extended attribute `{name}`")]
    ReservedXattr {
        /// Which file.
        path: ImagePath,
        /// Which attribute.
        name: String,
    },
    /// The operating system refused something on a file of a layer's directory.
    #[error("cannot {action} `{path}`")]
    File {
        /// Which file.
        path: ImagePath,
        /// What was tried, as a verb: `create`, `read`, …
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl LayerError {
    /// Ties what the operating system said to a file, for use with `map_err`.
    pub(crate) fn file<E: Into<io::Error>>(
        action: &'static str,
        path: &ImagePath,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::File { path: path.clone(), action, source: error.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Tree(error) => return error.hint(),
            Self::ReservedName { .. } => "rename the file, or list it in .dockerignore",
            Self::Changed { .. } => "let nothing write to the files while they are built",
            Self::Malformed { .. } | Self::WrongDiffId { .. } | Self::Source { .. } => {
                "the image is damaged where it comes from; pull it again or ask its publisher"
            }
            Self::File { action: "change the owner of", .. } => {
                "give this user more IDs in /etc/subuid and /etc/subgid; `coracle doctor` says how"
            }
            Self::File { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                "the disk is full; `coracle prune` removes what no image needs"
            }
            Self::File { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                "put the store on a file system with extended attributes (ext4, xfs, btrfs)"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
