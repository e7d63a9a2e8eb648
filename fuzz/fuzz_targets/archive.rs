//! An archive with images, read into a store of its own: what it names must be there.

#![no_main]

#[path = "../../tests/inputs/checksums.rs"]
mod checksums;

use std::path::Path;

use coracle::image::import_tar;
use coracle::store::Store;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut archive = data.to_vec();
    checksums::repair(&mut archive);
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = made.expect("a directory can be made");
    let store = Store::open(directory.path()).expect("a store can be made");
    for image in import_tar(&store, &archive[..]).unwrap_or_default() {
        assert!(store.contains(&image.descriptor.digest), "{:?} is not there", image.descriptor);
    }
});
