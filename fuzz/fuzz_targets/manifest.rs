//! Manifests, indexes and configs: what is written out again is the same value.

#![no_main]

use coracle::oci::{Document, ImageConfig, ImageIndex, Manifest};
use libfuzzer_sys::fuzz_target;

/// Reads the bytes, writes the value, and reads that.
macro_rules! round_trip {
    ($document:ty, $data:expr) => {
        if let Ok(read) = Document::<$document>::parse($data.to_vec(), "document") {
            assert_eq!(read.bytes(), $data);
            let written = Document::new(read.value().clone());
            let again = Document::<$document>::parse(written.bytes().to_vec(), "document");
            assert_eq!(again.expect("our own document can be read").value(), read.value());
        }
    };
}

fuzz_target!(|data: &[u8]| {
    round_trip!(Manifest, data);
    round_trip!(ImageIndex, data);
    round_trip!(ImageConfig, data);
});
