//! Layers as lists of files: written for base images, read back from results.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;

use tar::EntryType;

/// When everything in a base image was last changed: 2019-01-01.
pub(crate) const BASE_TIME: u64 = 1_546_300_800;

/// What stands in a layer at some path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// `-`, `d`, `l`, `h` (a hard link), `c`, `b` or `p`.
    pub(crate) kind: char,
    /// The permission bits.
    pub(crate) mode: u32,
    /// The owner.
    pub(crate) uid: u64,
    /// The group.
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Where a link leads.
    pub(crate) link: String,
    /// The content of a regular file.
    pub(crate) content: Vec<u8>,
}

impl File {
    /// The content, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// `d 755 0:0`
    pub(crate) fn summary(&self) -> String {
        format!("{} {:o} {}:{}", self.kind, self.mode, self.uid, self.gid)
    }
}

/// The files of a layer by path, without a leading `/` or `./`.
pub(crate) type Files = BTreeMap<String, File>;

/// Writes a layer.
pub(crate) struct LayerBuilder(tar::Builder<Vec<u8>>);

impl LayerBuilder {
    /// An empty layer.
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a directory of root's.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.append(&format!("{path}/"), EntryType::Directory, mode, &[], None);
    }

    /// Adds a file of root's.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.append(path, EntryType::Regular, mode, content, None);
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, to: &str) {
        self.append(path, EntryType::Symlink, 0o777, &[], Some(to));
    }

    fn append(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        content: &[u8],
        link: Option<&str>,
    ) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(BASE_TIME);
        header.set_size(content.len() as u64);
        if let Some(to) = link {
            header.set_link_name(to).expect("test links are short");
        }
        self.0.append_data(&mut header, path, content).expect("memory can be written");
    }

    /// The tar.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory can be written")
    }
}

/// Compresses.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// The tar in a layer blob, whether it is compressed or not.
pub(crate) fn unpack(blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        let mut decoder = flate2::read::MultiGzDecoder::new(blob);
        decoder.read_to_end(&mut bytes).expect("the layer is sound gzip");
    } else if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        bytes = zstd::decode_all(blob).expect("the layer is sound zstd");
    } else {
        bytes = blob.to_vec();
    }
    bytes
}

/// The files in a tar, whiteouts included; a path must not come twice.
pub(crate) fn read(tar: &[u8]) -> Files {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("the layer is a tar") {
        let mut entry = entry.expect("the layer is a sound tar");
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        let link = entry.link_name_bytes();
        let link = link.map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
        let header = entry.header().clone();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("the layer is whole");
        let number = |value: std::io::Result<u64>| value.expect("the layer has sound numbers");
        let file = File {
            kind: letter(header.entry_type()),
            mode: header.mode().expect("the layer has sound modes"),
            uid: number(header.uid()),
            gid: number(header.gid()),
            mtime: number(header.mtime()),
            link,
            content,
        };
        let before = files.insert(path.clone(), file);
        assert!(before.is_none(), "{path} is twice in a layer");
    }
    files
}

fn letter(kind: EntryType) -> char {
    match kind {
        EntryType::Regular => '-',
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::Link => 'h',
        EntryType::Char => 'c',
        EntryType::Block => 'b',
        EntryType::Fifo => 'p',
        other => panic!("a layer has an entry of type {other:?}"),
    }
}

/// Puts one layer on top of others, as a container would see them.
pub(crate) fn merge(below: &mut Files, layer: &Files) {
    for path in layer.keys() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let hidden = match name.strip_prefix(".wh.") {
            Some(".wh..opq") => format!("{parent}/"),
            Some(name) if parent.is_empty() => name.to_owned(),
            Some(name) => format!("{parent}/{name}"),
            None => continue,
        };
        let inside = format!("{}/", hidden.trim_end_matches('/'));
        below.retain(|path, _| *path != hidden && !path.starts_with(&inside));
    }
    let present = layer
        .iter()
        .filter(|(path, _)| !path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")));
    for (path, file) in present {
        if file.kind != 'd' {
            let inside = format!("{path}/");
            below.retain(|path, _| !path.starts_with(&inside));
        }
        below.insert(path.clone(), file.clone());
    }
}
