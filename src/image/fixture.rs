//! A small image in a store, for tests.

use std::{
    collections::BTreeMap,
    io::{Read, Write as _},
    path::Path,
    process::Command,
};

use crate::image::{Parts, StoredImage, assemble};
use crate::layer::{Entry, Kind, LayerWriter, Node, Tree, TreeError};
use crate::oci::{
    Compression, History, ImageConfig, ImagePath, Layer, MediaType, Platform, Timestamp,
};
use crate::store::Store;

/// A store with two images of one layer each.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) image: StoredImage,
    pub(crate) other: StoredImage,
    directory: tempfile::TempDir,
    _root: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let (image, other) = (image(&store, "one"), image(&store, "two"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { store, image, other, directory, _root: root }
    }

    /// An empty directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn image(store: &Store, text: &str) -> StoredImage {
    let config = ImageConfig {
        platform: Platform::host(),
        history: vec![
            History { empty_layer: true, ..History::default() },
            History { created_by: Some(format!("RUN {text}")), ..History::default() },
        ],
        ..ImageConfig::default()
    };
    let parts = Parts {
        config,
        inherited_history: 0,
        base: Vec::new(),
        own: vec![(layer(store, text), Timestamp::EPOCH)],
        created: Timestamp::EPOCH,
        source_date_epoch: None,
    };
    assemble(parts).save(store).expect("space")
}

fn layer(store: &Store, text: &str) -> Layer {
    let blob = store.writer().expect("a writer");
    let mut writer = LayerWriter::new(blob, Compression::Gzip, None);
    let entry = Entry {
        path: ImagePath::new("/file"),
        kind: Kind::File { size: text.len() as u64 },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::EPOCH,
        xattrs: BTreeMap::new(),
    };
    writer.append(&entry, Some(&mut text.as_bytes())).expect("space");
    let mut written = writer.finish().expect("space");
    written.sink.flush().expect("space");
    let media_type = MediaType::OciLayer(Compression::Gzip);
    let descriptor = written.sink.commit(media_type).expect("space");
    Layer { descriptor, diff_id: written.diff_id }
}

/// Runs skopeo, which must succeed; does nothing where there is no skopeo.
#[track_caller]
pub(crate) fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output();
    let Ok(output) = output else { return };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {error}");
}

/// A tree in memory.
#[derive(Default)]
pub(crate) struct MemoryTree(BTreeMap<ImagePath, (Node, Vec<u8>)>);

impl MemoryTree {
    /// Adds something; its parents must be added too.
    pub(crate) fn with(mut self, path: &str, kind: Kind, mode: u32) -> Self {
        let node = Node {
            kind,
            mode,
            uid: 7,
            gid: 8,
            mtime: Timestamp { seconds: 1000, nanoseconds: 5 },
            xattrs: BTreeMap::new(),
            inode: None,
        };
        self.0.insert(ImagePath::new(path), (node, Vec::new()));
        self
    }

    /// Adds a file.
    pub(crate) fn file(self, path: &str, text: &str, mode: u32) -> Self {
        let mut tree = self.with(path, Kind::File { size: text.len() as u64 }, mode);
        tree.node(path).1 = text.into();
        tree
    }

    /// Adds a file that is the same as all others with this number.
    pub(crate) fn link(self, path: &str, text: &str, inode: u64) -> Self {
        let mut tree = self.file(path, text, 0o644);
        tree.node(path).0.inode = Some((1, inode));
        tree
    }

    fn node(&mut self, path: &str) -> &mut (Node, Vec<u8>) {
        self.0.get_mut(&ImagePath::new(path)).expect("just added")
    }
}

impl Tree for MemoryTree {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        Ok(self.0.get(path).map(|(node, _)| node.clone()))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let below = self.0.keys().filter(|other| other.parent().as_ref() == Some(path));
        Ok(below.filter_map(ImagePath::name).map(<[u8]>::to_vec).collect())
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        let not_a_file = || TreeError::NotAFile { path: path.clone() };
        let (_, content) = self.0.get(path).ok_or_else(not_a_file)?;
        Ok(Box::new(std::io::Cursor::new(content.clone())))
    }
}
