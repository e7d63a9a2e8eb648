//! Temporary files: one directory for each user of the store, removed when that user is gone.
//!
//! `tmp/coracle-<pid>-<random>/` holds everything that an open [`Store`](crate::store::Store) has
//! not published yet. Its file `lock` stays locked (flock) for as long as the store is open; the
//! kernel drops the lock with the process, however it ends. So whoever opens the store next can
//! tell what a killed process has left (its lock is free) from what a running one needs, with no
//! guessing about process numbers, which containers sharing a volume all count from 1.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::store::StoreError;
use crate::store::publish::{create, create_dir, open_lock};
use crate::store::remove::remove_quietly;

/// Only directories that begin so are ever removed from `tmp/`.
const PREFIX: &str = "coracle-";

/// This user's directory below `tmp/`.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
    names: AtomicU64,
    /// Says that this directory is in use.
    _lock: File,
    /// Says that the store is in use: locked, shared by all users of the store.
    pub(crate) in_use: File,
}

impl Workspace {
    /// Makes a directory below `tmp`, and moves those into it that nobody uses any more. The caller
    /// holds the store's lock.
    pub(crate) fn create(tmp: &Path, in_use: File) -> Result<Self, StoreError> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let path = tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(12)
            .tempdir_in(tmp)
            .map_err(|source| StoreError::io("create a directory in", tmp, source))?
            .keep();
        // `tempdir_in` leaves the mode to the umask.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(|source| StoreError::io("set the mode of", &path, source))?;
        let lock = create(&path.join("lock"), 0o600)?;
        lock.try_lock().map_err(|error| StoreError::io("lock", &path, error.into()))?;
        let workspace = Self { path, names: AtomicU64::new(0), _lock: lock, in_use };
        workspace.adopt_orphans(tmp)?;
        Ok(workspace)
    }

    /// A path in this directory that nothing uses.
    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        self.path.join(format!("{kind}-{}", self.names.fetch_add(1, Ordering::Relaxed)))
    }

    /// Removes what [`create`](Self::create) has moved here. May take long; needs no lock.
    pub(crate) fn remove_orphans(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"orphan-") {
                remove_quietly(&entry.path());
            }
        }
    }

    /// Moves directories whose owner is gone into this one, so that the slow part, removing them,
    /// needs no lock, and is taken up by the next process if this one is killed over it.
    fn adopt_orphans(&self, tmp: &Path) -> Result<(), StoreError> {
        let entries = fs::read_dir(tmp).map_err(|source| StoreError::io("list", tmp, source))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path != self.path && is_ours(&entry.file_name()) && is_orphan(&path) {
                // What cannot be moved belongs to somebody else, and is not worth a failed build.
                fs::rename(&path, self.path("orphan")).ok();
            }
        }
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        remove_quietly(&self.path);
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Whether nobody holds the lock of this directory.
fn is_orphan(path: &Path) -> bool {
    let lock = path.join("lock");
    // Without a lock file, its owner was killed before it could make one: makers hold the store's
    // lock, so none is at work now.
    if !lock.exists() {
        return path.is_dir();
    }
    open_lock(&lock).is_ok_and(|file| file.try_lock().is_ok())
}

/// A directory for work in progress, on the store's own file system: what is made in it can be
/// published by renaming it into the store.
///
/// Dropping it removes it with all that is in it, whatever the modes; if it has been renamed,
/// nothing.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    /// Keeps the directory around this one, and its lock.
    _workspace: Arc<Workspace>,
}

impl TempDir {
    pub(crate) fn create(workspace: &Arc<Workspace>) -> Result<Self, StoreError> {
        let path = workspace.path("dir");
        create_dir(&path, 0o700)?;
        Ok(Self { path, _workspace: Arc::clone(workspace) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        remove_quietly(&self.path);
    }
}
