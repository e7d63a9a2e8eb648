//! Small documents of an image: from the store if they are there, else from the registry and into
//! the store.

use std::io::Read as _;

use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::{Client, MAX_MANIFEST, manifest_type};
use crate::store::Store;
use crate::transfer::TransferError;

/// The documents of one repository.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    store: &'a Store,
    /// `None` if nobody but the store is to be asked.
    client: Option<&'a Client>,
    reference: &'a Reference,
}

impl<'a> Content<'a> {
    pub(crate) fn of(
        store: &'a Store,
        client: Option<&'a Client>,
        reference: &'a Reference,
    ) -> Self {
        Self { store, client, reference }
    }

    /// Whose documents these are.
    pub(crate) fn reference(&self) -> &'a Reference {
        self.reference
    }

    /// A manifest or an index.
    pub(crate) async fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransferError> {
        if let Some(bytes) = self.stored(descriptor, MAX_MANIFEST)? {
            return Ok(bytes);
        }
        let client = self.client.ok_or_else(|| self.missing(descriptor))?;
        let bytes = client.manifest(self.reference, descriptor).await;
        let bytes = bytes.map_err(TransferError::Registry)?;
        self.keep(&bytes, descriptor)?;
        Ok(bytes)
    }

    /// A blob of at most `limit` bytes.
    pub(crate) async fn small_blob(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, TransferError> {
        if let Some(bytes) = self.stored(descriptor, limit)? {
            return Ok(bytes);
        }
        let client = self.client.ok_or_else(|| self.missing(descriptor))?;
        let bytes = client.small_blob(self.reference, descriptor, limit).await;
        let bytes = bytes.map_err(TransferError::Registry)?;
        self.keep(&bytes, descriptor)?;
        Ok(bytes)
    }

    /// Puts a document that was verified into the store.
    pub(crate) fn keep(&self, bytes: &[u8], descriptor: &Descriptor) -> Result<(), TransferError> {
        let put = self.store.put(bytes, descriptor.media_type.clone());
        put.map(drop).map_err(TransferError::Store)
    }

    /// The descriptor of a manifest or index that is in the store, if `digest` is one's.
    pub(crate) fn stored_manifest(&self, digest: Digest) -> Option<Descriptor> {
        let size = self.store.size(&digest).filter(|size| *size <= MAX_MANIFEST)?;
        let mut bytes = Vec::new();
        let file = self.store.open_blob(&digest).ok()?;
        file.take(MAX_MANIFEST).read_to_end(&mut bytes).ok()?;
        let media_type = manifest_type(None, &bytes).ok()?;
        (Digest::of(&bytes) == digest).then(|| Descriptor::new(media_type, digest, size))
    }

    /// A document from the store. One that was damaged there counts as missing while somebody else
    /// can be asked, and is replaced.
    fn stored(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        if !self.store.has(descriptor) {
            return Ok(None);
        }
        match self.store.read(descriptor, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) if self.client.is_some() => Ok(None),
            Err(error) => Err(TransferError::Store(error)),
        }
    }

    fn missing(&self, descriptor: &Descriptor) -> TransferError {
        let (reference, digest) = (self.reference.clone(), descriptor.digest);
        TransferError::MissingContent { reference, digest }
    }
}
