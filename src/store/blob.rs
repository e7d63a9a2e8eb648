//! Blobs on their way into the store.

use std::{
    fs::{self, File},
    io::{self, Seek as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::oci::{Descriptor, Digest, Digester, Document, MediaType};
use crate::store::publish::create;
use crate::store::workspace::Workspace;
use crate::store::{Store, StoreError, VerifiedReader};

/// A blob being written. It has no digest, and nobody can read it, until it is committed.
///
/// Dropping it instead removes the temporary file. It can be moved to another thread; a writer and
/// a [`TempDir`](crate::store::TempDir) keep the store open (see [`Store::alone`]).
///
/// [`Store::alone`]: crate::store::Store::alone
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
    /// The file is to survive an end without a commit.
    kept: bool,
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
            kept: false,
            _workspace: Arc::clone(workspace),
        })
    }

    /// How many bytes have been written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file for somebody who reads what has been written so far, at offsets. It can be read
    /// after a commit too, and after the blob was dropped.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be opened.
    pub fn reader(&self) -> Result<File, StoreError> {
        File::open(&self.temporary)
            .map_err(|source| StoreError::io("open", &self.temporary, source))
    }

    /// Publishes the blob under the digest of its bytes.
    ///
    /// Idempotent: success means that the store has this blob, not that it had not.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be renamed; the blob is then not in the store.
    pub fn commit(mut self, media_type: MediaType) -> Result<Descriptor, StoreError> {
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
    pub fn commit_verified(mut self, expected: &Descriptor) -> Result<(), StoreError> {
        self.publish_verified(expected)
    }

    /// The same, for a writer that is a part of something else.
    pub(crate) fn publish_verified(&mut self, expected: &Descriptor) -> Result<(), StoreError> {
        self.kept = false;
        self.verify(expected)?;
        self.publish(expected.digest)
    }

    fn verify(&self, expected: &Descriptor) -> Result<(), StoreError> {
        let Descriptor { digest, size, .. } = *expected;
        if self.size != size {
            return Err(StoreError::WrongSize { digest, expected: size, actual: self.size });
        }
        let actual = self.digester.clone().finish();
        if actual != digest {
            return Err(StoreError::WrongDigest { expected: digest, actual });
        }
        Ok(())
    }

    /// The blob as a file without a name, if it is the one that `expected` describes: for one that
    /// only passes through, and is gone with the file.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongSize`] and [`StoreError::WrongDigest`] if it is not.
    pub fn into_file(self, expected: &Descriptor) -> Result<File, StoreError> {
        self.verify(expected)?;
        self.file.try_clone().map_err(|source| StoreError::io("open", &self.temporary, source))
    }

    /// The running hash.
    pub(crate) fn digester(&self) -> Digester {
        self.digester.clone()
    }

    /// Lets the file survive.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// Begins with the first byte again.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.size, self.digester) = (0, Digester::new());
        Ok(())
    }

    /// There is no `fsync`: a blob can always be made or fetched again, and waiting for the disk
    /// after each layer would cost more than that. After a power cut (not after a kill) the file
    /// may therefore be empty or short; `Store::contains` and `Store::open_blob` look at the size,
    /// and a blob that is committed again replaces such a file.
    fn publish(&mut self, digest: Digest) -> Result<(), StoreError> {
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
        if !self.kept {
            // After a commit there is no file of that name any more.
            fs::remove_file(&self.temporary).ok();
        }
    }
}

/// Blobs.
impl Store {
    /// Begins a blob whose digest is not known yet.
    ///
    /// # Errors
    ///
    /// Fails if the temporary file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::create(&self.workspace, &self.blobs(), None)
    }

    /// Begins a blob that comes from outside: writing more bytes than `expected` promises fails.
    /// End it with [`BlobWriter::commit_verified`].
    ///
    /// # Errors
    ///
    /// Fails if the temporary file cannot be made.
    pub fn writer_for(&self, expected: &Descriptor) -> Result<BlobWriter, StoreError> {
        BlobWriter::create(&self.workspace, &self.blobs(), Some(expected))
    }

    /// Goes on with a file that has the first `size` bytes already.
    pub(crate) fn writer_at(
        &self,
        file: File,
        path: PathBuf,
        expected: &Descriptor,
        digester: Digester,
        size: u64,
    ) -> BlobWriter {
        BlobWriter {
            file,
            temporary: path,
            blobs: self.blobs(),
            digester,
            size,
            promised: Some((expected.digest, expected.size)),
            kept: false,
            _workspace: Arc::clone(&self.workspace),
        }
    }

    /// Stores a small document.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn put(&self, bytes: &[u8], media_type: MediaType) -> Result<Descriptor, StoreError> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|e| StoreError::unwrap_io("write", self.blobs(), e))?;
        writer.commit(media_type)
    }

    /// Stores a document that has its bytes already.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn put_document<T>(
        &self,
        document: &Document<T>,
        media_type: MediaType,
    ) -> Result<Descriptor, StoreError> {
        self.put(document.bytes(), media_type)
    }

    /// Whether the blob is here, so that it need not be fetched or made.
    ///
    /// An empty file, as a power cut leaves it, does not count, unless the blob is the empty one.
    /// Where the size is known, [`has`](Self::has) is stricter.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Whether the blob is here with the size that its descriptor promises.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        self.size(&descriptor.digest) == Some(descriptor.size)
    }

    /// The size of a blob that is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.blob_path(digest)).ok()?;
        let plausible = metadata.is_file() && (metadata.len() > 0 || *digest == Digest::of(""));
        plausible.then_some(metadata.len())
    }

    /// Opens a blob. Its bytes were verified when it was stored, and are not verified again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if it is not here.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.blob_path(digest);
        if !self.contains(digest) {
            return Err(StoreError::Missing(*digest));
        }
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => StoreError::io("open", &path, source),
        })
    }

    /// Opens a blob that is verified again while it is read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if it is not here.
    pub fn open_verified(
        &self,
        descriptor: &Descriptor,
    ) -> Result<VerifiedReader<File>, StoreError> {
        Ok(VerifiedReader::new(self.open_blob(&descriptor.digest)?, descriptor))
    }

    /// Reads a small document of at most `limit` bytes, and verifies it.
    ///
    /// # Errors
    ///
    /// Fails if it is missing, larger, or not what the descriptor promises.
    pub fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.open_verified(descriptor)?.read_all(limit)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        (root, store)
    }

    fn files(store: &Store) -> usize {
        fs::read_dir(store.blobs()).expect("readable").count()
    }

    #[test]
    fn a_committed_blob_is_there_under_its_digest_and_twice_is_once() {
        let (_root, store) = store();
        let descriptor = store.put(b"abc", MediaType::OciConfig).expect("space");
        assert_eq!(descriptor, Descriptor::new(MediaType::OciConfig, Digest::of("abc"), 3));
        assert_eq!(store.put(b"abc", MediaType::OciConfig).expect("space"), descriptor);
        assert_eq!(files(&store), 1);
        assert!(store.has(&descriptor));
        assert_eq!(store.read(&descriptor, 3).expect("there"), b"abc");
        let mode = fs::metadata(store.blob_path(&descriptor.digest)).expect("there");
        assert_eq!(mode.permissions().mode() & 0o7777, 0o644);
    }

    #[test]
    fn a_blob_that_was_never_committed_leaves_nothing() {
        let (_root, store) = store();
        let mut writer = store.writer().expect("a writer");
        writer.write_all(b"abc").expect("space");
        let temporary = writer.temporary.clone();
        assert!(temporary.exists());
        drop(writer);
        assert!(!temporary.exists());
        assert!(!store.contains(&Digest::of("abc")));
        let error = store.open_blob(&Digest::of("abc")).expect_err("not there");
        assert!(matches!(error, StoreError::Missing(_)));
    }

    #[test]
    fn a_blob_that_breaks_its_promise_is_not_kept() {
        let (_root, store) = store();
        let commit = |bytes: &[u8], promised: &Descriptor| {
            let mut writer = store.writer().expect("a writer");
            writer.write_all(bytes).expect("space");
            writer.commit_verified(promised)
        };
        let promised = Descriptor::new(MediaType::OciConfig, Digest::of("abc"), 3);
        let error = commit(b"ab", &promised).expect_err("too short");
        assert!(matches!(error, StoreError::WrongSize { expected: 3, actual: 2, .. }));
        let error = commit(b"abd", &promised).expect_err("another content");
        assert!(matches!(error, StoreError::WrongDigest { .. }));
        assert_eq!(files(&store), 0);
        commit(b"abc", &promised).expect("as promised");
        assert_eq!(files(&store), 1);
    }

    #[test]
    fn more_than_was_promised_is_refused_when_it_is_written() {
        let (_root, store) = store();
        let promised = Descriptor::new(MediaType::OciConfig, Digest::of("abc"), 3);
        let mut writer = store.writer_for(&promised).expect("a writer");
        writer.write_all(b"ab").expect("not too much");
        let error = writer.write_all(b"cd").expect_err("too much");
        let error = StoreError::unwrap_io("write", "x", error);
        assert!(matches!(error, StoreError::WrongSize { actual: 4, .. }));
    }

    #[test]
    fn what_a_power_cut_leaves_is_not_a_blob_and_is_replaced() {
        let (_root, store) = store();
        let descriptor = store.put(b"abc", MediaType::OciConfig).expect("space");
        let path = store.blob_path(&descriptor.digest);
        fs::write(&path, "").expect("writable");
        assert!(!store.contains(&descriptor.digest));
        fs::write(&path, "a").expect("writable");
        assert!(store.contains(&descriptor.digest) && !store.has(&descriptor));
        assert!(matches!(store.read(&descriptor, 3), Err(StoreError::WrongSize { .. })));
        store.put(b"abc", MediaType::OciConfig).expect("space");
        assert!(store.has(&descriptor));
    }

    #[test]
    fn the_empty_blob_is_a_blob() {
        let (_root, store) = store();
        let descriptor = store.put(b"", MediaType::OciConfig).expect("space");
        assert!(store.contains(&descriptor.digest));
        assert_eq!(store.read(&descriptor, 0).expect("there"), b"");
    }
}
