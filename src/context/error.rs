//! Why a build context cannot be used.

use std::{io, path::PathBuf};

use crate::context::ignore::PatternError;

/// Why a build context could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is nothing at the path, or something else than a directory.
    #[error("build context `{}` is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The operating system refused.
    #[error("cannot open the build context `{}`", .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The ignore file has a malformed pattern (rule A144).
    #[error("cannot use `{name}`")]
    Ignore {
        /// The file's name.
        name: String,
        /// Which pattern, and why.
        source: PatternError,
    },
}

impl ContextError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotADirectory(_) => {
                Some("name the directory that holds the files to copy, such as `.`".to_owned())
            }
            Self::Ignore { .. } => Some(
                "a `[` begins a class such as `[a-z]`; write `\\[` for the character itself"
                    .to_owned(),
            ),
            Self::Open { .. } => None,
        }
    }
}
