//! What a build made, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::build::ContextOrigin;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::LayerOrigin;
use crate::dockerfile::Warning;
use crate::image::StoredImage;
use crate::oci::Descriptor;
use crate::oci::ImageId;
use crate::oci::Platform;
use crate::oci::Reference;
use crate::transfer::Pushed;

/// What a build made.
#[derive(Debug)]
pub struct Outcome {
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's config.
    pub image_id: ImageId,
    /// What the image is for.
    pub platform: Platform,
    /// The layers, bottom first.
    pub layers: LayerCounts,
    /// Where it was pushed to.
    pub pushed: Vec<Pushed>,
    /// Where the context came from.
    pub origin: Option<ContextOrigin>,
    /// How long it all took.
    pub took: Duration,
    /// What works but should not be written, in the order of the Dockerfile.
    pub warnings: Vec<Warning>,
}

/// How many layers came from where, and how large they are, compressed, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerCounts {
    /// From the base image.
    pub base: usize,
    /// From steps of earlier builds.
    pub cached: usize,
    /// From steps of this build.
    pub built: usize,
    /// All of them together.
    pub size: u64,
    /// Those that the base does not have.
    pub own_size: u64,
}

impl Outcome {
    pub(crate) fn new(
        image: &StoredImage,
        built: &BuiltStage,
        pushed: Vec<Pushed>,
        took: Duration,
    ) -> Self {
        Self {
            manifest: image.descriptor.clone(),
            image_id: ImageId(image.config.digest()),
            platform: image.config.value().platform.clone(),
            layers: counts(built),
            pushed,
            origin: None,
            took,
            warnings: Vec::new(),
        }
    }

    /// The keys that `docker buildx build --metadata-file` writes.
    pub fn metadata(&self, tags: &[Reference]) -> Value {
        let names: Vec<String> = tags.iter().map(Reference::to_string).collect();
        let mut metadata = json!({
            "containerimage.config.digest": self.image_id,
            "containerimage.descriptor": {
                "mediaType": self.manifest.media_type,
                "digest": self.manifest.digest,
                "size": self.manifest.size,
                "platform": self.platform,
            },
            "containerimage.digest": self.manifest.digest,
        });
        if !names.is_empty() {
            metadata["image.name"] = names.join(",").into();
        }
        if let Some(origin) = &self.origin {
            let algorithm = if origin.commit.len() == 40 { "sha1" } else { "sha256" };
            metadata["buildx.build.provenance"] = json!({
                "invocation": {
                    "configSource": {
                        "uri": origin.uri,
                        "digest": { algorithm: origin.commit },
                    },
                },
            });
        }
        metadata
    }
}

fn counts(built: &BuiltStage) -> LayerCounts {
    let mut counts = LayerCounts::default();
    for layer in &built.layers {
        let size = layer.layer.descriptor.size;
        counts.size += size;
        match layer.origin {
            LayerOrigin::Base => counts.base += 1,
            LayerOrigin::Cache => counts.cached += 1,
            LayerOrigin::Step => counts.built += 1,
        }
        if layer.origin != LayerOrigin::Base {
            counts.own_size += size;
        }
    }
    counts
}
