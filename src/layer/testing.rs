//! What tests of layers have in common: entries, archives of them, and trees as lists.

use std::{collections::BTreeMap, fmt::Write as _, io::Read as _};

use crate::layer::{Entry, Kind, LayerWriter, Owners, Tree};
use crate::oci::{Compression, DiffId, ImagePath, Timestamp};

/// An entry with the mode 0644, owned by root, from 2001.
pub(crate) fn entry(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
    Entry {
        path: ImagePath::new(path),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(1_000_000_000),
        xattrs: BTreeMap::new(),
    }
}

/// A directory with the mode 0755.
pub(crate) fn directory(path: &str) -> (Entry, &'static str) {
    (Entry { mode: 0o755, ..entry(path, Kind::Directory) }, "")
}

/// A file.
pub(crate) fn file(path: &str, content: &'static str) -> (Entry, &'static str) {
    (entry(path, Kind::File { size: content.len() as u64 }), content)
}

/// A symbolic link.
pub(crate) fn symlink(path: &str, target: &str) -> (Entry, &'static str) {
    (Entry { mode: 0o777, ..entry(path, Kind::Symlink { target: target.into() }) }, "")
}

/// A hard link.
pub(crate) fn hard_link(path: &str, target: &str) -> (Entry, &'static str) {
    (entry(path, Kind::Hardlink { target: ImagePath::new(target) }), "")
}

/// A whiteout.
pub(crate) fn whiteout(path: &str) -> (Entry, &'static str) {
    (entry(path, Kind::Whiteout), "")
}

/// The marker of an opaque directory.
pub(crate) fn opaque(path: &str) -> (Entry, &'static str) {
    (entry(path, Kind::OpaqueWhiteout), "")
}

/// The compressed archive and its diff ID.
pub(crate) fn archive(entries: &[(Entry, &'static str)]) -> (Vec<u8>, DiffId) {
    let mut writer = LayerWriter::new(Vec::new(), Compression::Gzip, None);
    for (entry, content) in entries {
        writer.append(entry, Some(&mut content.as_bytes())).expect("a valid entry");
    }
    let written = writer.finish().expect("a Vec takes all");
    (written.sink, written.diff_id)
}

/// The whole tree as text, a line a file: kind, mode, owner, path, then target or content.
pub(crate) fn list(tree: &dyn Tree) -> String {
    let mut text = String::new();
    walk(tree, &ImagePath::root(), &mut text);
    text
}

fn walk(tree: &dyn Tree, path: &ImagePath, text: &mut String) {
    let node = tree.lookup(path).expect("readable").expect("it was listed");
    let (kind, rest) = match &node.kind {
        Kind::File { .. } => {
            let mut content = String::new();
            tree.open(path).expect("a file").read_to_string(&mut content).expect("readable");
            ("-", content)
        }
        Kind::Directory => ("d", String::new()),
        Kind::Symlink { target } => ("l", String::from_utf8_lossy(target).into_owned()),
        Kind::CharDevice { major, minor } => ("c", format!("{major}.{minor}")),
        Kind::BlockDevice { major, minor } => ("b", format!("{major}.{minor}")),
        Kind::Fifo => ("p", String::new()),
        other => ("?", format!("{other:?}")),
    };
    let (mode, uid, gid) = (node.mode, node.uid, node.gid);
    let line = format!("{kind}{mode:o} {uid}:{gid} {path} {rest}");
    writeln!(text, "{}", line.trim_end()).expect("a String takes all");
    if node.kind == Kind::Directory {
        for name in tree.read_dir(path).expect("a directory") {
            walk(tree, &path.join(name), text);
        }
    }
}

/// How owners can be kept here.
pub(crate) fn owners() -> Owners {
    if is_root() { Owners::Real } else { Owners::Recorded }
}

/// Whether the tests that need root can run. Where they must, it is a failure if they cannot.
pub(crate) fn is_root() -> bool {
    // Root of a user namespace is not root enough: it cannot give files to any owner.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_root = rustix::process::geteuid().is_root() && map.contains("4294967295");
    assert!(is_root || std::env::var_os("CORACLE_MUST_WORK").is_none(), "needs root");
    is_root
}
