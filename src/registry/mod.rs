//! A client of container registries: reads and writes manifests and blobs, and proves who asks.
//!
//! A registry is told apart from its mirrors and from its token server; credentials are chosen for
//! the host that is contacted, and sent to no other. What comes in is verified by digest and size
//! before anybody sees the end of it. What goes out is read from files, so that every request can
//! be sent again.
//!
//! It keeps nothing: `transfer` moves between a registry and the store.
//!
//! Specs: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>,
//! <https://github.com/distribution/distribution/tree/main/docs/content/spec/auth>.

mod ambient;
mod answer;
mod auth;
mod blob;
mod challenge;
mod client;
mod credential;
mod dialogue;
mod docker_config;
mod endpoint;
mod error;
mod growing;
mod helper;
mod host;
mod interrupt;
mod listing;
mod login;
mod manifest;
mod media;
mod part;
mod preflight;
mod registries;
mod scope;
mod secret;
mod send;
mod subject;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod upload;

pub use crate::http::{CertificateDirectories, FileBody, HttpError, Log, Retry};
pub use crate::registry::ambient::Pipeline;
pub use crate::registry::answer::{Answer, ServerError};
pub use crate::registry::blob::BlobStream;
pub use crate::registry::challenge::{BearerChallenge, Challenge};
pub use crate::registry::client::{Client, Config};
pub use crate::registry::credential::{CredentialError, CredentialSources, Environment};
pub use crate::registry::endpoint::{Mirror, ParseMirrorError};
pub use crate::registry::error::{Login, Misbehaviour, RegistryError};
pub use crate::registry::growing::Growing;
pub use crate::registry::helper::HelperError;
pub use crate::registry::interrupt::Interrupt;
pub use crate::registry::login::{Keeper, login, logout};
pub use crate::registry::manifest::{PutManifest, Resolved};
pub use crate::registry::media::{MAX_MANIFEST, manifest_type};
pub use crate::registry::part::Part;
pub use crate::registry::registries::{Registries, RegistriesError};
pub use crate::registry::secret::{Credential, Secret};
pub use crate::registry::send::Chunks;
pub use crate::registry::upload::{Offer, Session};
