//! Media types: what a blob is, and for a layer, how it is compressed.
//!
//! Specs: <https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md>,
//! <https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md>.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the bytes of a blob are. Unknown types are kept as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.oci.image.config.v1+json`
    OciConfig,
    /// `application/vnd.oci.image.layer.v1.tar` and its compressed forms.
    OciLayer(Compression),
    /// `application/vnd.oci.image.layer.nondistributable.v1.tar` and its compressed forms.
    OciForeignLayer(Compression),
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerManifestList,
    /// `application/vnd.docker.container.image.v1+json`
    DockerConfig,
    /// `application/vnd.docker.image.rootfs.diff.tar` and its compressed forms.
    DockerLayer(Compression),
    /// `application/vnd.docker.image.rootfs.foreign.diff.tar` and its compressed forms.
    DockerForeignLayer(Compression),
    /// Anything else, exactly as written.
    Other(String),
}

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A layer's type without its compression, how to make it, and what stands before the compression.
type LayerType = (&'static str, fn(Compression) -> MediaType, char);

const LAYERS: [LayerType; 4] = [
    ("application/vnd.oci.image.layer.v1.tar", MediaType::OciLayer, '+'),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", MediaType::OciForeignLayer, '+'),
    ("application/vnd.docker.image.rootfs.diff.tar", MediaType::DockerLayer, '.'),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", MediaType::DockerForeignLayer, '.'),
];

impl MediaType {
    /// Whether this is an index or a manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerManifestList)
    }

    /// Whether this is an image manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// The compression, if this is a layer of a kind that coracle can read.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self {
            Self::OciLayer(compression)
            | Self::OciForeignLayer(compression)
            | Self::DockerLayer(compression)
            | Self::DockerForeignLayer(compression) => Some(*compression),
            _ => None,
        }
    }

    /// Whether the blob must not be pushed to a registry that lacks it (rule B055).
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::OciForeignLayer(_) | Self::DockerForeignLayer(_))
    }

    /// The OCI type that means the same, for a blob that moves from a Docker manifest to an OCI one.
    #[must_use]
    pub fn to_oci(&self) -> Self {
        match self {
            Self::DockerManifest => Self::OciManifest,
            Self::DockerManifestList => Self::OciIndex,
            Self::DockerConfig => Self::OciConfig,
            Self::DockerLayer(compression) => Self::OciLayer(*compression),
            Self::DockerForeignLayer(compression) => Self::OciForeignLayer(*compression),
            other => other.clone(),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = |f: &mut fmt::Formatter<'_>, index: usize, compression: &Compression| {
            let (base, _, separator) = LAYERS[index];
            match compression {
                Compression::None => f.write_str(base),
                Compression::Gzip => write!(f, "{base}{separator}gzip"),
                Compression::Zstd => write!(f, "{base}{separator}zstd"),
            }
        };
        match self {
            Self::OciManifest => f.write_str("application/vnd.oci.image.manifest.v1+json"),
            Self::OciIndex => f.write_str("application/vnd.oci.image.index.v1+json"),
            Self::OciConfig => f.write_str("application/vnd.oci.image.config.v1+json"),
            Self::DockerManifest => {
                f.write_str("application/vnd.docker.distribution.manifest.v2+json")
            }
            Self::DockerManifestList => {
                f.write_str("application/vnd.docker.distribution.manifest.list.v2+json")
            }
            Self::DockerConfig => f.write_str("application/vnd.docker.container.image.v1+json"),
            Self::OciLayer(compression) => layer(f, 0, compression),
            Self::OciForeignLayer(compression) => layer(f, 1, compression),
            Self::DockerLayer(compression) => layer(f, 2, compression),
            Self::DockerForeignLayer(compression) => layer(f, 3, compression),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.to_string()
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for MediaType {
    /// Reads a media type; parameters such as `; charset=utf-8` are dropped (rule B044).
    fn from(text: &str) -> Self {
        let text = text.split(';').next().unwrap_or_default().trim();
        match text {
            "application/vnd.oci.image.manifest.v1+json" => return Self::OciManifest,
            "application/vnd.oci.image.index.v1+json" => return Self::OciIndex,
            "application/vnd.oci.image.config.v1+json" => return Self::OciConfig,
            "application/vnd.docker.distribution.manifest.v2+json" => return Self::DockerManifest,
            "application/vnd.docker.distribution.manifest.list.v2+json" => {
                return Self::DockerManifestList;
            }
            "application/vnd.docker.container.image.v1+json" => return Self::DockerConfig,
            _ => {}
        }
        for (base, constructor, separator) in LAYERS {
            let Some(suffix) = text.strip_prefix(base) else { continue };
            let compression = match suffix.strip_prefix(separator) {
                None if suffix.is_empty() => Compression::None,
                Some("gzip") => Compression::Gzip,
                Some("zstd") => Compression::Zstd,
                _ => continue,
            };
            return constructor(compression);
        }
        Self::Other(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_survives_text() {
        let layers = LAYERS.iter().flat_map(|(_, constructor, _)| {
            [Compression::None, Compression::Gzip, Compression::Zstd].map(constructor)
        });
        let others = [
            MediaType::OciManifest,
            MediaType::OciIndex,
            MediaType::OciConfig,
            MediaType::DockerManifest,
            MediaType::DockerManifestList,
            MediaType::DockerConfig,
        ];
        for media_type in layers.chain(others) {
            assert_eq!(MediaType::from(media_type.to_string()), media_type);
        }
    }

    #[test]
    fn b056_layers_of_every_common_kind_are_known() {
        let check = |text: &str, expected| {
            assert_eq!(MediaType::from(text).layer_compression(), expected, "{text}");
        };
        check("application/vnd.oci.image.layer.v1.tar", Some(Compression::None));
        check("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip));
        check("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd));
        check("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip));
        check("application/vnd.oci.image.config.v1+json", None);
    }

    #[test]
    fn b044_parameters_are_dropped() {
        let text = "application/vnd.oci.image.index.v1+json; charset=ISO-8859-1";
        assert_eq!(MediaType::from(text), MediaType::OciIndex);
    }
}
