//! How fast entries become a compressed layer, and a layer a directory.

mod support;

use std::collections::BTreeMap;
use std::io::Cursor;

use coracle::layer::{Entry, Kind, LayerWriter, OverlayFormat, Owners, Target, apply};
use coracle::oci::{Compression, DiffId, ImagePath, Timestamp};

const FILES: usize = 800;
const SIZE: usize = 64 * 1024;

/// Text that compresses about as well as programs do.
fn content(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    (0..SIZE).map(|_| if next() % 3 == 0 { next().to_le_bytes()[0] } else { b'a' }).collect()
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: ImagePath::new(path),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp::EPOCH,
        xattrs: BTreeMap::new(),
    }
}

fn write(files: &[Vec<u8>], compression: Compression) -> (Vec<u8>, DiffId) {
    let mut writer = LayerWriter::new(Vec::new(), compression, None);
    writer.append(&entry("/data", Kind::Directory), None).expect("a directory");
    for (number, content) in files.iter().enumerate() {
        let kind = Kind::File { size: content.len() as u64 };
        let entry = entry(&format!("/data/{number:05}"), kind);
        writer.append(&entry, Some(&mut content.as_slice())).expect("a file");
    }
    let written = writer.finish().expect("writing to memory");
    (written.sink, written.diff_id)
}

fn main() {
    let files: Vec<Vec<u8>> = (0..FILES).map(content).collect();
    let bytes = Some((FILES * SIZE) as u64);
    support::measure("write, no compression", bytes, || drop(write(&files, Compression::None)));
    support::measure("write, gzip", bytes, || drop(write(&files, Compression::Gzip)));
    let (blob, diff_id) = write(&files, Compression::Gzip);
    support::measure("apply, gzip", bytes, || {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = Target {
            directory: directory.path(),
            owners: Owners::Recorded,
            format: OverlayFormat::User,
            lower: None,
        };
        apply(Cursor::new(blob.clone()), &target, diff_id).expect("a layer of our own");
    });
}
