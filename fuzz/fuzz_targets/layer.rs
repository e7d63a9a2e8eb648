//! A layer: read from end to end, then applied to a directory that nothing may leave.

#![no_main]

#[path = "../../tests/inputs/checksums.rs"]
mod checksums;

use std::io::{Cursor, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use coracle::layer::{LayerReader, Names, OverlayFormat, Owners, Target, apply};
use coracle::oci::{DiffId, Digest};
use libfuzzer_sys::fuzz_target;

/// How much of each content is read: a sparse file may claim to be as large as it likes.
const READ: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut archive = data.to_vec();
    if !data.starts_with(&[0x1f, 0x8b]) && !data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        checksums::repair(&mut archive);
    }
    let data = archive;
    for names in [Names::Layer, Names::Plain] {
        let Ok(mut reader) = LayerReader::new(&data[..], names) else { return };
        while let Ok(Some(entry)) = reader.next_entry() {
            assert!(entry.path.components().all(|name| name != b".." && name != b"."));
            if reader.by_ref().take(READ).read_to_end(&mut Vec::new()).is_err() {
                break;
            }
        }
    }
    let outside = directory();
    let inside = outside.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory can be made");
    let sentinel = outside.path().join("sentinel");
    std::fs::write(&sentinel, "untouched").expect("a file can be made");
    let target = Target {
        directory: &inside,
        owners: Owners::Recorded,
        format: OverlayFormat::User,
        lower: None,
    };
    let expected = DiffId(Digest::of(&data));
    let _ = apply(Cursor::new(data), &target, expected);
    let mut names: Vec<_> = std::fs::read_dir(&outside)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["inside", "sentinel"]);
    assert_eq!(std::fs::read(&sentinel).expect("readable"), b"untouched");
    let metadata = std::fs::metadata(&sentinel).expect("it is there");
    assert_eq!((metadata.nlink(), metadata.mode() & 0o7000), (1, 0));
});

/// A directory in memory, where there is one.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory can be made")
}
