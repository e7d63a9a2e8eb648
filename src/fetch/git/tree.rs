//! The files of a checkout, as everybody's checkout has them.

use std::fmt;
use std::io::Read;

use crate::context::HostDirectory;
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::{ImagePath, Timestamp};
use crate::store::TempDir;

/// One commit's files. They are removed from the disk with the last use.
///
/// Git knows of a file whether it can be run, and nothing else: so the mode is 0644 or 0755,
/// whatever the umask, and the time is the commit's, whenever it was checked out.
pub struct Checkout {
    files: HostDirectory,
    uri: String,
    commit: String,
    time: Timestamp,
    _directory: TempDir,
}

impl Checkout {
    pub(crate) fn new(
        files: HostDirectory,
        (uri, commit): (String, String),
        time: Timestamp,
        directory: TempDir,
    ) -> Self {
        Self { files, uri, commit, time, _directory: directory }
    }

    /// Where it came from, without secrets: `https://host/x.git#ref:subdir`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The commit's name.
    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl Tree for Checkout {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        let node = self.files.lookup(path)?;
        Ok(node.map(|node| {
            let mode = match node.kind {
                Kind::Symlink { .. } => 0o777,
                Kind::File { .. } if node.mode & 0o100 == 0 => 0o644,
                _ => 0o755,
            };
            // Objects in `.git` may be hard links, which means nothing.
            Node { mode, mtime: self.time, inode: None, ..node }
        }))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        self.files.read_dir(path)
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        self.files.open(path)
    }
}

impl fmt::Debug for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").field("commit", &self.commit).finish_non_exhaustive()
    }
}
