//! Everything that a name stands for, as documents in the store: an index with all its images, but
//! no layer. What these consist of is remembered to be where they came from, so that a push can
//! mount it or pass it through.

use crate::oci::{Descriptor, Document, ImageConfig, ImageIndex, Manifest, Reference};
use crate::registry::{Client, MAX_MANIFEST};
use crate::store::Store;
use crate::transfer::TransferError;
use crate::transfer::content::Content;

/// Deeper nests of indexes are refused (rule B054).
const DEEPEST: usize = 3;

/// Reads the manifests of all that `reference` names at its registry, and gives the outermost.
///
/// # Errors
///
/// Fails if the registry does not answer as it should, or a document is malformed.
pub async fn gather(
    client: &Client,
    store: &Store,
    reference: &Reference,
) -> Result<Descriptor, TransferError> {
    let content = Content::of(store, Some(client), reference);
    let found = client.resolve(reference).await.map_err(TransferError::Registry)?;
    if let Some(bytes) = &found.bytes {
        content.keep(bytes, &found.descriptor)?;
    }
    read_all(&content, store, &found.descriptor, 0).await?;
    Ok(found.descriptor)
}

/// The images of `reference` as entries of an index: those of its own index, or the one that it is,
/// with the platform that its config names.
///
/// # Errors
///
/// Fails as [`gather`] does.
pub async fn gather_entries(
    client: &Client,
    store: &Store,
    reference: &Reference,
) -> Result<Vec<Descriptor>, TransferError> {
    let mut found = gather(client, store, reference).await?;
    let content = Content::of(store, Some(client), reference);
    let bytes = content.manifest(&found).await?;
    let unusable =
        |source| TransferError::Document { reference: Box::new(reference.clone()), source };
    if found.media_type.is_index() {
        let index: Document<ImageIndex> =
            Document::parse(bytes, "image index").map_err(unusable)?;
        return Ok(index.value().manifests.clone());
    }
    let manifest: Document<Manifest> =
        Document::parse(bytes, "image manifest").map_err(unusable)?;
    let config = content.small_blob(&manifest.value().config, MAX_MANIFEST).await?;
    // Charts and signatures have a config too, of another kind and for no platform.
    if let Ok(config) = Document::<ImageConfig>::parse(config, "image config") {
        let platform = config.value().platform.clone();
        found.platform = Some(platform).filter(|it| !it.architecture.is_empty());
    }
    Ok(vec![found])
}

async fn read_all(
    content: &Content<'_>,
    store: &Store,
    descriptor: &Descriptor,
    depth: usize,
) -> Result<(), TransferError> {
    let reference = content.reference();
    if depth > DEEPEST {
        return Err(TransferError::TooDeep(Box::new(reference.clone())));
    }
    let bytes = content.manifest(descriptor).await?;
    let unusable =
        |source| TransferError::Document { reference: Box::new(reference.clone()), source };
    if descriptor.media_type.is_index() {
        let index: Document<ImageIndex> =
            Document::parse(bytes, "image index").map_err(unusable)?;
        for entry in &index.value().manifests {
            Box::pin(read_all(content, store, entry, depth + 1)).await?;
        }
    } else {
        let manifest: Document<Manifest> =
            Document::parse(bytes, "image manifest").map_err(unusable)?;
        let Manifest { layers, config, .. } = manifest.value();
        for blob in layers.iter().chain([config]) {
            store.record_origin(&blob.digest, reference).map_err(TransferError::Store)?;
        }
    }
    Ok(())
}
