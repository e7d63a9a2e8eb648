//! A downloaded file as a tree: a root with one file in it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::fetch::Download;
use crate::layer::{EmptyTree, Kind, Node, Tree, TreeError};
use crate::oci::{Descriptor, ImagePath, Timestamp};
use crate::store::Store;

/// A downloaded file, readable for its owner alone, from when the server says (rule A139).
#[derive(Debug)]
pub struct DownloadedFile {
    store: Store,
    path: ImagePath,
    blob: Descriptor,
    modified: Timestamp,
}

impl DownloadedFile {
    /// A tree with the file `name`.
    pub fn new(store: &Store, name: &str, download: &Download) -> Self {
        Self {
            store: store.clone(),
            path: ImagePath::new(name),
            blob: download.blob.clone(),
            // As in BuildKit, a file of unknown age is as old as can be.
            modified: download.modified.unwrap_or(Timestamp::EPOCH),
        }
    }
}

impl Tree for DownloadedFile {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        if *path != self.path {
            return EmptyTree.lookup(path);
        }
        Ok(Some(Node {
            kind: Kind::File { size: self.blob.size },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: self.modified,
            xattrs: BTreeMap::new(),
            inode: None,
        }))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let name = self.path.name().filter(|_| path.is_root());
        name.map(|name| vec![name.to_vec()])
            .ok_or_else(|| TreeError::NotADirectory { path: path.clone() })
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        if *path != self.path {
            return Err(TreeError::NotAFile { path: path.clone() });
        }
        let file = self.store.open_blob(&self.blob.digest);
        let file = file.map_err(|error| TreeError::Read {
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn a139_the_file_is_the_owners_and_as_old_as_the_server_says() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let blob = store.put(b"text", MediaType::Other(String::new())).expect("space");
        let tree = |modified| {
            DownloadedFile::new(&store, "a b", &Download { blob: blob.clone(), modified })
        };
        let path = ImagePath::new("a b");
        let node = |modified| tree(modified).lookup(&path).expect("read").expect("there");
        let time = Timestamp::from_seconds(5);
        assert_eq!((node(Some(time)).mode, node(Some(time)).mtime), (0o600, time));
        assert_eq!(node(None).mtime, Timestamp::EPOCH);
        assert_eq!(tree(None).read_dir(&ImagePath::root()).expect("root"), [b"a b"]);
        assert_eq!(tree(None).read(&path, 10).expect("read").as_deref(), Some(&b"text"[..]));
        assert!(tree(None).lookup(&ImagePath::new("other")).expect("read").is_none());
        assert!(tree(None).read_dir(&path).is_err());
    }
}
