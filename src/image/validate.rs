//! Checks that an image keeps every rule that an image must keep.

use std::{fmt, io};

use crate::image::{ImageError, StoredImage};
use crate::layer::decompress::decompress;
use crate::oci::{Descriptor, DiffId, Digest, Digester, Layer, MediaType};
use crate::store::{Store, StoreError};

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The documents, and that every layer is there with the right size.
    Documents,
    /// Also the digest of every layer, compressed and not: reads and unpacks all of them.
    Content,
}

/// A rule that an image breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A blob is not in the store.
    Missing(Digest),
    /// A blob has another size than its descriptor says.
    Size {
        /// Which blob.
        digest: Digest,
        /// What the descriptor says.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// A blob does not have its digest.
    Content(Digest),
    /// A layer cannot be decompressed.
    Unreadable(Digest),
    /// A layer unpacks to something else than the config says.
    DiffId {
        /// Which layer.
        layer: Digest,
        /// What the config says.
        expected: DiffId,
        /// What it unpacks to.
        actual: DiffId,
    },
    /// The config lists more or fewer layers than the manifest.
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// The history speaks of more or fewer layers than there are.
    HistoryCount {
        /// Layers in the manifest.
        layers: usize,
        /// Entries that say that they made a layer.
        entries: usize,
    },
    /// A blob is not of the media type that belongs in its place.
    MediaType {
        /// The place: `manifest`, `config` or `layer`.
        place: &'static str,
        /// The type.
        found: MediaType,
    },
    /// The manifest's `schemaVersion` is not 2.
    SchemaVersion(u32),
    /// The config's `rootfs.type` is not `layers`.
    RootFsType(String),
    /// The config names no operating system or no architecture.
    NoPlatform,
    /// A document is not what the OCI's own types for it take.
    Specification {
        /// The document: `manifest` or `config`.
        place: &'static str,
        /// What they say.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(digest) => write!(f, "blob {digest} is missing"),
            Self::Size { digest, expected, actual } => {
                write!(f, "blob {digest} has {actual} bytes instead of {expected}")
            }
            Self::Content(digest) => write!(f, "blob {digest} does not have its digest"),
            Self::Unreadable(digest) => write!(f, "layer {digest} cannot be decompressed"),
            Self::DiffId { layer, expected, actual } => {
                write!(f, "layer {layer} unpacks to {actual} instead of {expected}")
            }
            Self::LayerCount { layers, diff_ids } => {
                write!(f, "{layers} layers but {diff_ids} diff_ids")
            }
            Self::HistoryCount { layers, entries } => {
                write!(f, "{layers} layers but {entries} history entries that made one")
            }
            Self::MediaType { place, found } => write!(f, "a {place} of type {found}"),
            Self::SchemaVersion(version) => write!(f, "schemaVersion {version} instead of 2"),
            Self::RootFsType(kind) => write!(f, "rootfs.type `{kind}` instead of `layers`"),
            Self::NoPlatform => write!(f, "no operating system or no architecture"),
            Self::Specification { place, reason } => write!(f, "the {place} is none: {reason}"),
        }
    }
}

/// Checks the image whose manifest `descriptor` describes, and all of it that is in the store.
///
/// # Errors
///
/// [`ImageError::Invalid`] with all problems found; other errors if it could not be looked at.
pub fn validate(
    store: &Store,
    descriptor: &Descriptor,
    depth: Depth,
) -> Result<StoredImage, ImageError> {
    let image = StoredImage::read(store, descriptor)?;
    let mut problems = documents(&image);
    problems.extend(second_opinion(&image));
    for layer in &image.manifest.value().layers {
        match store.size(&layer.digest) {
            // A foreign layer is had from elsewhere (rule B055).
            None if layer.media_type.is_foreign() => {}
            None => problems.push(Problem::Missing(layer.digest)),
            Some(actual) if actual == layer.size => {}
            Some(actual) => {
                let (digest, expected) = (layer.digest, layer.size);
                problems.push(Problem::Size { digest, expected, actual });
            }
        }
    }
    if depth == Depth::Content && problems.is_empty() {
        for layer in image.layers().iter().filter(|l| store.contains(&l.descriptor.digest)) {
            problems.extend(content(store, layer)?);
        }
    }
    if problems.is_empty() { Ok(image) } else { Err(ImageError::Invalid(problems)) }
}

/// What the two documents alone show.
fn documents(image: &StoredImage) -> Vec<Problem> {
    let (manifest, config) = (image.manifest.value(), image.config.value());
    let mut problems = Vec::new();
    if manifest.schema_version != 2 {
        problems.push(Problem::SchemaVersion(manifest.schema_version));
    }
    let mut check = |place, found: &MediaType, good: bool| {
        if !good {
            problems.push(Problem::MediaType { place, found: found.clone() });
        }
    };
    let declared = manifest.media_type.as_ref().unwrap_or(&image.descriptor.media_type);
    let agrees = *declared == image.descriptor.media_type;
    check("manifest", declared, agrees && declared.is_manifest());
    let kind = &manifest.config.media_type;
    check("config", kind, matches!(kind, MediaType::OciConfig | MediaType::DockerConfig));
    for layer in &manifest.layers {
        check("layer", &layer.media_type, layer.media_type.layer_compression().is_some());
    }
    if config.rootfs.kind != "layers" {
        problems.push(Problem::RootFsType(config.rootfs.kind.clone()));
    }
    if config.platform.os.is_empty() || config.platform.architecture.is_empty() {
        problems.push(Problem::NoPlatform);
    }
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        problems.push(Problem::LayerCount { layers, diff_ids });
    }
    let entries = config.history.iter().filter(|entry| !entry.empty_layer).count();
    if entries != layers && !config.history.is_empty() {
        problems.push(Problem::HistoryCount { layers, entries });
    }
    problems
}

/// What the documents look like to the types that others read them with.
fn second_opinion(image: &StoredImage) -> impl Iterator<Item = Problem> {
    let manifest = oci_spec::image::ImageManifest::from_reader(image.manifest.bytes());
    let config = oci_spec::image::ImageConfiguration::from_reader(image.config.bytes());
    let problems = [("manifest", manifest.err()), ("config", config.err())];
    problems.into_iter().filter_map(|(place, error)| {
        error.map(|error| Problem::Specification { place, reason: error.to_string() })
    })
}

/// What a layer's bytes show.
fn content(store: &Store, layer: &Layer) -> Result<Option<Problem>, ImageError> {
    let digest = layer.descriptor.digest;
    // The whole blob is hashed first: what follows may stop at the end of the compressed stream.
    let mut blob = store.open_verified(&layer.descriptor)?;
    if let Err(error) = io::copy(&mut blob, &mut io::sink()) {
        return match StoreError::unwrap_io("read", digest.to_string(), error) {
            StoreError::WrongDigest { .. } => Ok(Some(Problem::Content(digest))),
            error => Err(error.into()),
        };
    }
    let mut digester = Digester::new();
    let unpacked = decompress(store.open_blob(&digest)?)
        .and_then(|mut layer| io::copy(&mut layer, &mut digester));
    let (expected, actual) = (layer.diff_id, DiffId(digester.finish()));
    Ok(match unpacked {
        Err(_) => Some(Problem::Unreadable(digest)),
        Ok(_) if actual == expected => None,
        Ok(_) => Some(Problem::DiffId { layer: digest, expected, actual }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Parts;
    use crate::image::assemble;
    use crate::oci::{Compression, History, ImageConfig, Manifest, Platform, Timestamp};

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        (root, store)
    }

    fn layer(store: &Store, content: &[u8], diff_id: &[u8]) -> Layer {
        let media_type = MediaType::OciLayer(Compression::None);
        let descriptor = store.put(content, media_type).expect("space");
        Layer { descriptor, diff_id: DiffId(Digest::of(diff_id)) }
    }

    fn image(store: &Store, layer: Layer) -> StoredImage {
        let config = ImageConfig {
            platform: Platform::host(),
            history: vec![History::default()],
            ..ImageConfig::default()
        };
        let parts = Parts {
            config,
            inherited_history: 0,
            base: vec![],
            own: vec![(layer, Timestamp::EPOCH)],
            created: Timestamp::EPOCH,
            source_date_epoch: None,
        };
        assemble(parts).save(store).expect("space")
    }

    fn problems(store: &Store, image: &Descriptor) -> Vec<Problem> {
        match validate(store, image, Depth::Content) {
            Ok(_) => Vec::new(),
            Err(ImageError::Invalid(problems)) => problems,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_assemble_makes_is_well_formed() {
        let (_root, store) = store();
        let image = image(&store, layer(&store, b"tar", b"tar"));
        assert_eq!(problems(&store, &image.descriptor), []);
    }

    #[test]
    fn a_layer_that_unpacks_to_something_else_is_found() {
        let (_root, store) = store();
        let layer = layer(&store, b"tar", b"other");
        let image = image(&store, layer.clone());
        let (expected, actual) = (layer.diff_id, DiffId(Digest::of("tar")));
        let layer = layer.descriptor.digest;
        let problem = Problem::DiffId { layer, expected, actual };
        assert_eq!(problems(&store, &image.descriptor), [problem]);
    }

    #[test]
    fn layers_that_are_missing_short_or_altered_are_found() {
        let (root, store) = store();
        let image = image(&store, layer(&store, b"tar", b"tar"));
        let digest = Digest::of("tar");
        let path = root.path().join("blobs/sha256").join(digest.hex());
        for (content, problem) in [
            ("rat", Problem::Content(digest)),
            ("ta", Problem::Size { digest, expected: 3, actual: 2 }),
            ("", Problem::Missing(digest)),
        ] {
            std::fs::write(&path, content).expect("writable");
            assert_eq!(problems(&store, &image.descriptor), [problem]);
        }
    }

    #[test]
    fn documents_that_contradict_each_other_are_found() {
        let (_root, store) = store();
        let image = image(&store, layer(&store, b"tar", b"tar"));
        let mut manifest: Manifest = image.manifest.value().clone();
        manifest.layers.push(manifest.layers[0].clone());
        manifest.layers[1].media_type = MediaType::OciConfig;
        manifest.schema_version = 1;
        let bytes = serde_json::to_vec(&manifest).expect("serialisable");
        let descriptor = store.put(&bytes, MediaType::OciManifest).expect("space");
        let expected = [
            Problem::SchemaVersion(1),
            Problem::MediaType { place: "layer", found: MediaType::OciConfig },
            Problem::LayerCount { layers: 2, diff_ids: 1 },
            Problem::HistoryCount { layers: 2, entries: 1 },
        ];
        assert_eq!(problems(&store, &descriptor), expected);
    }
}
