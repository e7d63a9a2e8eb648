//! `diff`: what a step changed, read from the upper directory of the overlay that it ran on.
//!
//! Overlayfs has found the changes already: whatever the step touched is in the upper directory.
//! Not all of it is a change, though. A file that was opened for writing, or got a second name, is
//! copied up as it was, and so are the parents of every change. `BuildKit`'s rules say what stays
//! out: files equal in metadata, size and time (or content, where times are whole seconds and
//! prove little), and directories that differ in their time alone, unless something in them changed.
//!
//! Spec: <https://docs.kernel.org/filesystems/overlayfs.html>, `BuildKit`'s `util/overlay`.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    path::Path,
};

use crate::layer::owners::{OverlayFormat, Owners, Sidecar};
use crate::layer::stored::{LayerDir, Stored};
use crate::layer::{Entry, Kind, LayerError, LayerWriter, Node, Tree};
use crate::oci::{ImagePath, Timestamp};

/// What a diff found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffSummary {
    /// How many entries were written. 0 if the step changed nothing.
    pub entries: u64,
}

/// Writes the changes that the overlay directory `upper` makes to `lower`, sorted by path.
///
/// # Errors
///
/// [`LayerError`]; the writer is then unusable.
pub fn diff<W: Write + Send + 'static>(
    upper: &Path,
    lower: &dyn Tree,
    format: OverlayFormat,
    owners: Owners,
    writer: &mut LayerWriter<W>,
) -> Result<DiffSummary, LayerError> {
    let upper = LayerDir::open(upper, owners, format, Sidecar::default())
        .map_err(LayerError::file("open", &ImagePath::root()))?;
    let links = match owners {
        Owners::Real => LinkOwners::Known,
        Owners::Recorded => LinkOwners::Below,
    };
    diff_of(upper, lower, links, writer)
}

/// How it is known to whom links and pipes in an upper directory belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkOwners {
    /// The directory or its records say so.
    Known,
    /// Nothing does, as records do not travel with the files. They belong to whom they belong below:
    /// no command can have changed that.
    Below,
}

/// Like [`diff`], of a directory that is open.
pub(crate) fn diff_of<W: Write + Send + 'static>(
    upper: LayerDir,
    lower: &dyn Tree,
    link_owners: LinkOwners,
    writer: &mut LayerWriter<W>,
) -> Result<DiffSummary, LayerError> {
    let before = writer.entries();
    let root = ImagePath::root();
    let (links, parents) = (BTreeMap::new(), Vec::new());
    let mut differ = Differ { upper, lower, link_owners, writer, links, parents };
    if let Stored::Present { node, opaque } = differ.look(&root)? {
        differ.directory(&root, node, opaque, true)?;
    }
    Ok(DiffSummary { entries: writer.entries() - before })
}

struct Differ<'a, W: Write + Send + 'static> {
    upper: LayerDir,
    lower: &'a dyn Tree,
    link_owners: LinkOwners,
    writer: &'a mut LayerWriter<W>,
    /// The first name written of each file that has several.
    links: BTreeMap<(u64, u64), ImagePath>,
    /// Directories on the way to here that are not written, because they did not change.
    parents: Vec<Entry>,
}

impl<W: Write + Send + 'static> Differ<'_, W> {
    /// Handles a directory and what is in it. `shows` is whether `lower` shows through up to here.
    fn directory(
        &mut self,
        path: &ImagePath,
        node: Node,
        opaque: bool,
        shows: bool,
    ) -> Result<(), LayerError> {
        let below = if shows { self.lower.lookup(path)? } else { None };
        let unchanged = below.as_ref().is_some_and(|below| is_same_file(&node, below));
        let shows = below.is_some_and(|below| below.kind == Kind::Directory);
        let depth = self.parents.len();
        self.parents.push(node.into_entry(path.clone()));
        if !unchanged {
            self.flush_parents(path.is_root())?;
        }
        if opaque && shows && !self.lower.read_dir(path)?.is_empty() {
            self.write(&marker(path.clone(), Kind::OpaqueWhiteout))?;
        }
        let names = self.upper.read_dir(path).map_err(LayerError::file("list", path))?;
        for (name, _) in names {
            self.child(path.join(name), shows && !opaque)?;
        }
        self.parents.truncate(depth);
        Ok(())
    }

    fn child(&mut self, path: ImagePath, shows: bool) -> Result<(), LayerError> {
        match self.look(&path)? {
            Stored::Absent => Ok(()),
            // A socket cannot be in a layer, but what it replaced is gone.
            Stored::Whiteout | Stored::Present { node: Node { kind: Kind::Socket, .. }, .. } => {
                if shows && self.lower.lookup(&path)?.is_some() {
                    self.write(&marker(path, Kind::Whiteout))?;
                }
                Ok(())
            }
            Stored::Present { node: node @ Node { kind: Kind::Directory, .. }, opaque } => {
                self.directory(&path, node, opaque, shows)
            }
            Stored::Present { node, .. } => self.file(path, node, shows),
        }
    }

    fn file(&mut self, path: ImagePath, mut node: Node, shows: bool) -> Result<(), LayerError> {
        if shows && let Some(below) = self.lower.lookup(&path)? {
            let is_link = matches!(node.kind, Kind::Symlink { .. } | Kind::Fifo);
            if is_link && self.link_owners == LinkOwners::Below && node.kind == below.kind {
                (node.uid, node.gid) = (below.uid, below.gid);
            }
            if self.is_unchanged(&path, &node, &below)? {
                return Ok(());
            }
        }
        let inode = node.inode;
        let mut entry = node.into_entry(path.clone());
        if let Some(first) = inode.and_then(|inode| self.links.get(&inode)) {
            entry.kind = Kind::Hardlink { target: first.clone() };
            entry.xattrs.clear();
        } else if let Some(inode) = inode {
            self.links.insert(inode, path);
        }
        self.write(&entry)
    }

    fn is_unchanged(
        &self,
        path: &ImagePath,
        node: &Node,
        below: &Node,
    ) -> Result<bool, LayerError> {
        if !is_same_file(node, below) || node.mtime != below.mtime {
            return Ok(false);
        }
        match node.kind {
            // A time in whole seconds was set by somebody, and says little about the content.
            Kind::File { size: 1.. } if node.mtime.nanoseconds == 0 => {
                let failed = |source| LayerError::Content { path: path.clone(), source };
                let mut mine = BufReader::new(self.upper.open_file(path).map_err(failed)?);
                let mut other = BufReader::new(self.lower.open(path)?);
                is_same_content(&mut mine, &mut other).map_err(failed)
            }
            _ => Ok(true),
        }
    }

    fn look(&self, path: &ImagePath) -> Result<Stored, LayerError> {
        self.upper.lookup(path).map_err(LayerError::file("look at", path))
    }

    /// Writes an entry, after the directories above it.
    fn write(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.flush_parents(false)?;
        if !matches!(entry.kind, Kind::File { .. }) {
            return self.writer.append(entry, None);
        }
        let file = self.upper.open_file(&entry.path);
        let mut file =
            file.map_err(|source| LayerError::Content { path: entry.path.clone(), source })?;
        self.writer.append(entry, Some(&mut file))
    }

    /// Writes the directories that are not yet. The root is left out unless it changed itself.
    fn flush_parents(&mut self, root_changed: bool) -> Result<(), LayerError> {
        for parent in std::mem::take(&mut self.parents) {
            if !parent.path.is_root() || root_changed {
                self.writer.append(&parent, None)?;
            }
        }
        Ok(())
    }
}

/// An entry that only hides something. It has no time of its own.
fn marker(path: ImagePath, kind: Kind) -> Entry {
    let (mode, uid, gid, mtime) = (0, 0, 0, Timestamp::EPOCH);
    Entry { path, kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() }
}

/// Whether two nodes are the same but for their times and, perhaps, their content.
fn is_same_file(one: &Node, other: &Node) -> bool {
    one.kind == other.kind
        && (one.mode, one.uid, one.gid) == (other.mode, other.uid, other.gid)
        && one.xattrs == other.xattrs
}

fn is_same_content(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], Vec::new());
    loop {
        let count = one.read(&mut left)?;
        right.clear();
        other.by_ref().take(count as u64).read_to_end(&mut right)?;
        if left[..count] != right {
            return Ok(false);
        }
        if count == 0 {
            return Ok(other.read(&mut left)? == 0);
        }
    }
}
