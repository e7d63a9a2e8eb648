//! Why something could not be fetched.

use crate::fetch::GitError;
use crate::http::{HttpError, Place};
use crate::oci::Digest;
use crate::store::StoreError;

/// Why a file or a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The text is not a URL.
    #[error("`{url}` is not a URL")]
    BadUrl {
        /// As written, without what stands before an `@`.
        url: String,
    },
    /// The server did not give the file (rule A139). The wording is BuildKit's.
    #[error("invalid response status {status} from {place}")]
    Status {
        /// What was asked for.
        place: Place,
        /// The status.
        status: u16,
    },
    /// The file is not the one that was expected (rule A140). The wording is BuildKit's.
    #[error("digest mismatch {actual}: {expected}")]
    Mismatch {
        /// What came.
        actual: Digest,
        /// What the checksum asks for.
        expected: Digest,
    },
    /// The server could not be asked, or broke off.
    #[error("the download failed")]
    Http {
        /// How.
        source: HttpError,
    },
    /// What the server compressed for the transfer is damaged.
    #[error("the answer of {place} is not what its Content-Encoding says")]
    Encoding {
        /// What was asked for.
        place: Place,
        /// What is wrong.
        source: std::io::Error,
    },
    /// What came could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A repository could not be fetched.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl FetchError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::BadUrl { .. } => "write it as `https://host/path`",
            Self::Status { status: 401 | 403, .. } => {
                "coracle sends no credentials of its own; fetch it in a RUN step with a secret"
            }
            Self::Status { status: 404 | 410, .. } => "check the URL; nothing is there",
            Self::Mismatch { .. } => {
                "if the change is expected, put the first digest into `--checksum`"
            }
            Self::Http { source: HttpError::Redirect { .. } } => {
                "write the URL that it leads to; with `--checksum` unencrypted ones are followed"
            }
            Self::Http { source: HttpError::Connect { .. } } => {
                "check the name, the network, and HTTPS_PROXY and NO_PROXY"
            }
            Self::Http { source } => return source.hint(),
            Self::Store(error) => return error.hint(),
            Self::Git(error) => return error.hint(),
            Self::Status { .. } | Self::Encoding { .. } => return None,
        };
        Some(text.to_owned())
    }
}
