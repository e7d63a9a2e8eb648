//! What an image consists of: all that its manifest, or its index with all its images, names.

use crate::oci::{Descriptor, Digest, Document, DocumentError, ImageIndex, Manifest};
use crate::store::{Store, StoreError};

/// Manifests and indexes are never larger (rule B049).
const LONGEST: u64 = 4 << 20;

/// Deeper nests of indexes are refused (rule B054).
const DEEPEST: usize = 3;

/// What an image or an index consists of.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Layers and configs, each once. They need not be in the store.
    pub blobs: Vec<Descriptor>,
    /// Manifests and indexes with their bytes, each after those that it names. The last is the image
    /// itself.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
}

/// Why the contents of an image are not known.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// A manifest or an index is missing or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest or an index is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It is neither a manifest nor an index.
    #[error("{0} is neither a manifest nor an index")]
    UnknownKind(Digest),
    /// There is no end to the indexes.
    #[error("{0} is an index within an index within an index")]
    TooDeep(Digest),
}

impl Store {
    /// Reads what `image`, a manifest or an index in the store, consists of.
    ///
    /// # Errors
    ///
    /// Fails if a manifest or an index is missing, damaged or malformed.
    pub fn contents(&self, image: &Descriptor) -> Result<Contents, ContentsError> {
        let mut contents = Contents::default();
        contents.add(self, image, 0)?;
        Ok(contents)
    }
}

impl Contents {
    fn add(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<(), ContentsError> {
        if self.manifests.iter().any(|(known, _)| known.digest == descriptor.digest) {
            return Ok(());
        }
        if depth > DEEPEST {
            return Err(ContentsError::TooDeep(descriptor.digest));
        }
        let bytes = store.read(descriptor, LONGEST)?;
        if descriptor.media_type.is_index() {
            let index: Document<ImageIndex> = Document::parse(bytes.clone(), "image index")?;
            for child in &index.value().manifests {
                self.add(store, child, depth + 1)?;
            }
        } else if descriptor.media_type.is_manifest() {
            let manifest: Document<Manifest> = Document::parse(bytes.clone(), "image manifest")?;
            let Manifest { layers, config, .. } = manifest.value();
            for blob in layers.iter().chain([config]) {
                if self.blobs.iter().all(|known| known.digest != blob.digest) {
                    self.blobs.push(blob.clone());
                }
            }
        } else {
            return Err(ContentsError::UnknownKind(descriptor.digest));
        }
        self.manifests.push((descriptor.clone(), bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn manifest(store: &Store, layers: &[&str]) -> Descriptor {
        let blob = |text: &&str| Descriptor::new(MediaType::OciConfig, Digest::of(text), 1);
        let manifest = Document::new(Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            config: blob(&"config"),
            layers: layers.iter().map(blob).collect(),
            artifact_type: None,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        });
        store.put_document(&manifest, MediaType::OciManifest).expect("space")
    }

    fn index(store: &Store, manifests: Vec<Descriptor>) -> Descriptor {
        let index = Document::new(ImageIndex { manifests, ..crate::store::index::empty() });
        store.put_document(&index, MediaType::OciIndex).expect("space")
    }

    #[test]
    fn b064_each_thing_comes_once_and_after_what_it_names() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let (one, two) = (manifest(&store, &["a", "b", "a"]), manifest(&store, &["b"]));
        let inner = index(&store, vec![one.clone()]);
        let outer = index(&store, vec![two.clone(), inner.clone(), one.clone()]);
        let contents = store.contents(&outer).expect("readable");
        let digests: Vec<_> = contents.manifests.iter().map(|(it, _)| it.digest).collect();
        assert_eq!(digests, [two.digest, one.digest, inner.digest, outer.digest]);
        let blobs: Vec<_> = contents.blobs.iter().map(|it| it.digest).collect();
        assert_eq!(blobs, ["b", "config", "a"].map(Digest::of));
    }

    #[test]
    fn b054_what_is_no_image_or_too_deep_is_an_error() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let config = store.put(b"{}", MediaType::OciConfig).expect("space");
        assert!(matches!(store.contents(&config), Err(ContentsError::UnknownKind(_))));
        let nested = (0..4).fold(manifest(&store, &[]), |inner, _| index(&store, vec![inner]));
        assert!(matches!(store.contents(&nested), Err(ContentsError::TooDeep(_))));
        let missing = Descriptor::new(MediaType::OciManifest, Digest::of("x"), 1);
        let error = store.contents(&index(&store, vec![missing])).expect_err("missing");
        assert!(matches!(error, ContentsError::Store(StoreError::Missing(_))), "{error}");
    }
}
