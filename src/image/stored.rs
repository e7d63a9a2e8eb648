//! An image in the store, read back.

use crate::image::{Assembled, ImageError};
use crate::oci::{Descriptor, Document, ImageConfig, Layer, Manifest, MediaType};
use crate::store::Store;

/// Registries allow manifests of 4 MiB (rule B043); configs are of the same order.
const LIMIT: u64 = 4 << 20;

/// The manifest and the config of an image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredImage {
    /// The descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The config.
    pub config: Document<ImageConfig>,
}

impl StoredImage {
    /// Reads the image whose manifest `descriptor` describes.
    ///
    /// # Errors
    ///
    /// Fails if a document is missing, too large, altered, or not what it should be.
    pub fn read(store: &Store, descriptor: &Descriptor) -> Result<Self, ImageError> {
        let manifest: Document<Manifest> =
            Document::parse(store.read(descriptor, LIMIT)?, "image manifest")?;
        let config = store.read(&manifest.value().config, LIMIT)?;
        let config = Document::parse(config, "image config")?;
        Ok(Self { descriptor: descriptor.clone(), manifest, config })
    }

    /// Its layers, bottom first. A layer without a diff ID is left out, and the other way round:
    /// [`validate`](crate::image::validate()) finds that.
    pub fn layers(&self) -> Vec<Layer> {
        let diff_ids = self.config.value().rootfs.diff_ids.iter();
        let layers = self.manifest.value().layers.iter().zip(diff_ids);
        layers.map(|(d, id)| Layer { descriptor: d.clone(), diff_id: *id }).collect()
    }

    /// Every blob that is part of the image, each once: manifest, config, layers.
    pub(crate) fn blobs(&self) -> Vec<Descriptor> {
        let manifest = self.manifest.value();
        let all = [&self.descriptor, &manifest.config].into_iter().chain(&manifest.layers);
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in all {
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(blob.clone());
            }
        }
        blobs
    }
}

impl Assembled {
    /// Puts both documents into the store, whose layers are there already or need not be.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be written.
    pub fn save(&self, store: &Store) -> Result<StoredImage, ImageError> {
        store.put_document(&self.config, MediaType::OciConfig)?;
        store.put_document(&self.manifest, MediaType::OciManifest)?;
        let (manifest, config) = (self.manifest.clone(), self.config.clone());
        Ok(StoredImage { descriptor: self.descriptor(), manifest, config })
    }
}
