//! Blobs that are being fetched, kept across a kill, so that the next process goes on.
//!
//! `tmp/partial/<hex>` is the beginning of a blob; `<hex>.checked` says up to where it was once
//! hashed, and to what. Whoever takes the file up hashes it again, and cuts off what lies beyond the
//! note, or all of it where the two disagree: after a power cut a file may have its length and not
//! its content. A file is locked (flock) by its one user; another process that wants the same blob
//! meanwhile fetches it into a temporary file of its own, as if nothing had been kept.
//!
//! The whole blob is verified when it is committed, as every other.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::oci::{Descriptor, Digest, Digester};
use crate::store::publish::{Durability, create_dir, replace};
use crate::store::{BlobWriter, Store, StoreError};

/// How many bytes are written at least before the note is renewed.
const NOTE_EVERY: u64 = 4 << 20;

/// How long it is left alone at least: a fast network fetches again in no time what a kill costs.
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// Blobs that are smaller are not worth a file that survives.
const SMALLEST: u64 = 1 << 20;

/// A blob that is being fetched, from wherever an earlier process left off.
#[derive(Debug)]
pub struct PartialBlob {
    writer: BlobWriter,
    /// Where it is, if it survives this process.
    kept: Option<PathBuf>,
    noted: u64,
    noted_at: Instant,
    store: Store,
}

/// Partial blobs.
impl Store {
    /// Begins a blob that comes from outside, or goes on with it where an earlier process was
    /// interrupted: see [`PartialBlob::offset`].
    ///
    /// # Errors
    ///
    /// Fails if no file can be made.
    pub fn resume(&self, expected: &Descriptor) -> Result<PartialBlob, StoreError> {
        let path = self.partials().join(expected.digest.hex());
        let directory = self.partials();
        let claimed = if expected.size >= SMALLEST { claim(&path, &directory)? } else { None };
        let Some(file) = claimed else {
            let writer = self.writer_for(expected)?;
            return Ok(PartialBlob::new(writer, None, self));
        };
        let (digester, size) = trusted(&file, &path, expected)
            .map_err(|source| StoreError::io("read", &path, source))?;
        let writer = self.writer_at(file, path.clone(), expected, digester, size);
        Ok(PartialBlob::new(writer, Some(path), self))
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root().join("tmp/partial")
    }
}

impl PartialBlob {
    fn new(writer: BlobWriter, kept: Option<PathBuf>, store: &Store) -> Self {
        let (noted, noted_at) = (writer.size(), Instant::now());
        Self { writer, kept, noted, noted_at, store: store.clone() }
    }

    /// How many bytes are here already.
    pub fn offset(&self) -> u64 {
        self.writer.size()
    }

    /// Forgets what is here, and begins with the first byte.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be cut.
    pub fn restart(&mut self) -> io::Result<()> {
        if let Some(path) = &self.kept {
            // Without a note nothing of the file is believed.
            let _ = fs::remove_file(note_path(path));
        }
        self.noted = 0;
        self.writer.restart()
    }

    /// Publishes the blob if it is the one that `expected` describes; otherwise nothing is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongSize`] and [`StoreError::WrongDigest`] if it is not.
    pub fn commit_verified(mut self, expected: &Descriptor) -> Result<(), StoreError> {
        if let Some(path) = self.kept.take() {
            let _ = fs::remove_file(note_path(&path));
        }
        self.writer.publish_verified(expected)
    }

    /// Notes what the file holds by now. Failing costs bytes that come again, no more.
    fn note(&mut self) {
        let Some(path) = &self.kept else { return };
        (self.noted, self.noted_at) = (self.writer.size(), Instant::now());
        let text = format!("{} {}\n", self.noted, self.writer.digester().finish());
        let temporary = self.store.workspace.path("note");
        let durability = Durability::Replaceable;
        let _ = replace(&note_path(path), &temporary, text.as_bytes(), 0o600, durability);
    }
}

impl Write for PartialBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        let is_due = self.writer.size() - self.noted >= NOTE_EVERY;
        if is_due && self.noted_at.elapsed() >= NOTE_PAUSE {
            self.note();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for PartialBlob {
    fn drop(&mut self) {
        if self.kept.is_some() && self.writer.size() > 0 {
            self.note();
            self.writer.keep();
        }
    }
}

/// Opens the file for this process alone; `None` if another one is at it.
fn claim(path: &Path, directory: &Path) -> Result<Option<File>, StoreError> {
    create_dir(directory, 0o700)?;
    let failed = |source| StoreError::io("open", path, source);
    // Whoever had it may publish it between our opening and our locking it: then look again.
    for _ in 0..100 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed)?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let ours = file.metadata().map_err(failed)?;
        let there = fs::symlink_metadata(path);
        if there.is_ok_and(|it| (it.dev(), it.ino()) == (ours.dev(), ours.ino())) {
            file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Cuts the file to what is noted and right, and gives the hash of that.
fn trusted(mut file: &File, path: &Path, expected: &Descriptor) -> io::Result<(Digester, u64)> {
    let length = file.metadata()?.len();
    let noted = read_note(path).filter(|(size, _)| *size <= length && *size < expected.size);
    let mut digester = Digester::new();
    let mut size = 0;
    if let Some((noted, digest)) = noted {
        let mut buffer = vec![0; 256 << 10];
        let mut rest = file.take(noted);
        loop {
            let count = rest.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digester.update(&buffer[..count]);
        }
        if digester.clone().finish() == digest {
            size = noted;
        } else {
            digester = Digester::new();
        }
    }
    // ext4 writes a file that was cut to nothing out to the disk when it is closed.
    if length != size {
        file.set_len(size)?;
    }
    file.seek(SeekFrom::Start(size))?;
    Ok((digester, size))
}

fn read_note(path: &Path) -> Option<(u64, Digest)> {
    let mut text = String::new();
    File::open(note_path(path)).ok()?.take(200).read_to_string(&mut text).ok()?;
    let (size, digest) = text.trim().split_once(' ')?;
    Some((size.parse().ok()?, digest.parse().ok()?))
}

fn note_path(path: &Path) -> PathBuf {
    path.with_extension("checked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        (root, store)
    }

    fn big() -> (Vec<u8>, Descriptor) {
        let bytes: Vec<u8> = (0..=250).cycle().take(9 << 20).collect();
        let kind = MediaType::from("application/vnd.oci.image.layer.v1.tar");
        let descriptor = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
        (bytes, descriptor)
    }

    #[test]
    fn b057_what_a_process_left_is_gone_on_with() {
        let (root, store) = store();
        let (bytes, descriptor) = big();
        let mut blob = store.resume(&descriptor).expect("a file");
        assert_eq!(blob.offset(), 0);
        blob.write_all(&bytes[..5_000_000]).expect("space");
        let meanwhile = store.resume(&descriptor).expect("another file");
        assert_eq!(meanwhile.offset(), 0, "the file has one user");
        drop(meanwhile);
        drop(blob);
        drop(store);
        let store = Store::open(root.path()).expect("the same store");
        let mut blob = store.resume(&descriptor).expect("the file");
        assert_eq!(blob.offset(), 5_000_000);
        assert_eq!(blob.writer.digester().finish(), Digest::of(&bytes[..5_000_000]));
        blob.write_all(&bytes[5_000_000..]).expect("space");
        blob.commit_verified(&descriptor).expect("the blob");
        assert_eq!(store.read(&descriptor, 1 << 30).expect("there"), bytes);
        assert_eq!(fs::read_dir(store.partials()).expect("readable").count(), 0);
    }

    #[test]
    fn b048_what_is_not_noted_or_not_right_is_cut_off() {
        let (_root, store) = store();
        let (bytes, descriptor) = big();
        let path = store.partials().join(descriptor.digest.hex());
        let mut blob = store.resume(&descriptor).expect("a file");
        blob.write_all(&bytes[..5_000_000]).expect("space");
        drop(blob);
        // As a kill leaves it: more bytes than the note knows of.
        let mut file = OpenOptions::new().append(true).open(&path).expect("it survives");
        file.write_all(b"more").expect("space");
        assert_eq!(store.resume(&descriptor).expect("the file").offset(), 5_000_000);
        // As a power cut leaves it: the length without the content.
        let file = OpenOptions::new().write(true).open(&path).expect("it survives");
        file.set_len(0).expect("cut");
        file.set_len(5_000_000).expect("zeros");
        assert_eq!(store.resume(&descriptor).expect("the file").offset(), 0);
    }

    #[test]
    fn b048_a_wrong_whole_is_not_kept() {
        let (_root, store) = store();
        let (mut bytes, descriptor) = big();
        bytes[7] ^= 1;
        let mut blob = store.resume(&descriptor).expect("a file");
        blob.write_all(&bytes).expect("space");
        let error = blob.commit_verified(&descriptor).expect_err("wrong");
        assert!(matches!(error, StoreError::WrongDigest { .. }));
        assert_eq!(store.resume(&descriptor).expect("a file").offset(), 0);
        let mut blob = store.resume(&descriptor).expect("a file");
        blob.write_all(&bytes[..2_000_000]).expect("space");
        blob.restart().expect("cut");
        assert_eq!((blob.offset(), blob.writer.digester().finish()), (0, Digest::of("")));
    }
}
