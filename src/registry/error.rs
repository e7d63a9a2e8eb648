//! What can go wrong at a registry, told apart by what a user would do about it.

use std::{fmt, time::Duration};

use reqwest::StatusCode;

use crate::http::{HttpError, Refused};
use crate::oci::{Digest, MediaType};
use crate::registry::answer::Answer;
use crate::registry::credential::CredentialError;

/// Whether a request was made in somebody's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// No credentials were known.
    Anonymous,
    /// With credentials.
    Known,
}

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer came.
    #[error("cannot reach {host} for `{subject}`")]
    Unreachable {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// Why.
        source: HttpError,
    },
    /// The user wants to end.
    #[error("interrupted at `{subject}`")]
    Interrupted {
        /// What was under way.
        subject: String,
    },
    /// The time that the user gave is up.
    #[error("{host} took too long over `{subject}`: the limit is {} seconds", .limit.as_secs_f64())]
    OutOfTime {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// How long there was to wait in all.
        limit: Duration,
    },
    /// The registry, or its token server, wants to know who asks, or does not believe it.
    #[error("{}{answer}", Access(subject, host, *login))]
    Unauthorized {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// Whether it was told who asks.
        login: Login,
        /// What it said.
        answer: Answer,
    },
    /// The registry knows who asks, and refuses.
    #[error("{host} denies access to `{subject}`{answer}")]
    Denied {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// What it said.
        answer: Answer,
    },
    /// The configuration forbids to speak to it (rule B114).
    #[error("`{subject}` is blocked by registries.conf")]
    Blocked {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
    },
    /// There is no such thing.
    #[error("`{subject}` is not on {host}{answer}")]
    NotFound {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// What it said.
        answer: Answer,
    },
    /// Too many requests; waiting as long as is reasonable did not help.
    #[error("{host} has had too many requests{answer}")]
    RateLimited {
        /// Which registry.
        host: String,
        /// Whether it was told who asks.
        login: Login,
        /// What it said.
        answer: Answer,
    },
    /// The registry is in trouble, and trying again did not help.
    #[error("{host} failed with status {status} over `{subject}`{answer}")]
    Unavailable {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        answer: Answer,
    },
    /// The registry does not want this.
    #[error("{host} refuses `{subject}` with status {status}{answer}")]
    Rejected {
        /// Which registry.
        host: String,
        /// What was asked for, or sent.
        subject: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        answer: Answer,
    },
    /// The registry breaks the protocol.
    #[error("{host} does not keep to the protocol over `{subject}`")]
    Misbehaved {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// How.
        source: Misbehaviour,
    },
    /// What came is not what was asked for.
    #[error("`{subject}` from {host} has digest {actual} instead of {expected}")]
    DigestMismatch {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// The digest of what was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// What came is not as long as it should be.
    #[error("`{subject}` from {host} has {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// How long it should be.
        expected: u64,
        /// How long it is, or how much came before we stopped reading.
        actual: u64,
    },
    /// A manifest or config is longer than any honest one (rule B049).
    #[error("`{subject}` from {host} has {size} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Which registry.
        host: String,
        /// What was asked for.
        subject: String,
        /// How long it says it is.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The manifest is of a kind that coracle cannot read (rule B045).
    #[error("`{subject}` is a manifest of the unsupported type `{media_type}`")]
    UnsupportedManifest {
        /// What was asked for.
        subject: String,
        /// Its type.
        media_type: String,
    },
    /// The credentials could not be read.
    #[error("cannot read the credentials for {host}")]
    Credentials {
        /// For which registry.
        host: String,
        /// Why.
        source: CredentialError,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the network client")]
    Setup {
        /// Why.
        source: HttpError,
    },
}

/// How a registry breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Misbehaviour {
    /// A 401 without a challenge that coracle can answer.
    #[error("status 401 without a challenge that can be answered (Bearer or Basic)")]
    NoChallenge,
    /// A `Bearer` challenge that names no token server (rule B023).
    #[error("no realm specified for token auth challenge")]
    NoRealm,
    /// A token server that is none, or one that must not be asked (rules B015, B041).
    #[error("the realm `{realm}` of its challenge cannot be used")]
    BadRealm {
        /// As it was sent.
        realm: String,
        /// What is wrong.
        source: Refused,
    },
    /// The token server's answer has no token in it (rule B028).
    #[error("authorization server did not include a token in the response")]
    NoToken,
    /// The token cannot be sent in a header.
    #[error("the token has characters that no token may have")]
    BadToken,
    /// An upload was begun, but not said where it goes on (rule B068).
    #[error("missing Location header")]
    NoLocation,
    /// An upload goes on where we do not go (rules B015, B070).
    #[error("the Location of an upload is refused")]
    BadLocation(#[source] Refused),
    /// A name that cannot stand in a URL.
    #[error("`{0}` is not a URL")]
    BadUrl(String),
    /// A list that is none (rules B062, B063).
    #[error("the answer is not a list of {0}")]
    NotAList(&'static str),
    /// Another part of a blob was sent than the one asked for (rule B057).
    #[error("asked for bytes from {offset}, got `{range}`")]
    BadRange {
        /// From where on.
        offset: u64,
        /// The `Content-Range` that came.
        range: String,
    },
    /// `Content-Type` and the document itself name two types (rule B044).
    #[error("the manifest says that it is `{document}`, its Content-Type `{header}`")]
    TwoTypes {
        /// What the header says.
        header: MediaType,
        /// What the document says.
        document: MediaType,
    },
    /// The digest that the registry gives a manifest is not the one that it has (rule B082).
    #[error("the registry calls what was pushed {actual} instead of {expected}")]
    OtherDigest {
        /// Ours.
        expected: Digest,
        /// The registry's.
        actual: Digest,
    },
}

impl RegistryError {
    /// The error that a failed exchange with `host` over `subject` means.
    pub(crate) fn unreachable(host: String, subject: String, source: HttpError) -> Self {
        match source {
            HttpError::OutOfTime { limit, .. } => Self::OutOfTime { host, subject, limit },
            source => Self::Unreachable { host, subject, source },
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { host, login: Login::Anonymous, .. } => {
                Some(format!("run `coracle login {host}`, and check the name"))
            }
            Self::Unauthorized { host, login: Login::Known, .. } => Some(format!(
                "check the name and your access to it; the login may be out of date: run \
                 `coracle login {host}`"
            )),
            Self::RateLimited { host, login: Login::Anonymous, .. } => {
                Some(format!("run `coracle login {host}`: users have a higher limit"))
            }
            Self::RateLimited { .. } => {
                Some("wait, or use a mirror (--registry-mirror)".to_owned())
            }
            Self::OutOfTime { .. } => Some(
                "what has been transferred is kept: the same command goes on from there; \
                 --registry-timeout says how long it may take"
                    .to_owned(),
            ),
            Self::UnsupportedManifest { .. } => {
                Some("push the image again with a current tool".to_owned())
            }
            Self::Rejected { status, answer, .. } => rejected_hint(*status, answer),
            Self::Unreachable { source, .. } | Self::Setup { source } => source.hint(),
            Self::Credentials { source, .. } => source.hint(),
            Self::Misbehaved {
                source: Misbehaviour::BadRealm { source, .. } | Misbehaviour::BadLocation(source),
                ..
            } => source.hint(),
            _ => None,
        }
    }

    /// Whether another registry must not be asked instead: what came was wrong, and whoever sent it
    /// should be looked at (rule B113); or there is no time for that, or nobody waits any more.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::DigestMismatch { .. }
                | Self::SizeMismatch { .. }
                | Self::OutOfTime { .. }
                | Self::Interrupted { .. }
        )
    }

    /// Whether the registry is there, but cannot answer just now.
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::RateLimited { .. } => true,
            Self::Unreachable { source, .. } => {
                matches!(source, HttpError::Broken { .. } | HttpError::Timeout { .. })
            }
            _ => false,
        }
    }

    /// Whether the same may go well when it is begun anew (rules B080, B092).
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_transient(),
            Self::Unavailable { .. } => true,
            Self::RateLimited { answer, .. } => !answer.is_long_limit(),
            _ => false,
        }
    }
}

fn rejected_hint(status: StatusCode, answer: &Answer) -> Option<String> {
    let dislikes_type = status == StatusCode::UNSUPPORTED_MEDIA_TYPE
        || answer.has_code("MANIFEST_INVALID")
        || answer.has_code("UNSUPPORTED");
    if dislikes_type {
        return Some(
            "the registry may not know OCI images; an image with Docker's media types can be \
             copied to it as it is"
                .to_owned(),
        );
    }
    (status == StatusCode::PAYLOAD_TOO_LARGE)
        .then(|| "the registry, or a proxy before it, limits the size of what is sent".to_owned())
}

/// `Unauthorized`, with Docker's words where nobody is logged in (rule B042).
struct Access<'a>(&'a str, &'a str, Login);

impl fmt::Display for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(subject, host, login) = self;
        match login {
            Login::Anonymous => write!(
                f,
                "access to `{subject}` on {host} denied: it does not exist or may require \
                 authorization"
            ),
            Login::Known => write!(f, "{host} refuses the credentials for `{subject}`"),
        }
    }
}
