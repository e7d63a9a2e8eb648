//! The nouns of the OCI specifications: digests, references, descriptors, manifests, configs.
//!
//! Everything here is a value. Nothing reads a file, a clock, the network or the environment.
//! A malformed value cannot exist, and what was read keeps its exact bytes (a digest is a digest *of
//! bytes*, and a document that is serialised again is another document).
//!
//! Specs: <https://github.com/opencontainers/image-spec/blob/v1.1.1/spec.md>,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>.

mod config;
mod descriptor;
mod digest;
mod document;
mod manifest;
mod media_type;
mod path;
mod platform;
mod reference;
mod timestamp;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, Layer};
pub use digest::{ChainId, DiffId, Digest, Digester, ImageId, ParseDigestError};
pub use document::{Document, DocumentError};
pub use manifest::{ImageIndex, Manifest};
pub use media_type::{Compression, MediaType};
pub use path::ImagePath;
pub use platform::{ParsePlatformError, Platform};
pub use reference::{ParseReferenceError, Reference};
pub use timestamp::{ParseTimestampError, Timestamp};
