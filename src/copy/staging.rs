//! The staging tree: what a step adds, held over what the stage has.
//!
//! It holds names and metadata; contents stay where they are until the layer is written. Seen as
//! a [`Tree`] it is the stage with the step's changes, so links and existing directories are found
//! whether they were there before or were made a moment ago.
//!
//! As in a file system, names lead to inodes: two names of one inode are hard links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::copy::CopyError;
use crate::layer::{EmptyTree, Kind, Node, Tree, TreeError};
use crate::oci::{ImagePath, Timestamp};

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// It has none.
    None,
    /// In the tree that is copied from.
    Source(ImagePath),
    /// In the files of the remote source with this number.
    Remote(usize, ImagePath),
    /// In the stage so far.
    Below(ImagePath),
    /// In a temporary file.
    Spool { file: Arc<File>, offset: u64, size: u64 },
    /// Here.
    Inline(Arc<[u8]>),
}

/// A file of the step: one, however many names it has.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) node: Node,
    pub(crate) content: Content,
    /// Whether it was taken up from the stage below, rather than made by the step.
    is_adopted: bool,
}

/// Which inode: a place in [`Staging`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(usize);

impl InodeId {
    /// A number that no other inode has.
    pub(crate) fn number(self) -> u64 {
        self.0 as u64
    }
}

/// How directories are made on the way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The changes of one step over the files of a stage.
pub(crate) struct Staging<'a> {
    source: &'a dyn Tree,
    remotes: &'a [Arc<dyn Tree>],
    below: &'a dyn Tree,
    created: Timestamp,
    inodes: Vec<Inode>,
    names: BTreeMap<ImagePath, InodeId>,
    /// What was there before and was taken away; whether it was a directory.
    removed: BTreeMap<ImagePath, bool>,
}

impl<'a> Staging<'a> {
    /// No changes. What is made gets the time `created`.
    pub(crate) fn new(
        source: Option<&'a dyn Tree>,
        below: &'a dyn Tree,
        created: Timestamp,
    ) -> Self {
        Self {
            source: source.unwrap_or(&EmptyTree),
            remotes: &[],
            below,
            created,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Adds the files of remote sources.
    #[must_use]
    pub(crate) fn with_remotes(self, remotes: &'a [Arc<dyn Tree>]) -> Self {
        Self { remotes, ..self }
    }

    /// The time of what is made.
    pub(crate) fn created(&self) -> Timestamp {
        self.created
    }

    /// Puts a new file at `path`. A file that had this name is no longer reached by it; where a
    /// directory is, the caller removes it first.
    pub(crate) fn put(&mut self, path: &ImagePath, node: Node, content: Content) -> InodeId {
        let id = InodeId(self.inodes.len());
        self.inodes.push(Inode { node, content, is_adopted: false });
        self.link(path, id);
        id
    }

    /// Gives an inode one more name.
    pub(crate) fn link(&mut self, path: &ImagePath, id: InodeId) {
        self.names.insert(path.clone(), id);
        // As in a file system, a new name changes the directory.
        let created = self.created;
        if let Some(parent) = path.parent().and_then(|parent| self.inode_mut(&parent)) {
            parent.node.mtime = created;
        }
    }

    /// The inode at `path`, taken up from the stage below if it is only there.
    pub(crate) fn adopt(&mut self, path: &ImagePath) -> Result<Option<InodeId>, TreeError> {
        if let Some(id) = self.names.get(path) {
            return Ok(Some(*id));
        }
        let Some(node) = self.lookup(path)? else { return Ok(None) };
        let content = match node.kind {
            Kind::File { .. } => Content::Below(path.clone()),
            _ => Content::None,
        };
        let id = InodeId(self.inodes.len());
        self.inodes.push(Inode { node, content, is_adopted: true });
        self.names.insert(path.clone(), id);
        Ok(Some(id))
    }

    /// The inode at `path`, if it is one of the step.
    pub(crate) fn id(&self, path: &ImagePath) -> Option<InodeId> {
        self.names.get(path).copied()
    }

    /// An inode, to change its metadata.
    pub(crate) fn node_mut(&mut self, id: InodeId) -> &mut Node {
        &mut self.inodes[id.0].node
    }

    /// An inode of this step.
    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0]
    }

    /// Takes away what is at `path`, with all below it.
    pub(crate) fn remove(&mut self, path: &ImagePath) -> Result<(), TreeError> {
        let old = if self.is_hidden(path) { None } else { self.below.lookup(path)? };
        for name in self.names_from(path) {
            self.names.remove(&name);
        }
        if let Some(old) = old {
            self.removed.insert(path.clone(), old.kind == Kind::Directory);
        }
        Ok(())
    }

    /// `path` and all names of this step below it.
    fn names_from(&self, path: &ImagePath) -> Vec<ImagePath> {
        // In byte order `/a-b` comes between `/a` and `/a/b`.
        let near = self.names.range(path..).map(|(name, _)| name);
        let near = near.take_while(|name| name.as_bytes().starts_with(path.as_bytes()));
        near.filter(|name| name.starts_with(path)).cloned().collect()
    }

    /// Makes sure that `path`, whose links are resolved, and all above it are directories.
    ///
    /// # Errors
    ///
    /// [`CopyError::NotADirectory`] if something else is in the way.
    pub(crate) fn make_directories(
        &mut self,
        path: &ImagePath,
        made: Made,
    ) -> Result<(), CopyError> {
        let mut here = ImagePath::root();
        for name in path.components() {
            here = here.join(name);
            match self.lookup(&here)?.map(|node| node.kind) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(CopyError::NotADirectory { path: here }),
                None => {
                    let node = directory(made, self.created);
                    self.put(&here, node, Content::None);
                }
            }
        }
        Ok(())
    }

    /// All names of this step with their inodes, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&ImagePath, InodeId)> {
        self.names.iter().map(|(path, id)| (path, *id))
    }

    /// What was taken away from the stage below, in order; whether it was a directory.
    pub(crate) fn removed(&self) -> &BTreeMap<ImagePath, bool> {
        &self.removed
    }

    /// The bytes of a file of this step.
    pub(crate) fn content(&self, id: InodeId) -> Result<Box<dyn Read + Send>, TreeError> {
        Ok(match &self.inode(id).content {
            Content::None => Box::new(io::empty()),
            Content::Source(path) => self.source.open(path)?,
            Content::Remote(number, path) => self.remotes[*number].open(path)?,
            Content::Below(path) => self.below.open(path)?,
            Content::Spool { file, offset, size } => {
                Box::new(Spooled { file: Arc::clone(file), offset: *offset, left: *size })
            }
            Content::Inline(bytes) => Box::new(io::Cursor::new(Arc::clone(bytes))),
        })
    }

    fn inode_mut(&mut self, path: &ImagePath) -> Option<&mut Inode> {
        let id = *self.names.get(path)?;
        Some(&mut self.inodes[id.0])
    }

    /// The names in the directory `path` that the step has.
    fn staged_in(&self, path: &ImagePath) -> BTreeSet<Vec<u8>> {
        let mut names = BTreeSet::new();
        let mut from = path.clone();
        let slash: &[u8] = if path.is_root() { b"" } else { b"/" };
        let prefix = [path.as_bytes(), slash].concat();
        'subtrees: loop {
            for name in self.names.range(from..).map(|(name, _)| name.as_bytes()) {
                let Some(rest) = name.strip_prefix(&*prefix) else {
                    // Such as `/a-b`, which stands between `/a` and `/a/x`.
                    if name.starts_with(path.as_bytes()) && name < &*prefix {
                        continue;
                    }
                    break 'subtrees;
                };
                match rest.iter().position(|byte| *byte == b'/') {
                    None if rest.is_empty() => {}
                    None => drop(names.insert(rest.to_vec())),
                    Some(end) => {
                        // What is further down need not be looked at: `0` comes after `/`.
                        from = ImagePath::new([&prefix, &rest[..end], b"0"].concat());
                        continue 'subtrees;
                    }
                }
            }
            break;
        }
        names
    }

    /// Whether what is below no longer shows at `path`.
    fn is_hidden(&self, path: &ImagePath) -> bool {
        if self.removed.contains_key(path) {
            return true;
        }
        let mut above = path.parent();
        while let Some(at) = above {
            if let Some(id) = self.names.get(&at) {
                let inode = self.inode(*id);
                // What the step made is a file, or a directory where there was none.
                if !inode.is_adopted || inode.node.kind != Kind::Directory {
                    return true;
                }
            }
            if self.removed.contains_key(&at) {
                return true;
            }
            above = at.parent();
        }
        false
    }
}

impl Tree for Staging<'_> {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        if let Some(id) = self.names.get(path) {
            return Ok(Some(self.inode(*id).node.clone()));
        }
        if self.is_hidden(path) { Ok(None) } else { self.below.lookup(path) }
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        if self.lookup(path)?.is_none_or(|node| node.kind != Kind::Directory) {
            return Err(TreeError::NotADirectory { path: path.clone() });
        }
        let mut names = self.staged_in(path);
        let shows = |node: Option<Node>| node.is_some_and(|node| node.kind == Kind::Directory);
        if !self.is_hidden(path) && shows(self.below.lookup(path)?) {
            let old = self.below.read_dir(path)?;
            names.extend(
                old.into_iter().filter(|name| !self.removed.contains_key(&path.join(name))),
            );
        }
        Ok(names.into_iter().collect())
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        match self.names.get(path) {
            Some(id) if matches!(self.inode(*id).node.kind, Kind::File { .. }) => self.content(*id),
            None if !self.is_hidden(path) => self.below.open(path),
            _ => Err(TreeError::NotAFile { path: path.clone() }),
        }
    }
}

/// A directory without anything special.
pub(crate) fn directory(made: Made, mtime: Timestamp) -> Node {
    Node {
        kind: Kind::Directory,
        mode: made.mode,
        uid: made.uid,
        gid: made.gid,
        mtime,
        xattrs: BTreeMap::new(),
        inode: None,
    }
}

/// A part of a temporary file. Several can be read at once.
struct Spooled {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;

    const PLAIN: Made = Made { mode: 0o755, uid: 0, gid: 0 };

    fn path(path: &str) -> ImagePath {
        ImagePath::new(path)
    }

    #[test]
    fn what_is_staged_hides_what_is_below() {
        let below = MemoryTree::new().dir("/d", 0o700).file("/d/old", "old").file("/d/x/y", "y");
        let mut staging = Staging::new(None, &below, Timestamp::EPOCH);
        let names = |staging: &Staging<'_>, at: &str| {
            let names = staging.read_dir(&path(at)).expect("a directory");
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        staging.make_directories(&path("/d/new/er"), PLAIN).expect("nothing in the way");
        assert_eq!(names(&staging, "/d"), ["new", "old", "x"]);
        assert_eq!(staging.lookup(&path("/d")).expect("read").map(|node| node.mode), Some(0o700));

        staging.remove(&path("/d/x")).expect("read");
        assert_eq!(names(&staging, "/d"), ["new", "old"]);
        assert!(staging.lookup(&path("/d/x/y")).expect("read").is_none());

        staging.make_directories(&path("/d/x"), PLAIN).expect("nothing in the way");
        assert_eq!(names(&staging, "/d/x"), [""; 0]);
        assert_eq!(staging.removed().get(&path("/d/x")), Some(&true));
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let below = MemoryTree::new().file("/taken", "");
        let mut staging = Staging::new(None, &below, Timestamp::EPOCH);
        let error = staging.make_directories(&path("/taken/sub"), PLAIN).expect_err("a file");
        assert_eq!(error.to_string(), "`/taken` is not a directory");
    }

    #[test]
    fn links_lead_through_both_trees() {
        let below = MemoryTree::new().dir("/real", 0o755).link("/alias", "real");
        let mut staging = Staging::new(None, &below, Timestamp::EPOCH);
        staging.make_directories(&path("/real/made"), PLAIN).expect("nothing in the way");
        assert_eq!(staging.resolve(&path("/alias/made/x")).expect("no loop"), path("/real/made/x"));
    }
}
