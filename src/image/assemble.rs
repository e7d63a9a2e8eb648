//! From a planned config and its layers to the exact bytes of an image.
//!
//! Pure: equal inputs give equal bytes. There is no clock here; times come in with the layers.

use std::collections::BTreeMap;

use crate::image::history;
use crate::oci::{
    Descriptor, Document, ImageConfig, ImageId, Layer, Manifest, MediaType, Timestamp,
};

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The config, complete but for `created`, `rootfs.diff_ids` and the times in `history`.
    pub config: ImageConfig,
    /// How many entries of `config.history` the base image brought (rule A083).
    pub inherited_history: usize,
    /// The layers of the base image, bottom first.
    pub base: Vec<Layer>,
    /// The image's own layers, bottom first, each with the time when it was first made: for a step
    /// found in the cache, the time in its record. So a build that finds everything in the cache
    /// gives the same image again.
    pub own: Vec<(Layer, Timestamp)>,
    /// The time for an image in which nothing has a time, such as `FROM scratch` and `LABEL`.
    pub created: Timestamp,
    /// `SOURCE_DATE_EPOCH`: no time is later, except what the base image's history says.
    pub source_date_epoch: Option<Timestamp>,
}

/// A finished image: both documents with their exact bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The config.
    pub config: Document<ImageConfig>,
}

impl Assembled {
    /// The image ID: the digest of the config.
    pub fn id(&self) -> ImageId {
        ImageId(self.config.digest())
    }

    /// The descriptor of the manifest, as an index lists it.
    pub fn descriptor(&self) -> Descriptor {
        let manifest = &self.manifest;
        let platform = self.config.value().platform.clone();
        let descriptor =
            Descriptor::new(MediaType::OciManifest, manifest.digest(), manifest.size());
        Descriptor { platform: Some(platform), ..descriptor }
    }
}

/// Puts an image together: config and manifest, both of OCI types.
///
/// A layer that came with a Docker type keeps its bytes and so its digest, and gets the OCI type
/// that means the same, as `BuildKit` does when it writes an OCI manifest.
pub fn assemble(parts: Parts) -> Assembled {
    let history = history::complete(&parts);
    let Parts { mut config, base, own, created, source_date_epoch, .. } = parts;
    let layers: Vec<Layer> = base.into_iter().chain(own.into_iter().map(|(l, _)| l)).collect();

    let last = history.iter().rev().find_map(|entry| entry.created);
    config.created = Some(last.unwrap_or(created).clamped(source_date_epoch));
    config.history = history;
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let config = Document::new(config);

    let manifest = Document::new(Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        artifact_type: None,
        config: Descriptor::new(MediaType::OciConfig, config.digest(), config.size()),
        layers: layers.into_iter().map(|layer| in_oci_manifest(layer.descriptor)).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    });
    Assembled { manifest, config }
}

fn in_oci_manifest(layer: Descriptor) -> Descriptor {
    Descriptor { media_type: layer.media_type.to_oci(), ..layer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, DiffId, Digest, History};

    fn layer(name: &str, media_type: MediaType) -> Layer {
        Layer {
            descriptor: Descriptor::new(media_type, Digest::of(name), 3),
            diff_id: DiffId(Digest::of(format!("{name} unpacked"))),
        }
    }

    fn parts() -> Parts {
        let entry =
            |text: &str| History { created_by: Some(text.to_owned()), ..History::default() };
        let inherited = History { created: Some(Timestamp::from_seconds(900)), ..entry("base") };
        let config =
            ImageConfig { history: vec![inherited, entry("RUN x")], ..ImageConfig::default() };
        Parts {
            config,
            inherited_history: 1,
            base: vec![layer("base", MediaType::DockerLayer(Compression::Gzip))],
            own: vec![(
                layer("own", MediaType::OciLayer(Compression::Gzip)),
                Timestamp::from_seconds(1000),
            )],
            created: Timestamp::from_seconds(5000),
            source_date_epoch: None,
        }
    }

    #[test]
    fn b083_the_documents_fit_together_and_name_their_type() {
        let image = assemble(parts());
        let (manifest, config) = (image.manifest.value(), image.config.value());
        assert_eq!(manifest.config.digest, image.config.digest());
        assert_eq!(manifest.config.size, image.config.size());
        assert_eq!(manifest.media_type, Some(MediaType::OciManifest));
        assert_eq!(
            config.rootfs.diff_ids,
            [DiffId(Digest::of("base unpacked")), DiffId(Digest::of("own unpacked"))]
        );
        assert_eq!(image.descriptor().digest, image.manifest.digest());
    }

    #[test]
    fn a_layer_of_a_docker_image_keeps_its_digest_and_gets_an_oci_type() {
        let image = assemble(parts());
        let first = &image.manifest.value().layers[0];
        assert_eq!(first.digest, Digest::of("base"));
        assert_eq!(first.media_type, MediaType::OciLayer(Compression::Gzip));
    }

    #[test]
    fn a083_the_image_is_as_old_as_its_last_entry() {
        let created = |parts| assemble(parts).config.value().created;
        assert_eq!(created(parts()), Some(Timestamp::from_seconds(1000)));
        let epoch = Some(Timestamp::from_seconds(100));
        assert_eq!(created(Parts { source_date_epoch: epoch, ..parts() }), epoch);
    }

    #[test]
    fn equal_parts_give_equal_bytes() {
        assert_eq!(assemble(parts()).manifest.bytes(), assemble(parts()).manifest.bytes());
        let later = Parts { created: Timestamp::from_seconds(6000), ..parts() };
        assert_eq!(assemble(later).manifest.digest(), assemble(parts()).manifest.digest());
    }
}
