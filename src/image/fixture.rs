//! A small image in a store, for tests.

use std::{io::Write as _, path::Path, process::Command};

use crate::image::{Parts, StoredImage, assemble};
use crate::layer::{Entry, Kind, LayerWriter};
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
        history: vec![History::default()],
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
        xattrs: std::collections::BTreeMap::new(),
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
