//! Removing what nothing needs: blobs, and whatever can be made again.
//!
//! What is needed: every blob that `index.json` leads to, and every blob that a cache record
//! mentions. The store does not know what cache records look like. It takes every text
//! `sha256:<64 hex digits>` in them for the digest of something needed: at worst a blob is kept
//! that could go, never the other way round.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::oci::{Descriptor, Digest, Document, ImageIndex, Manifest};
use crate::store::remove::remove_quietly;
use crate::store::{Store, StoreError, index, remove_tree};

/// A manifest or index that is larger is not followed; registries allow 4 MiB (rule B043).
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Indexes in indexes in indexes: real ones have one level.
const DEPTH_LIMIT: usize = 8;

/// A cache record is a few kilobytes.
const RECORD_LIMIT: u64 = 1 << 20;

/// What [`Alone::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many blobs.
    pub blobs: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// A store that nobody else has open, until this is dropped.
#[derive(Debug)]
pub struct Alone<'a>(&'a mut Store);

impl Deref for Alone<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // From an exclusive lock to a shared one: there is nobody to wait for, and if it fails all
        // the same, the lock stays exclusive, which only makes others wait for our end.
        let _ = self.0.workspace.in_use.lock_shared();
    }
}

impl Store {
    /// Locks everybody else out.
    ///
    /// A build holds blobs that nothing leads to yet, and snapshots. So this works only while nobody
    /// else has the store open: no other process, and in this process no clone of the store, no
    /// writer and no temporary directory. Processes that come meanwhile wait in [`Store::open`].
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if somebody else has it open.
    pub fn alone(&mut self) -> Result<Alone<'_>, StoreError> {
        self.lock_out_others()?;
        Ok(Alone(self))
    }

    fn lock_out_others(&mut self) -> Result<(), StoreError> {
        let root = self.root().to_owned();
        let workspace =
            Arc::get_mut(&mut self.workspace).ok_or_else(|| StoreError::InUse(root.clone()))?;
        match workspace.in_use.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => {
                // The attempt has cost us the shared lock: flock(2) is not atomic here.
                workspace
                    .in_use
                    .lock_shared()
                    .map_err(|source| StoreError::io("lock", &root, source))?;
                Err(StoreError::InUse(root))
            }
            Err(fs::TryLockError::Error(source)) => Err(StoreError::io("lock", &root, source)),
        }
    }
}

impl Alone<'_> {
    /// Removes every blob that no tag and no cache record leads to, and what is known of its
    /// origins; and all indexes of layers, which are made again where they are needed.
    ///
    /// # Errors
    ///
    /// Fails, before anything is removed, if `index.json` or a cache record cannot be read.
    pub fn prune(&self) -> Result<Pruned, StoreError> {
        self.remove_all_but(&self.needed()?)
    }

    /// Removes the directories of cache mounts, with all that builds keep in them; says how many bytes
    /// of files that was.
    ///
    /// # Errors
    ///
    /// Fails at the first that cannot be removed.
    pub fn remove_mounts(&self) -> Result<u64, StoreError> {
        self.empty(&self.root().join("mounts"))
    }

    fn needed(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut needed = BTreeSet::new();
        for entry in index::read(&self.index_path())?.manifests {
            self.follow(&entry, &mut needed, 0);
        }
        for path in files(&self.cache_dir())? {
            let mut record = Vec::new();
            fs::File::open(&path)
                .and_then(|file| file.take(RECORD_LIMIT).read_to_end(&mut record))
                .map_err(|source| StoreError::io("read", &path, source))?;
            needed.extend(mentioned(&record));
        }
        Ok(needed)
    }

    /// A document that is missing or broken leads nowhere: the image cannot be used anyway.
    fn follow(&self, entry: &Descriptor, needed: &mut BTreeSet<Digest>, depth: usize) {
        let new = needed.insert(entry.digest);
        let leads_on = entry.media_type.is_index() || entry.media_type.is_manifest();
        if !new || !leads_on || depth >= DEPTH_LIMIT {
            return;
        }
        let Ok(bytes) = self.read(entry, DOCUMENT_LIMIT) else { return };
        if entry.media_type.is_index() {
            let Ok(index) = Document::<ImageIndex>::parse(bytes, "image index") else { return };
            for entry in &index.value().manifests {
                self.follow(entry, needed, depth + 1);
            }
        } else {
            let Ok(manifest) = Document::<Manifest>::parse(bytes, "image manifest") else { return };
            needed.insert(manifest.value().config.digest);
            needed.extend(manifest.value().layers.iter().map(|layer| layer.digest));
        }
    }

    fn remove_all_but(&self, needed: &BTreeSet<Digest>) -> Result<Pruned, StoreError> {
        let kept: BTreeSet<String> = needed.iter().map(Digest::hex).collect();
        let is_kept = |path: &Path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| kept.contains(name))
        };
        let mut pruned = Pruned::default();
        for path in files(&self.blobs())?.iter().filter(|path| !is_kept(path)) {
            let size = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
            fs::remove_file(path).map_err(|source| StoreError::io("remove", path, source))?;
            pruned.blobs += 1;
            pruned.bytes += size;
        }
        for path in files(&self.indexes_dir())? {
            fs::remove_file(&path).map_err(|source| StoreError::io("remove", &path, source))?;
        }
        for path in files(&self.root().join("origins"))?.iter().filter(|path| !is_kept(path)) {
            fs::remove_file(path).map_err(|source| StoreError::io("remove", path, source))?;
        }
        for path in files(&self.downloads_dir())? {
            let record = fs::read(&path).unwrap_or_default();
            if !mentioned(&record).any(|digest| needed.contains(&digest)) {
                fs::remove_file(&path).map_err(|source| StoreError::io("remove", path, source))?;
            }
        }
        // Nothing but speed depends on what was fetched of git repositories.
        pruned.bytes += self.empty(&self.git_dir())?;
        // Nobody else has the store open, so nobody is fetching or sending these.
        for directory in [self.partials(), self.uploads()] {
            remove_quietly(&directory);
        }
        Ok(pruned)
    }

    /// Removes all that is in a directory of the store; says how many bytes of files that was.
    fn empty(&self, directory: &Path) -> Result<u64, StoreError> {
        let failed = |source| StoreError::io("remove", directory, source);
        let mut bytes = 0;
        for entry in fs::read_dir(directory).map_err(failed)? {
            bytes += self.remove(&entry.map_err(failed)?.path())?;
        }
        Ok(bytes)
    }

    /// Removes a directory below the store's root, of any depth and with any modes; says how many
    /// bytes of files it had.
    ///
    /// # Errors
    ///
    /// Fails at the first thing in it that cannot be removed.
    pub fn remove(&self, directory: &Path) -> Result<u64, StoreError> {
        debug_assert!(directory.starts_with(self.root()), "{}", directory.display());
        let files = walkdir::WalkDir::new(directory).into_iter().flatten();
        let files = files.filter(|entry| entry.file_type().is_file());
        let bytes = files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum();
        remove_tree(directory)?;
        Ok(bytes)
    }
}

/// The regular files directly in `directory`.
fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source: io::Error| StoreError::io("list", directory, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Every digest that some text mentions.
fn mentioned(text: &[u8]) -> impl Iterator<Item = Digest> {
    const PREFIX: &[u8] = b"sha256:";
    const LENGTH: usize = PREFIX.len() + 64;
    let windows = text.windows(LENGTH).filter(|window| window.starts_with(PREFIX));
    windows.filter_map(|window| std::str::from_utf8(window).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn manifest(config: &Descriptor, layers: &[&Descriptor]) -> Document<Manifest> {
        Document::new(Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            artifact_type: None,
            config: config.clone(),
            layers: layers.iter().map(|layer| (*layer).clone()).collect(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        })
    }

    #[test]
    fn what_a_tag_or_a_cache_record_leads_to_stays() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(root.path()).expect("a new store");
        let put = |text: &str, kind| store.put(text.as_bytes(), kind).expect("space");
        let config = put("config", MediaType::OciConfig);
        let layer = put("layer", MediaType::Other("layer".into()));
        let cached = put("cached", MediaType::Other("layer".into()));
        let garbage = put("garbage", MediaType::Other("layer".into()));
        let document = manifest(&config, &[&layer]);
        let image = store.put_document(&document, MediaType::OciManifest).expect("space");
        let index = Document::new(ImageIndex { manifests: vec![image.clone()], ..index::empty() });
        let index = store.put_document(&index, MediaType::OciIndex).expect("space");
        let name = "a.io/x".parse().expect("valid");
        store.tag(&name, &index).expect("tagged");
        let record = format!(r#"{{"layer":"{}"}}"#, cached.digest);
        store.publish(&store.cache_dir().join("r"), record.as_bytes()).expect("space");
        store.record_origin(&garbage.digest, &name).expect("space");
        store.record_origin(&layer.digest, &name).expect("space");

        let pruned = store.alone().and_then(|alone| alone.prune()).expect("nobody else");
        assert_eq!(pruned, Pruned { blobs: 1, bytes: 7 });
        assert!(!store.contains(&garbage.digest));
        for kept in [&config, &layer, &cached, &image, &index] {
            assert!(store.has(kept));
        }
        assert_eq!(store.origins(&[garbage.digest, layer.digest]).len(), 1);

        store.untag(&name).expect("it was tagged");
        assert_eq!(store.alone().and_then(|alone| alone.prune()).expect("nobody else").blobs, 4);
        assert!(store.has(&cached));
    }

    #[test]
    fn what_was_fetched_for_builds_goes() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(root.path()).expect("a new store");
        let kind = || MediaType::Other("file".into());
        let (known, gone) = (store.put(b"known", kind()), store.put(b"gone", kind()));
        let (known, gone) = (known.expect("space"), gone.expect("space"));
        let publish = |path: PathBuf, digest: &Digest| {
            store.publish(&path, format!(r#"{{"d":"{digest}"}}"#).as_bytes()).expect("space");
        };
        publish(store.cache_dir().join("r"), &known.digest);
        publish(store.downloads_dir().join("a"), &known.digest);
        publish(store.downloads_dir().join("b"), &gone.digest);
        fs::create_dir_all(store.git_dir().join("x/objects")).expect("writable");
        fs::write(store.git_dir().join("x/objects/pack"), "12345").expect("writable");

        assert_eq!(
            store.alone().and_then(|alone| alone.prune()).expect("nobody else"),
            Pruned { blobs: 1, bytes: 9 }
        );
        let names = |path: PathBuf| fs::read_dir(path).expect("there").count();
        assert_eq!((names(store.downloads_dir()), names(store.git_dir())), (1, 0));
        assert!(store.downloads_dir().join("a").exists());
    }

    #[test]
    fn a_store_in_use_is_not_pruned() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(root.path()).expect("a new store");
        let other = Store::open(root.path()).expect("the same store");
        assert!(matches!(store.alone(), Err(StoreError::InUse(_))), "another opened it");
        drop(other);
        let clone = store.clone();
        assert!(matches!(store.alone(), Err(StoreError::InUse(_))), "a clone");
        drop(clone);
        let writer = store.writer().expect("a writer");
        assert!(matches!(store.alone(), Err(StoreError::InUse(_))), "a writer");
        drop(writer);
        store.alone().expect("nobody else");
    }

    #[test]
    fn a_damaged_list_of_images_stops_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut store = Store::open(root.path()).expect("a new store");
        let blob = store.put(b"x", MediaType::OciConfig).expect("space");
        fs::write(root.path().join("index.json"), "{").expect("writable");
        let alone = store.alone().expect("nobody else");
        assert!(matches!(alone.prune(), Err(StoreError::Index { .. })));
        assert!(alone.has(&blob));
    }
}
