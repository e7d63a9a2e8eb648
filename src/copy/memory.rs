//! `MemoryTree`: a file tree for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::{ImagePath, Timestamp};

/// A tree that is written down in the test. Parents that are not given are 0755, root's.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryTree {
    nodes: BTreeMap<ImagePath, (Node, Vec<u8>)>,
}

/// The time of everything in the tree.
pub(crate) const OLD: Timestamp = Timestamp { seconds: 1_000_000, nanoseconds: 0 };

impl MemoryTree {
    pub(crate) fn new() -> Self {
        Self::default().put("/", Kind::Directory, 0o755, b"")
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.put(path, Kind::File { size: text.len() as u64 }, 0o644, text.as_bytes())
    }

    pub(crate) fn bytes(self, path: &str, bytes: &[u8]) -> Self {
        self.put(path, Kind::File { size: bytes.len() as u64 }, 0o644, bytes)
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.put(path, Kind::Directory, mode, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.put(path, Kind::Symlink { target: target.into() }, 0o777, b"")
    }

    pub(crate) fn other(self, path: &str, kind: Kind, mode: u32) -> Self {
        self.put(path, kind, mode, b"")
    }

    /// Makes `path` another name of `of`.
    pub(crate) fn hard_link(mut self, path: &str, of: &str) -> Self {
        let number = self.nodes.len() as u64;
        let (node, _) = self.nodes.get_mut(&ImagePath::new(of)).expect("it is there");
        node.inode.get_or_insert((1, number));
        let copy = self.nodes[&ImagePath::new(of)].clone();
        self.nodes.insert(ImagePath::new(path), copy);
        self
    }

    /// Changes the last metadata that is asked for.
    pub(crate) fn with(mut self, path: &str, change: impl FnOnce(&mut Node)) -> Self {
        change(&mut self.nodes.get_mut(&ImagePath::new(path)).expect("it is there").0);
        self
    }

    pub(crate) fn owner(self, path: &str, uid: u32, gid: u32) -> Self {
        self.with(path, |node| (node.uid, node.gid) = (uid, gid))
    }

    fn put(mut self, path: &str, kind: Kind, mode: u32, content: &[u8]) -> Self {
        let path = ImagePath::new(path);
        if let Some(parent) = path.parent()
            && !self.nodes.contains_key(&parent)
        {
            self = self.put(&parent.to_string(), Kind::Directory, 0o755, b"");
        }
        let (xattrs, mtime) = (BTreeMap::new(), OLD);
        let node = Node { kind, mode, uid: 0, gid: 0, mtime, xattrs, inode: None };
        self.nodes.insert(path, (node, content.to_vec()));
        self
    }
}

impl Tree for MemoryTree {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        Ok(self.nodes.get(path).map(|(node, _)| node.clone()))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        if self.lookup(path)?.is_none_or(|node| node.kind != Kind::Directory) {
            return Err(TreeError::NotADirectory { path: path.clone() });
        }
        let children = self.nodes.keys().filter(|name| name.parent().as_ref() == Some(path));
        let names: BTreeSet<Vec<u8>> =
            children.filter_map(|name| name.name().map(<[u8]>::to_vec)).collect();
        Ok(names.into_iter().collect())
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        match self.nodes.get(path) {
            Some((Node { kind: Kind::File { .. }, .. }, content)) => {
                Ok(Box::new(Cursor::new(content.clone())))
            }
            _ => Err(TreeError::NotAFile { path: path.clone() }),
        }
    }
}
