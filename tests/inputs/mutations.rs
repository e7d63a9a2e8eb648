//! Good inputs with a few bytes changed: nothing may panic, and what is understood must be sound.
//!
//! The fuzz targets do the same for longer; this is what fits into every test run.

use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use coracle::image::import_tar;
use coracle::layer::{LayerReader, Names, OverlayFormat, Owners, Target, apply};
use coracle::oci::{DiffId, Digest, Document, ImageConfig, ImageIndex, Manifest, Reference};
use coracle::registry::Challenge;
use coracle::store::Store;
use proptest::prelude::*;

use crate::checksums;

/// The files of a directory of the test data.
fn files(directory: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(directory);
    let entries = std::fs::read_dir(directory).expect("the test data is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// One of the files with some bytes changed, and perhaps without its end.
fn mutated(directory: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (prop::sample::select(files(directory)), changes, cut).prop_map(|(mut bytes, changes, cut)| {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
        bytes.truncate(length);
        bytes
    })
}

/// Whether what is written out again is the same value.
macro_rules! check_document {
    ($document:ty, $bytes:expr) => {
        if let Ok(read) = Document::<$document>::parse($bytes.clone(), "document") {
            let written = Document::new(read.value().clone());
            let again = Document::<$document>::parse(written.bytes().to_vec(), "document");
            let again = again.expect("our own document can be read");
            prop_assert_eq!(again.value(), read.value());
        }
    };
}

proptest! {
    #[test]
    fn documents(bytes in mutated("documents")) {
        check_document!(Manifest, bytes);
        check_document!(ImageIndex, bytes);
        check_document!(ImageConfig, bytes);
    }

    #[test]
    fn layers(mut bytes in mutated("layers")) {
        if !bytes.starts_with(&[0x1f, 0x8b]) && !bytes.starts_with(&[0x28, 0xb5]) {
            checksums::repair(&mut bytes);
        }
        for names in [Names::Layer, Names::Plain] {
            let Ok(mut reader) = LayerReader::new(&bytes[..], names) else { continue };
            while let Ok(Some(entry)) = reader.next_entry() {
                prop_assert!(entry.path.components().all(|name| name != b".." && name != b"."));
                if reader.by_ref().take(1 << 20).read_to_end(&mut Vec::new()).is_err() {
                    break;
                }
            }
        }
        let outside = tempfile::tempdir().expect("a directory can be made");
        let inside = outside.path().join("inside");
        std::fs::create_dir(&inside).expect("a directory can be made");
        let sentinel = outside.path().join("sentinel");
        std::fs::write(&sentinel, "untouched").expect("a file can be made");
        let (owners, format) = (Owners::Recorded, OverlayFormat::User);
        let target = Target { directory: &inside, owners, format, lower: None };
        let expected = DiffId(Digest::of(&bytes));
        let _ = apply(Cursor::new(bytes), &target, expected);
        prop_assert_eq!(std::fs::read_dir(&outside).expect("readable").count(), 2);
        prop_assert_eq!(std::fs::read(&sentinel).expect("readable"), b"untouched");
    }

    #[test]
    fn archives(mut bytes in mutated("archives")) {
        checksums::repair(&mut bytes);
        let directory = tempfile::tempdir().expect("a directory can be made");
        let store = Store::open(directory.path()).expect("a store can be made");
        for image in import_tar(&store, &bytes[..]).unwrap_or_default() {
            prop_assert!(store.contains(&image.descriptor.digest));
        }
    }

    #[test]
    fn references(text in "[a-zA-Z0-9._/:@\\[\\]-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn challenges(text in "(Bearer |Basic |realm=|service=|\"|[ -~é]){0,40}") {
        let _ = Challenge::choose([text.as_str()]);
    }
}
