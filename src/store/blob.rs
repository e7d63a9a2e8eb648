//! Blobs on their way into the store.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::oci::{Descriptor, Digest, Digester, MediaType};
use crate::store::StoreError;
use crate::store::publish::create;
use crate::store::workspace::Workspace;

/// A blob being written. It has no digest, and nobody can read it, until it is committed.
///
/// Dropping it instead removes the temporary file. It can be moved to another thread; a writer and
/// a [`TempDir`](crate::store::TempDir) keep the store open (see [`Store::prune`]).
///
/// [`Store::prune`]: crate::store::Store::prune
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    temporary: PathBuf,
    /// `blobs/sha256`.
    blobs: PathBuf,
    digester: Digester,
    size: u64,
    /// What the blob has to be, where that is known from the start.
    promised: Option<(Digest, u64)>,
    _workspace: Arc<Workspace>,
}

impl BlobWriter {
    pub(crate) fn create(
        workspace: &Arc<Workspace>,
        blobs: &Path,
        promised: Option<&Descriptor>,
    ) -> Result<Self, StoreError> {
        let temporary = workspace.path("blob");
        Ok(Self {
            file: create(&temporary, 0o644)?,
            temporary,
            blobs: blobs.to_owned(),
            digester: Digester::new(),
            size: 0,
            promised: promised.map(|descriptor| (descriptor.digest, descriptor.size)),
            _workspace: Arc::clone(workspace),
        })
    }

    /// How many bytes have been written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Publishes the blob under the digest of its bytes.
    ///
    /// Idempotent: success means that the store has this blob, not that it had not.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be renamed; the blob is then not in the store.
    pub fn commit(self, media_type: MediaType) -> Result<Descriptor, StoreError> {
        let digest = self.digester.clone().finish();
        let size = self.size;
        self.publish(digest)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Publishes the blob if it is the one that `expected` describes; otherwise nothing is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongSize`] and [`StoreError::WrongDigest`] if it is not.
    pub fn commit_verified(self, expected: &Descriptor) -> Result<(), StoreError> {
        let Descriptor { digest, size, .. } = *expected;
        if self.size != size {
            return Err(StoreError::WrongSize { digest, expected: size, actual: self.size });
        }
        let actual = self.digester.clone().finish();
        if actual != digest {
            return Err(StoreError::WrongDigest { expected: digest, actual });
        }
        self.publish(digest)
    }

    /// There is no `fsync`: a blob can always be made or fetched again, and waiting for the disk
    /// after each layer would cost more than that. After a power cut (not after a kill) the file
    /// may therefore be empty or short; `Store::contains` and `Store::open_blob` look at the size,
    /// and a blob that is committed again replaces such a file.
    fn publish(self, digest: Digest) -> Result<(), StoreError> {
        let path = self.blobs.join(digest.hex());
        fs::rename(&self.temporary, &path).map_err(|source| StoreError::io("create", &path, source))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((digest, expected)) = self.promised {
            let actual = self.size.saturating_add(bytes.len() as u64);
            if actual > expected {
                let error = StoreError::WrongSize { digest, expected, actual };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        let count = self.file.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a commit there is no file of that name any more.
        fs::remove_file(&self.temporary).ok();
    }
}
