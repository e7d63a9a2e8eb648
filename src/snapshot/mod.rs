//! Snapshots: root file systems, each the stack of layers that its chain ID names.
//!
//! A [`Snapshotter`] unpacks layers, each into a directory of its own, and gives out [`Committed`]
//! stacks. On top of one it prepares an [`Active`], which a step may change, and whose changes
//! become the next layer. A [`View`] reads a stack without a mount.
//!
//! ```text
//! <root>/<owners>-<format>/<chain ID>/fs        the top layer of that chain, in overlayfs's format
//!                                     records   owners of its links and pipes, if it needs them
//! ```
//!
//! A snapshot is made in a temporary directory and published by one rename: it is there whole or
//! not at all, and where two processes make the same one, the first wins.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid>.

mod active;
mod error;
mod unpack;
mod view;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::layer::{LayerDir, OverlayFormat, Owners, Sidecar};
use crate::oci::{ChainId, DiffId, Layer};
use crate::sys::beneath;

pub use active::Active;
pub use error::SnapshotError;
pub use view::View;

/// Where the blob of a layer comes from.
pub(crate) type OpenLayer<'a> = &'a (dyn Fn(&Layer) -> io::Result<Box<dyn io::Read + Send>> + Sync);

/// Makes and keeps snapshots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshotter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Holds the published snapshots of this kind.
    root: PathBuf,
    /// Holds what is being made, on the same file system.
    temporary: PathBuf,
    owners: Owners,
    format: OverlayFormat,
    /// Numbers the directories in `temporary`.
    count: AtomicU64,
    /// Held while layers are unpacked, so that two builds do not unpack the same ones.
    unpacking: Mutex<()>,
}

/// A finished stack of layers. Nothing changes it any more. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    chain: Option<ChainId>,
    /// Bottom first.
    paths: Vec<PathBuf>,
    layers: Vec<Arc<LayerDir>>,
}

impl Snapshotter {
    /// A snapshotter that keeps snapshots below `root`.
    ///
    /// `temporary` is an existing directory on the same file system that nobody else uses. Whoever
    /// made it removes it in the end; only then is what was thrown away really deleted, because
    /// ext4 is slow to make files where many were just deleted.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`] if the directory cannot be made.
    pub fn new(
        root: &Path,
        temporary: PathBuf,
        owners: Owners,
        format: OverlayFormat,
    ) -> Result<Self, SnapshotError> {
        // What one kind of sandbox has unpacked, another cannot mount.
        let kind = match (owners, format) {
            (Owners::Real, OverlayFormat::User) => "real-user",
            (Owners::Real, OverlayFormat::Trusted) => "real-trusted",
            (Owners::Recorded, OverlayFormat::User) => "recorded-user",
            (Owners::Recorded, OverlayFormat::Trusted) => "recorded-trusted",
        };
        let root = root.join(kind);
        // Setuid programs lie in there: no other user may reach them.
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&root);
        made.map_err(SnapshotError::io("create", &root))?;
        let (count, unpacking) = (AtomicU64::new(0), Mutex::new(()));
        Ok(Self(Arc::new(Inner { root, temporary, owners, format, count, unpacking })))
    }

    /// The stack of `layers`, bottom first. Those that are missing are unpacked, several at a time.
    ///
    /// `open` gives the compressed blob of a layer, and is asked for missing ones alone.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; of the layers that were missing, any number may still be.
    pub fn ensure(
        &self,
        layers: &[Layer],
        open: OpenLayer<'_>,
    ) -> Result<Committed, SnapshotError> {
        let guard = self.0.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = unpack::ensure(self, layers, open);
        drop(guard);
        stack
    }

    /// Whether the top layer of `chain` is unpacked already.
    pub fn contains(&self, chain: ChainId) -> bool {
        self.path(chain).join("fs").is_dir()
    }

    /// A new layer on top of `parent`, for a step to change.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`], [`SnapshotError::Prepare`].
    pub fn prepare(&self, parent: &Committed) -> Result<Active, SnapshotError> {
        Active::new(self.clone(), parent.clone())
    }

    /// Where the snapshot of `chain` is, or will be.
    fn path(&self, chain: ChainId) -> PathBuf {
        self.0.root.join(chain.hex())
    }

    /// A new, empty directory that a rename can publish.
    fn temporary(&self, purpose: &str) -> Result<PathBuf, SnapshotError> {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        let path = self.0.temporary.join(format!("{purpose}-{number}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(SnapshotError::io("create", &path))?;
        Ok(path)
    }

    /// Moves a finished directory to its place. If somebody was faster, ours is as good.
    fn publish(&self, finished: &Path, chain: ChainId) -> Result<(), SnapshotError> {
        match fs::rename(finished, self.path(chain)) {
            Err(_) if self.contains(chain) => Ok(()),
            result => result.map_err(SnapshotError::io("publish", finished)),
        }
    }

    /// Puts the published layer `diff_id` on top of `stack`.
    fn stack(&self, stack: &Committed, diff_id: DiffId) -> Result<Committed, SnapshotError> {
        let chain = above(stack.chain, diff_id);
        let (path, records) = (self.path(chain).join("fs"), self.path(chain).join("records"));
        let sidecar = match fs::read(&records) {
            Ok(bytes) => Sidecar::decode(&bytes).ok_or_else(|| SnapshotError::Damaged(records))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Sidecar::default(),
            Err(error) => return Err(SnapshotError::io("read", &records)(error)),
        };
        let layer = LayerDir::open(&path, self.0.owners, self.0.format, sidecar);
        let layer = layer.map_err(SnapshotError::io("open", &path))?;
        let mut stack = stack.clone();
        stack.chain = Some(chain);
        stack.paths.push(path);
        stack.layers.push(Arc::new(layer));
        Ok(stack)
    }
}

impl Committed {
    /// The stack without layers: what `FROM scratch` begins with.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// The stack's name; `None` without layers.
    pub fn chain(&self) -> Option<ChainId> {
        self.chain
    }

    /// The layers' directories, bottom first.
    pub fn lower(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Its files.
    pub fn view(&self) -> View {
        View::new(self.layers.clone())
    }
}

/// The chain with one more layer on top.
fn above(chain: Option<ChainId>, layer: DiffId) -> ChainId {
    chain.map_or_else(|| ChainId::base(layer), |chain| chain.with(layer))
}

/// Removes a directory of ours, whatever modes are in it. What cannot be removed stays until the
/// directory around it goes.
fn discard(path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(parent) = beneath::open_root(parent)
    {
        drop(beneath::remove_tree(parent, name.as_bytes()));
    }
}
