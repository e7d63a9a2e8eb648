//! The cache in the store: one small file for each key.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};

use crate::cache::explain::explain;
use crate::cache::key::VERSION;
use crate::cache::{CacheKey, Explanation, Part};
use crate::oci::{Digest, Document, Layer, Timestamp};
use crate::store::{Store, StoreError};

/// A record with a thousand variables in it is far smaller.
const LIMIT: u64 = 1 << 20;

/// How many records are looked at for an explanation, which is not worth more time.
const MOST: usize = 20_000;

/// The cache of one store.
#[derive(Debug, Clone)]
pub struct LocalCache {
    directory: PathBuf,
}

/// What a step that has run before has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    /// The layer.
    pub layer: Layer,
    /// When it was first made.
    pub created: Timestamp,
}

/// The content of a file in `cache/`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    version: u32,
    key: Digest,
    instruction: String,
    parts: Vec<Part>,
    layer: Layer,
    created: Timestamp,
}

impl LocalCache {
    /// The cache of `store`. It does not keep the store open.
    pub fn new(store: &Store) -> Self {
        Self { directory: store.cache_dir() }
    }

    /// The layer that the step made when it last ran, if the layer can be had: it is in the store,
    /// or a registry is known to have it ([`Store::origins`]).
    pub fn lookup(&self, key: &CacheKey, store: &Store) -> Option<CachedLayer> {
        let path = self.path(key);
        let record = read(&path)?;
        let is_same = record.instruction == key.instruction() && record.parts == key.parts();
        if !is_same {
            return None;
        }
        let Record { layer, created, .. } = record;
        let digest = layer.descriptor.digest;
        let available = store.has(&layer.descriptor) || !store.origins(&[digest]).is_empty();
        if !available {
            return None;
        }
        touch(&path);
        Some(CachedLayer { layer, created })
    }

    /// Remembers what the step made, and when. An older record of the same key is replaced.
    ///
    /// # Errors
    ///
    /// Fails if the record cannot be written. The build need not fail for it.
    pub fn record(
        &self,
        key: &CacheKey,
        made: &CachedLayer,
        store: &Store,
    ) -> Result<(), StoreError> {
        let record = Record {
            version: VERSION,
            key: key.digest(),
            instruction: key.instruction().to_owned(),
            parts: key.parts().to_vec(),
            layer: made.layer.clone(),
            created: made.created,
        };
        store.publish(&self.path(key), Document::new(record).bytes())
    }

    /// What has changed since a step like this one was last run; `None` if none ever was.
    ///
    /// Also `None` for a key that is recorded, which happens when its layer is gone.
    pub fn explain(&self, key: &CacheKey) -> Option<Explanation> {
        let mut records: Vec<(SystemTime, Record)> = self
            .files()
            .ok()?
            .into_iter()
            .take(MOST)
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, read(&path)?)))
            .filter(|(_, record)| record.instruction == key.instruction())
            .collect();
        if records.iter().any(|(_, record)| record.key == key.digest()) {
            return None;
        }
        // The latest first. Equal times are told apart by key, so that the answer is always the
        // same.
        records.sort_by_key(|(used, record)| Reverse((*used, record.key)));
        explain(key, records.iter().map(|(_, record)| record.parts.as_slice()))
    }

    /// Forgets every step, or those that were neither recorded nor found since `unused_since`; says
    /// how many. Their layers stay until [`Alone::prune`](crate::store::Alone::prune).
    ///
    /// # Errors
    ///
    /// Fails if a record cannot be removed.
    pub fn forget(&self, unused_since: Option<SystemTime>) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for path in self.files().map_err(|e| StoreError::io("list", &self.directory, e))? {
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let is_unused = match (used, unused_since) {
                (Ok(used), Some(since)) => used < since,
                (Ok(_), None) => true,
                // Somebody else has just removed it.
                (Err(_), _) => false,
            };
            if is_unused {
                fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.directory.join(key.digest().hex())
    }

    /// The files that can be records.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_key = entry.file_name().len() == 2 * size_of::<Digest>();
            if is_key && entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }
}

/// The record in a file; `None` if it is missing, damaged, or of another version.
fn read(path: &Path) -> Option<Record> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes)).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    let is_ours = record.version == VERSION && path.file_name()? == record.key.hex().as_str();
    is_ours.then_some(record)
}

/// Notes that the record was of use. A store that cannot be written to is no reason to do without.
fn touch(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).ok();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::{Surroundings, key};
    use crate::oci::{Compression, DiffId, MediaType, Platform};
    use crate::plan::WorkdirStep;

    fn store() -> (tempfile::TempDir, Store, LocalCache) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let cache = LocalCache::new(&store);
        (root, store, cache)
    }

    fn key(path: &str, user: &str) -> CacheKey {
        let step = WorkdirStep { path: path.to_owned(), user: user.to_owned() };
        let platform = Platform::default();
        let compression = Compression::Gzip;
        let surroundings = Surroundings {
            below: None,
            tables: &[],
            platform: &platform,
            source_date_epoch: None,
            compression,
        };
        key::workdir(&surroundings, &step)
    }

    fn made(store: &Store) -> CachedLayer {
        let media_type = MediaType::OciLayer(Compression::Gzip);
        let descriptor = store.put(b"layer", media_type).expect("space");
        let layer = Layer { descriptor, diff_id: DiffId(Digest::of("tar")) };
        CachedLayer { layer, created: TIME }
    }

    const TIME: Timestamp = Timestamp { seconds: 1000, nanoseconds: 7 };

    #[test]
    fn what_was_recorded_is_found_with_its_time() {
        let (_root, store, cache) = store();
        assert_eq!(cache.lookup(&key("/x", ""), &store), None);
        let made = made(&store);
        cache.record(&key("/x", ""), &made, &store).expect("space");
        assert_eq!(cache.lookup(&key("/x", ""), &store), Some(made));
        assert_eq!(cache.lookup(&key("/y", ""), &store), None);
    }

    #[test]
    fn a_layer_must_be_here_or_where_it_can_be_fetched() {
        let (root, store, cache) = store();
        let made = made(&store);
        let digest = made.layer.descriptor.digest;
        cache.record(&key("/x", ""), &made, &store).expect("space");
        std::fs::remove_file(root.path().join("blobs/sha256").join(digest.hex())).expect("there");
        assert_eq!(cache.lookup(&key("/x", ""), &store), None);
        store.record_origin(&digest, &"a.io/x".parse().expect("valid")).expect("space");
        assert!(cache.lookup(&key("/x", ""), &store).is_some());
    }

    #[test]
    fn a_record_that_is_damaged_or_foreign_is_a_miss_and_is_replaced() {
        let (_root, store, cache) = store();
        let key = key("/x", "");
        let path = cache.path(&key);
        cache.record(&key, &made(&store), &store).expect("space");
        let good = fs::read_to_string(&path).expect("readable");
        let version = |number| format!("\"version\":{number}");
        let of_other_version = good.replacen(&version(VERSION), &version(VERSION + 1), 1);
        let with_other_parts = good.replacen("/x", "/y", 1);
        assert!(of_other_version != good && with_other_parts != good);
        let half = &good[..good.len() / 2];
        for bad in ["", "{}", "null", half, &of_other_version, &with_other_parts] {
            fs::write(&path, bad).expect("writable");
            assert_eq!(cache.lookup(&key, &store), None, "{bad}");
            assert_eq!(cache.explain(&key).map(|found| found.changes.len()), None, "{bad}");
        }
        cache.record(&key, &made(&store), &store).expect("space");
        assert!(cache.lookup(&key, &store).is_some());
    }

    #[test]
    fn a_miss_is_explained_by_the_most_similar_step() {
        let (_root, store, cache) = store();
        assert_eq!(cache.explain(&key("/x", "1")), None);
        for (path, user) in [("/a", "2"), ("/x", "2")] {
            cache.record(&key(path, user), &made(&store), &store).expect("space");
        }
        let explanation = cache.explain(&key("/x", "1")).expect("a similar step");
        assert_eq!(explanation.to_string(), "user changed: 2 is now 1");
    }

    #[test]
    fn records_can_be_forgotten_by_age_or_all() {
        let (_root, store, cache) = store();
        cache.record(&key("/x", ""), &made(&store), &store).expect("space");
        cache.record(&key("/y", ""), &made(&store), &store).expect("space");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for path in cache.files().expect("readable") {
            let file = File::options().write(true).open(path).expect("writable");
            file.set_modified(old).expect("our own");
        }
        assert!(cache.lookup(&key("/x", ""), &store).is_some(), "which makes it young");
        let limit = old + Duration::from_secs(1);
        assert_eq!(cache.forget(Some(limit)).expect("removable"), 1);
        assert!(cache.lookup(&key("/x", ""), &store).is_some());
        assert_eq!(cache.forget(None).expect("removable"), 1);
        assert_eq!(cache.lookup(&key("/x", ""), &store), None);
    }
}
