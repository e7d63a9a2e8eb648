//! The store: blobs by digest, images by name, and the places for what is derived from them.
//!
//! A store is one directory, and a valid OCI image layout (`skopeo inspect oci:ROOT:NAME` reads
//! it), with directories of our own beside what the layout asks for:
//!
//! ```text
//! oci-layout           says that this is an image layout
//! index.json           which images there are, by name
//! blobs/sha256/<hex>   manifests, configs, layers
//! snapshots/           unpacked layers (`snapshot`)
//! cache/               what steps have made (`cache`)
//! origins/<hex>        which registries have a blob
//! tmp/<owner>/         what is not finished yet
//! lock                 locked while index.json changes
//! users                locked, shared, by every process that has the store open
//! ```
//!
//! # What a kill leaves
//!
//! Everything becomes visible by `rename(2)` alone, when it is complete. A process killed at any
//! moment leaves the store whole and a directory in `tmp/` that the next [`Store::open`] removes.
//!
//! # What a power cut leaves
//!
//! `index.json` is written to the disk before it is renamed, so tags are never lost or cut off.
//! Blobs are not: each can be made or fetched again, and waiting for the disk after every layer
//! would slow every build for the sake of a rare event. A blob written just before a power cut may
//! be empty or short. So every use looks at its size first, whoever must know better verifies the
//! digest ([`Store::open_verified`], [`Store::read`]), and committing a blob replaces a bad one.
//!
//! # Who trusts whom
//!
//! Nothing enters under its digest unless the digest was computed here. The user who owns the
//! store may change its files; documents are therefore bounded and verified when they are read,
//! and layers when they leave the machine.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.

mod blob;
mod error;
mod index;
mod origin;
mod prune;
mod publish;
mod remove;
mod verify;
mod workspace;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Digest, Document, ImageIndex, MediaType, Reference};

pub use blob::BlobWriter;
pub use error::StoreError;
pub use index::REF_NAME;
pub use prune::Pruned;
pub use remove::remove_tree;
pub use verify::VerifiedReader;
pub use workspace::TempDir;

use publish::Durability;
use workspace::Workspace;

/// The content of the file `oci-layout`.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What may stand in an empty directory that is to become a store.
const OUR_NAMES: [&str; 10] = [
    "oci-layout",
    "index.json",
    "blobs",
    "snapshots",
    "cache",
    "origins",
    "tmp",
    "lock",
    "users",
    // Every freshly made ext4 volume has it.
    "lost+found",
];

/// An open store. Cheap to clone; all clones are one user of the store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    workspace: Arc<Workspace>,
}

impl Store {
    /// Opens the store at `root`, makes it if it is missing (parents with mode 0700), and removes
    /// what killed processes have left in it.
    ///
    /// Waits while another process prunes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`] if the directory holds something else.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        publish::create_private_dirs(root)?;
        // The snapshots' paths are given to mount(2), whoever's working directory that will be.
        let root = fs::canonicalize(root).map_err(|source| StoreError::io("open", root, source))?;
        check_content(&root)?;
        let in_use = publish::open_lock(&root.join("users"))?;
        in_use.lock_shared().map_err(|source| StoreError::io("lock", &root, source))?;
        let lock = lock(&root)?;
        for name in ["tmp", "blobs", "blobs/sha256", "snapshots", "cache", "origins"] {
            publish::create_dir(&root.join(name), 0o755)?;
        }
        let workspace = Workspace::create(&root.join("tmp"), in_use)?;
        write_layout(&root, &workspace)?;
        drop(lock);
        workspace.remove_orphans();
        Ok(Self { root, workspace: Arc::new(workspace) })
    }

    /// The directory, as an absolute path without symbolic links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where `snapshot` keeps unpacked layers.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where `cache` keeps its records.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// A directory for work in progress, on the same file system as the rest.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        TempDir::create(&self.workspace)
    }

    /// Publishes a small file somewhere in the store, atomically.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written; then `path` is as it was.
    pub fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.workspace.path("file");
        publish::replace(path, &temporary, bytes, 0o644, Durability::Replaceable)
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
        plausible.then(|| metadata.len())
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

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

/// Names.
impl Store {
    /// Makes `reference` name this image, whose manifest or index is in the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if the manifest is not in the store.
    pub fn tag(&self, reference: &Reference, image: &Descriptor) -> Result<(), StoreError> {
        if !self.has(image) {
            return Err(StoreError::Missing(image.digest));
        }
        self.change_index(|index| index::set(index, reference, image))
    }

    /// Takes the name away. What it named stays until [`prune`](Self::prune).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchImage`] if nothing had that name.
    pub fn untag(&self, reference: &Reference) -> Result<(), StoreError> {
        if self.change_index(|index| index::remove(index, reference))? {
            return Ok(());
        }
        Err(StoreError::NoSuchImage(reference.clone()))
    }

    /// What `reference` names here. The descriptor has no annotation of the store's own.
    ///
    /// # Errors
    ///
    /// Fails if `index.json` cannot be read.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.images()?.into_iter().find(|(name, _)| name == reference).map(|(_, image)| image))
    }

    /// All images that have a name, by name.
    ///
    /// # Errors
    ///
    /// Fails if `index.json` cannot be read.
    pub fn images(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let index = index::read(&self.index_path())?;
        let mut images: Vec<_> = index
            .manifests
            .into_iter()
            .filter_map(|mut entry| {
                let name = index::name(&entry)?;
                entry.annotations.remove(REF_NAME);
                Some((name, entry))
            })
            .collect();
        images.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(images)
    }

    fn change_index<T>(&self, change: impl FnOnce(&mut ImageIndex) -> T) -> Result<T, StoreError> {
        let lock = lock(&self.root)?;
        let path = self.index_path();
        let mut index = index::read(&path)?;
        let result = change(&mut index);
        index::write(&path, &self.workspace.path("index"), index)?;
        drop(lock);
        Ok(result)
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }
}

/// Origins.
impl Store {
    /// Remembers that the repository of `reference` has this blob: it was pulled from there or
    /// pushed to it.
    ///
    /// # Errors
    ///
    /// Fails if the record cannot be written.
    pub fn record_origin(&self, digest: &Digest, reference: &Reference) -> Result<(), StoreError> {
        let temporary = self.workspace.path("origin");
        origin::record(&self.root.join("origins"), &temporary, digest, reference)
    }

    /// The repositories that are known to have had each blob, the latest first, as references to
    /// the blob's digest. Blobs of which nothing is known are left out.
    ///
    /// It may be out of date, and the blob itself need not be here.
    pub fn origins(&self, digests: &[Digest]) -> BTreeMap<Digest, Vec<Reference>> {
        let directory = self.root.join("origins");
        let known = digests.iter().map(|digest| (*digest, origin::read(&directory, digest)));
        known.filter(|(_, references)| !references.is_empty()).collect()
    }
}

/// Waits for the lock that guards `index.json` and `tmp/`. It ends with the file.
fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = publish::open_lock(&path)?;
    file.lock().map_err(|source| StoreError::io("lock", &path, source))?;
    Ok(file)
}

/// Refuses a directory that is something else, before anything is written to it.
fn check_content(root: &Path) -> Result<(), StoreError> {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }

    let foreign = |reason: String| StoreError::NotAStore { path: root.to_owned(), reason };
    match fs::read(root.join("oci-layout")) {
        Ok(bytes) => match serde_json::from_slice::<Layout>(&bytes) {
            Ok(layout) if layout.image_layout_version == "1.0.0" => Ok(()),
            Ok(layout) => Err(foreign(format!(
                "it is an image layout of version {}, not 1.0.0",
                layout.image_layout_version
            ))),
            Err(_) => Err(foreign("its file oci-layout is damaged".to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let entries =
                fs::read_dir(root).map_err(|source| StoreError::io("list", root, source))?;
            let mut names = entries.flatten().map(|entry| entry.file_name());
            match names.find(|name| !OUR_NAMES.iter().any(|ours| name == ours)) {
                None => Ok(()),
                Some(name) => Err(foreign(format!("it has `{}` in it", name.display()))),
            }
        }
        Err(source) => Err(StoreError::io("read", root.join("oci-layout"), source)),
    }
}

/// Writes `oci-layout` and an empty `index.json` where they are missing.
fn write_layout(root: &Path, workspace: &Workspace) -> Result<(), StoreError> {
    let index = root.join("index.json");
    if !index.exists() {
        index::write(&index, &workspace.path("index"), index::empty())?;
    }
    let layout = root.join("oci-layout");
    if layout.exists() {
        return Ok(());
    }
    let temporary = workspace.path("layout");
    publish::replace(&layout, &temporary, LAYOUT.as_bytes(), 0o644, Durability::Precious)
}
