//! A root file system in one directory: a copy of all layers, which a command changes in place.
//!
//! ```text
//! <temporary>/tree-N/root      the tree
//!                    records   owners of its links and pipes, if they need recording
//!                    known     the directories that it had before the command began
//!                    clock     a file whose change time says when that was
//! ```
//!
//! `merge` makes the copy, `collect` finds what a command changed in it, guided by `clock` and
//! `manifest`, and makes an upper directory of it as overlayfs would have: from there on nothing is
//! special. The tree of a step that is done is kept "warm" for the next one, so that a stage is
//! copied once; what was put on top of it meanwhile is added (`add`).
//!
//! Two names of one file are two files in the tree, each a copy: to change one would change the
//! other, and overlayfs would have changed only one.

mod add;
mod clock;
mod collect;
mod duplicate;
mod manifest;
mod merge;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};

use crate::layer::{Owners, Sidecar, Target, settle};
use crate::oci::ImagePath;
use crate::sandbox::WholeTree;
use crate::snapshot::whole::clock::Moment;
use crate::snapshot::whole::collect::Collecting;
use crate::snapshot::whole::duplicate::{At, Duplicator, modified};
use crate::snapshot::whole::manifest::Manifest;
use crate::snapshot::{Committed, SnapshotError, Snapshotter, View, discard};
use crate::sys::beneath;

/// So many trees are kept for a next step at most: each may be as large as an image.
const MOST_WARM: usize = 4;

/// A tree that one step has for itself. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Whole {
    directory: PathBuf,
    root: OwnedFd,
    known: Manifest,
    since: Moment,
}

/// Trees of steps that are done, each with the top layer of what it holds; the latest last.
#[derive(Debug, Default)]
pub(super) struct Warm(Vec<(Option<PathBuf>, Tree)>);

/// A tree that no step is using. Dropping it removes it.
#[derive(Debug)]
struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            discard(&self.0);
        }
    }
}

impl Whole {
    /// The tree of `parent`: a warm one, or else a copy.
    pub(super) fn prepare(
        snapshotter: &Snapshotter,
        parent: &Committed,
    ) -> Result<Self, SnapshotError> {
        let tree = match snapshotter.warm().take(parent) {
            Some((tree, layers)) => {
                grow(snapshotter, &tree, parent, layers)?;
                tree
            }
            None => copy(snapshotter, parent)?,
        };
        Self::begin(tree)
    }

    /// Remembers what there is, and when that was.
    fn begin(mut tree: Tree) -> Result<Self, SnapshotError> {
        let root = open(&tree.root())?;
        let known = Manifest::make(root.as_fd(), &tree.0.join("known"))?;
        let around = open(&tree.0)?;
        let since =
            clock::tick(around).map_err(SnapshotError::io("look at the clock of", &tree.0))?;
        Ok(Self { directory: std::mem::take(&mut tree.0), root, known, since })
    }

    /// What the sandbox is told of it.
    pub(super) fn spec(&self) -> WholeTree {
        WholeTree { directory: self.directory.join("root"), records: self.records() }
    }

    fn records(&self) -> PathBuf {
        self.directory.join("records")
    }

    /// Fills the empty directory `upper` with what has changed since the tree was prepared. Gives the
    /// names under which changed files are found a second time.
    pub(super) fn collect(
        &self,
        snapshotter: &Snapshotter,
        parent: &Committed,
        upper: &Path,
    ) -> Result<Vec<ImagePath>, SnapshotError> {
        let upper = open(upper)?;
        let known = self.known.read();
        collect::collect(Collecting {
            tree: self.root.as_fd(),
            upper: upper.as_fd(),
            below: &parent.view(),
            since: self.since,
            known: known.map_err(SnapshotError::io("read", &self.directory.join("known")))?,
            format: snapshotter.0.format,
            duplicator: &Duplicator::new(snapshotter.0.owners),
        })
    }

    /// The records of what is in the collected directory `upper`.
    pub(super) fn records_of(&self, upper: &Path) -> Result<Sidecar, SnapshotError> {
        let mut records = read_records(&self.records())?;
        let upper = open(upper)?;
        records.retain(|path| {
            rustix::fs::statat(&upper, path.relative(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        });
        Ok(records)
    }

    /// Keeps the tree for the step that comes next, when what it holds has become the layers `of`.
    pub(super) fn keep(mut self, snapshotter: &Snapshotter, of: &Committed, twice: &[ImagePath]) {
        let directory = std::mem::take(&mut self.directory);
        let tree = Tree(directory);
        // A tree that cannot be set right is not kept; the next step makes a new one.
        if separate(&self.root, twice, &Duplicator::new(snapshotter.0.owners)).is_ok() {
            snapshotter.warm().put(of.paths.last().cloned(), tree);
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.directory.as_os_str().is_empty() {
            discard(&self.directory);
        }
    }
}

impl Tree {
    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Warm {
    /// The tree that needs the fewest layers more to be that of `parent`, and how many it has.
    fn take(&mut self, parent: &Committed) -> Option<(Tree, usize)> {
        let (index, layers) = (1..=parent.paths.len()).rev().find_map(|count| {
            let top = parent.paths.get(count - 1);
            let is_it = |(of, _): &(Option<PathBuf>, Tree)| of.as_ref() == top;
            self.0.iter().position(is_it).map(|index| (index, count))
        })?;
        Some((self.0.remove(index).1, layers))
    }

    fn put(&mut self, of: Option<PathBuf>, tree: Tree) {
        self.0.push((of, tree));
        if self.0.len() > MOST_WARM {
            self.0.remove(0);
        }
    }
}

/// Copies all layers of `parent` into a new tree.
fn copy(snapshotter: &Snapshotter, parent: &Committed) -> Result<Tree, SnapshotError> {
    let tree = Tree(snapshotter.temporary("tree")?);
    let path = tree.root();
    fs::create_dir(&path).map_err(SnapshotError::io("create", &path))?;
    let (owners, format) = (snapshotter.0.owners, snapshotter.0.format);
    let view = parent.view();
    if parent.paths.is_empty() {
        let target = Target { directory: &path, owners, format, lower: None };
        let root = BTreeSet::from([ImagePath::root()]);
        settle(&target, &root, &view).map_err(|source| SnapshotError::Prepare { source })?;
        return Ok(tree);
    }
    let records =
        merge::merge(&view, &ImagePath::root(), open(&path)?.as_fd(), &Duplicator::new(owners))?;
    write_records(&tree.0.join("records"), &records)?;
    Ok(tree)
}

/// Copies the directory or file `path` of `view`, which is no link, to `to`, where nothing is.
pub(super) fn copy_part(
    view: &View,
    path: &ImagePath,
    to: &Path,
    owners: Owners,
) -> Result<(), SnapshotError> {
    let duplicator = Duplicator::new(owners);
    let merge = |source| SnapshotError::Merge { source };
    if view.topmost(path).map_err(merge)?.is_some() {
        fs::create_dir(to).map_err(SnapshotError::io("create", to))?;
        return merge::merge(view, path, open(to)?.as_fd(), &duplicator).map(drop);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return Ok(()) };
    let names = view.entries(&parent).map_err(merge)?;
    let missing = || SnapshotError::tree::<io::Error>("find", path)(io::ErrorKind::NotFound.into());
    let layer = &view.layers()[*names.get(name).ok_or_else(missing)?];
    let from = beneath::open_directory(layer.root(), parent.relative());
    let from = from.map_err(SnapshotError::tree("open", &parent))?;
    let around = open(to.parent().unwrap_or(to))?;
    let to = to.file_name().unwrap_or_default().as_encoded_bytes();
    let (from, to) = (At::new(&from, name), At::new(&around, to));
    from.stat()
        .and_then(|stat| duplicator.file(from, &stat, to))
        .map_err(SnapshotError::tree("copy", path))
}

/// Adds the layers of `parent` that a tree lacks, which has the first `layers` of them.
fn grow(
    snapshotter: &Snapshotter,
    tree: &Tree,
    parent: &Committed,
    layers: usize,
) -> Result<(), SnapshotError> {
    let missing = parent.layers.get(layers..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let path = tree.0.join("records");
    let (root, mut records) = (open(&tree.root())?, read_records(&path)?);
    let duplicator = Duplicator::new(snapshotter.0.owners);
    for layer in missing {
        add::add(layer, root.as_fd(), &mut records, &duplicator)?;
    }
    write_records(&path, &records)
}

/// Makes files of their own of further names of files.
fn separate(root: &OwnedFd, names: &[ImagePath], duplicator: &Duplicator) -> io::Result<()> {
    for path in names {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { continue };
        let directory = beneath::open_directory(root, parent.relative())?;
        let before = rustix::fs::statat(&directory, "", AtFlags::EMPTY_PATH)?;
        let new = beneath::free_name(&directory)?;
        let (from, to) = (At::new(&directory, name), At::new(&directory, &new));
        duplicator.file(from, &from.stat()?, to)?;
        rustix::fs::renameat(&directory, to.name, &directory, from.name)?;
        rustix::fs::futimens(&directory, &modified(&before))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<OwnedFd, SnapshotError> {
    beneath::open_root(path).map_err(SnapshotError::io("open", path))
}

fn read_records(path: &Path) -> Result<Sidecar, SnapshotError> {
    match fs::read(path) {
        Ok(bytes) => Sidecar::decode(&bytes).ok_or_else(|| SnapshotError::Damaged(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Sidecar::default()),
        Err(error) => Err(SnapshotError::io("read", path)(error)),
    }
}

fn write_records(path: &Path, records: &Sidecar) -> Result<(), SnapshotError> {
    let written = if records.is_empty() {
        match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            other => other.map_err(io::Error::from),
        }
    } else {
        fs::write(path, records.encode())
    };
    written.map_err(SnapshotError::io("write", path))
}
