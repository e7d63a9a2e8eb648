//! The layer that a step makes: how it is written, and how it gets into the store.

use crate::layer::LayerWriter;
use crate::layer::Written;
use crate::oci::Compression;
use crate::oci::Layer;
use crate::oci::MediaType;
use crate::oci::Timestamp;
use crate::store::StoreError;
use crate::transfer::LayerSink;

/// A writer whose layer goes to `sink`. Times later than `clamp` are set to it.
pub(crate) fn writer(sink: LayerSink, clamp: Option<Timestamp>) -> LayerWriter<LayerSink> {
    LayerWriter::new(sink, Compression::Gzip, clamp).indexed()
}

/// Publishes what was written in the store.
pub(crate) fn publish(layer: Written<LayerSink>) -> Result<Layer, StoreError> {
    let Written { sink, diff_id, index, .. } = layer;
    let mut descriptor = sink.commit(MediaType::OciLayer(Compression::Gzip))?;
    if let Some(index) = &index {
        index.announce(&mut descriptor);
    }
    Ok(Layer { descriptor, diff_id })
}
