//! How large an image is, and why.

use crate::image::StoredImage;
use crate::oci::{Descriptor, Digest};

/// One layer and the instruction that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSize {
    /// The layer's blob.
    pub digest: Digest,
    /// How many bytes it has as it is stored and sent.
    pub size: u64,
    /// The instruction, as the history has it; empty where the history does not say.
    pub created_by: String,
}

/// The layers of the image, bottom first, with their sizes.
pub fn report(image: &StoredImage) -> Vec<LayerSize> {
    let made = image.config.value().history.iter().filter(|entry| !entry.empty_layer);
    let mut instructions = made.map(|entry| entry.created_by.clone().unwrap_or_default());
    let layers = image.manifest.value().layers.iter();
    let size = |layer: &Descriptor| LayerSize {
        digest: layer.digest,
        size: layer.size,
        created_by: instructions.next().unwrap_or_default(),
    };
    layers.map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::Fixture;

    #[test]
    fn each_layer_has_its_size_and_its_instruction() {
        let fixture = Fixture::new();
        let layer = &fixture.image.manifest.value().layers[0];
        let expected =
            LayerSize { digest: layer.digest, size: layer.size, created_by: "RUN one".to_owned() };
        assert_eq!(report(&fixture.image), [expected]);
    }
}
