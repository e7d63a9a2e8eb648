//! Directories that outlive builds and are in no layer: `RUN --mount=type=cache` (rule A157).
//!
//! `mounts/<key>/` is one cache, and has several places, numbered from 0, each with the directory
//! `data` and the file `lock`. A place stays locked (flock) for as long as it is used, shared or
//! not; the kernel drops the lock with the process. So all of this holds between processes too.
//!
//! A place's directory appears by rename, complete with whatever it starts with, and is never
//! removed while builds run.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::oci::Digest;
use crate::store::StoreError;
use crate::store::publish::{create_dir, open_lock};
use crate::store::{Store, TempDir};

/// More builds at once than this wait for each other even where they asked for a place of their own.
const MOST_PLACES: u32 = 1000;

/// How a cache is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// The common place, together with others.
    Shared,
    /// The first place that nobody uses.
    Apart,
    /// The common place, alone.
    Alone,
}

/// A cache in use, until this is dropped.
#[derive(Debug)]
pub struct HeldMount {
    cache: PathBuf,
    place: PathBuf,
    _lock: File,
}

impl Store {
    /// Takes hold of the cache `key`; `None` if others are in the way. Ask again later.
    ///
    /// # Errors
    ///
    /// Fails if the cache's directories cannot be made or locked.
    pub fn try_hold(&self, key: &Digest, hold: Hold) -> Result<Option<HeldMount>, StoreError> {
        let cache = self.root().join("mounts").join(key.hex());
        create_dir(&cache, 0o700)?;
        let places = if hold == Hold::Apart { MOST_PLACES } else { 1 };
        for number in 0..places {
            let place = cache.join(number.to_string());
            create_dir(&place, 0o700)?;
            let lock = open_lock(&place.join("lock"))?;
            let locked =
                if hold == Hold::Shared { lock.try_lock_shared() } else { lock.try_lock() };
            match locked {
                Ok(()) => return Ok(Some(HeldMount { cache, place, _lock: lock })),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::io("lock", &place, source));
                }
            }
        }
        Ok(None)
    }
}

impl HeldMount {
    /// The cache's directory. A new one is whatever `fill` makes of the path that it is given, where
    /// nothing is yet: a directory, or perhaps a file.
    ///
    /// # Errors
    ///
    /// Those of `fill`, and where the result cannot be put in its place.
    pub fn data<E: From<StoreError>>(
        &self,
        temporary: &TempDir,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let data = self.place.join("data");
        // Several may hold a shared place, and only one may fill it.
        let making = self.cache.join("making");
        let lock = open_lock(&making)?;
        lock.lock().map_err(|source| StoreError::io("lock", &making, source))?;
        if fs::symlink_metadata(&data).is_err() {
            let new = temporary.path().join("data");
            fill(&new)?;
            fs::rename(&new, &data).map_err(|source| StoreError::io("create", &data, source))?;
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(store: &Store, hold: Hold) -> Option<HeldMount> {
        store.try_hold(&Digest::of("cache"), hold).expect("a store of our own")
    }

    fn data(store: &Store, held: &HeldMount) -> PathBuf {
        let temporary = store.temp_dir().expect("a directory");
        let fill = |path: &Path| create_dir(path, 0o755);
        held.data::<StoreError>(&temporary, fill).expect("a directory")
    }

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        (root, store)
    }

    #[test]
    fn a157_a_shared_cache_is_one_and_survives_its_users() {
        let (_root, store) = store();
        let (one, two) = (held(&store, Hold::Shared), held(&store, Hold::Shared));
        let (one, two) = (one.expect("free"), two.expect("shared"));
        fs::write(data(&store, &one).join("f"), "x").expect("writable");
        assert!(data(&store, &two).join("f").exists());
        drop((one, two));
        let later = held(&store, Hold::Alone).expect("free");
        assert!(data(&store, &later).join("f").exists());
    }

    #[test]
    fn a157_a_locked_cache_is_waited_for() {
        let (_root, store) = store();
        let one = held(&store, Hold::Alone).expect("free");
        assert!(held(&store, Hold::Alone).is_none());
        assert!(held(&store, Hold::Shared).is_none());
        drop(one);
        let shared = held(&store, Hold::Shared).expect("free again");
        assert!(held(&store, Hold::Alone).is_none());
        drop(shared);
        assert!(held(&store, Hold::Alone).is_some());
    }

    #[test]
    fn a157_a_private_cache_in_use_makes_another_one() {
        let (_root, store) = store();
        let one = held(&store, Hold::Apart).expect("free");
        let two = held(&store, Hold::Apart).expect("another one");
        assert_ne!(data(&store, &one), data(&store, &two));
        let first = data(&store, &one);
        drop(one);
        assert_eq!(data(&store, &held(&store, Hold::Apart).expect("free again")), first);
    }
}
