//! A file tree that can be read: merged layers, a build context, or nothing at all.
//!
//! Implementations answer three plain questions and follow no symbolic link. The provided methods
//! resolve links on top of those answers, always inside the tree: an absolute target starts at the
//! tree's root, and `..` cannot leave it.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read},
};

use crate::layer::{Entry, Kind};
use crate::oci::{ImagePath, Timestamp};

/// How many symbolic links one path may lead through; `BuildKit`'s limit.
const MAX_LINKS: u32 = 255;

/// What stands at a path of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is. Never a whiteout, never [`Kind::Hardlink`].
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner, as the image counts.
    pub uid: u32,
    /// The group, as the image counts.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Timestamp,
    /// Extended attributes, by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Device and inode, only where the file has several names: equal pairs are one file.
    pub inode: Option<(u64, u64)>,
}

impl Node {
    /// The entry that puts this node at `path`.
    pub fn into_entry(self, path: ImagePath) -> Entry {
        let Self { kind, mode, uid, gid, mtime, xattrs, inode: _ } = self;
        Entry { path, kind, mode, uid, gid, mtime, xattrs }
    }
}

/// A read-only file tree. Paths are taken as they are: only `resolve` and its kin follow links.
pub trait Tree: Send + Sync {
    /// What stands at `path` itself (as `lstat` sees it). `None` if nothing does, or if a parent
    /// is missing or not a directory.
    ///
    /// # Errors
    ///
    /// [`TreeError::Read`] if the tree cannot be read.
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError>;

    /// The names in the directory `path`, in byte order.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotADirectory`], also where nothing stands; [`TreeError::Read`].
    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError>;

    /// The content of the regular file `path`.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotAFile`], also where nothing stands; [`TreeError::Read`].
    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError>;

    /// The rule that keeps `path` out of this tree though it is there, for messages: a pattern of
    /// an ignore file.
    fn hidden_by(&self, path: &ImagePath) -> Option<String> {
        let _ = path;
        None
    }

    /// The path that `path` leads to once all symbolic links in it are followed, the last one too.
    ///
    /// It need not exist: a missing component and what follows it are taken as they are.
    ///
    /// # Errors
    ///
    /// [`TreeError::Loop`] after 255 links; [`TreeError::Read`].
    fn resolve(&self, path: &ImagePath) -> Result<ImagePath, TreeError> {
        let mut resolved = ImagePath::root();
        let mut rest: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                resolved = resolved.parent().unwrap_or_else(ImagePath::root);
                continue;
            }
            let here = resolved.join(&name);
            let Some(Node { kind: Kind::Symlink { target }, .. }) = self.lookup(&here)? else {
                resolved = here;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(TreeError::Loop { path: path.clone() });
            }
            if target.starts_with(b"/") {
                resolved = ImagePath::root();
            }
            let names = target.split(|byte| *byte == b'/');
            // `..` stays, because what it means depends on the links before it.
            for name in names.filter(|name| !name.is_empty() && *name != b".").rev() {
                rest.push_front(name.to_vec());
            }
        }
        Ok(resolved)
    }

    /// Like [`resolve`](Self::resolve), but the last component is not followed.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve).
    fn resolve_parent(&self, path: &ImagePath) -> Result<ImagePath, TreeError> {
        match (path.parent(), path.name()) {
            (Some(parent), Some(name)) => Ok(self.resolve(&parent)?.join(name)),
            _ => Ok(ImagePath::root()),
        }
    }

    /// The whole content of the file that `path` leads to; `None` if there is no regular file.
    ///
    /// # Errors
    ///
    /// [`TreeError::TooLarge`] if it has more than `limit` bytes; else as for
    /// [`resolve`](Self::resolve) and [`open`](Self::open).
    fn read(&self, path: &ImagePath, limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let path = self.resolve(path)?;
        if !matches!(self.lookup(&path)?, Some(Node { kind: Kind::File { .. }, .. })) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut content = self.open(&path)?.take(limit.saturating_add(1));
        if let Err(source) = content.read_to_end(&mut bytes) {
            return Err(TreeError::Read { path, source });
        }
        if bytes.len() as u64 > limit {
            return Err(TreeError::TooLarge { path, limit });
        }
        Ok(Some(bytes))
    }
}

/// The tree of `FROM scratch`: an empty root directory, 0755, owned by root.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyTree;

impl Tree for EmptyTree {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        Ok(path.is_root().then(|| Node {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::EPOCH,
            xattrs: BTreeMap::new(),
            inode: None,
        }))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        if path.is_root() {
            Ok(Vec::new())
        } else {
            Err(TreeError::NotADirectory { path: path.clone() })
        }
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        Err(TreeError::NotAFile { path: path.clone() })
    }
}

/// Why a file tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path leads through more than 255 symbolic links, most likely in a circle.
    #[error("`{path}` leads through too many symbolic links")]
    Loop {
        /// Where the walk began.
        path: ImagePath,
    },
    /// A directory was asked for, and something else or nothing is there.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// Where.
        path: ImagePath,
    },
    /// A regular file was asked for, and something else or nothing is there.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// Where.
        path: ImagePath,
    },
    /// The file is larger than its reader is ready to hold.
    #[error("`{path}` has more than {limit} bytes")]
    TooLarge {
        /// Which file.
        path: ImagePath,
        /// How many bytes were allowed.
        limit: u64,
    },
    /// The operating system refused.
    #[error("cannot read `{path}`")]
    Read {
        /// What was being read.
        path: ImagePath,
        /// What the operating system said.
        source: io::Error,
    },
}

impl TreeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Loop { .. } => Some("look for a symbolic link that leads to itself".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and, for links, where they lead; everything else is a directory.
    struct Links(&'static [(&'static str, &'static str)]);

    impl Tree for Links {
        fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
            let node = EmptyTree.lookup(&ImagePath::root())?;
            let link = self.0.iter().find(|(name, _)| name.as_bytes() == path.as_bytes());
            Ok(link.and_then(|(_, target)| {
                Some(Node { kind: Kind::Symlink { target: (*target).into() }, ..node? })
            }))
        }
        fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
            EmptyTree.read_dir(path)
        }
        fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
            EmptyTree.open(path)
        }
    }

    #[test]
    fn a122_links_are_followed_inside_the_tree() {
        let tree = Links(&[
            ("/lib", "usr/lib"),
            ("/abs", "/usr/./share"),
            ("/up", "../../../etc"),
            ("/usr/back", "../lib/x/.."),
            ("/dangling", "/nowhere/at/all"),
        ]);
        let check = |path: &str, expected: &str| {
            let resolved = tree.resolve(&ImagePath::new(path)).expect("no loop");
            assert_eq!(resolved.to_string(), expected, "{path}");
        };
        check("/lib/a", "/usr/lib/a");
        check("/abs", "/usr/share");
        check("/up/passwd", "/etc/passwd");
        check("/usr/back", "/usr/lib");
        check("/dangling/x", "/nowhere/at/all/x");
        check("/", "/");
    }

    #[test]
    fn the_last_component_is_left_alone_by_resolve_parent() {
        let tree = Links(&[("/lib", "usr/lib")]);
        let check = |path: &str, expected: &str| {
            let resolved = tree.resolve_parent(&ImagePath::new(path)).expect("no loop");
            assert_eq!(resolved.to_string(), expected, "{path}");
        };
        check("/lib", "/lib");
        check("/lib/lib", "/usr/lib/lib");
        check("/", "/");
    }

    #[test]
    fn circles_end_in_an_error() {
        let tree = Links(&[("/a", "b"), ("/b", "a")]);
        let error = tree.resolve(&ImagePath::new("/a/x")).expect_err("a circle");
        assert!(matches!(error, TreeError::Loop { path } if path == ImagePath::new("/a/x")));
    }

    #[test]
    fn the_empty_tree_holds_its_root_alone() {
        assert!(EmptyTree.lookup(&ImagePath::root()).expect("no I/O").is_some());
        assert!(EmptyTree.lookup(&ImagePath::new("/etc")).expect("no I/O").is_none());
        assert!(EmptyTree.read(&ImagePath::new("/etc/passwd"), 10).expect("no I/O").is_none());
    }
}
