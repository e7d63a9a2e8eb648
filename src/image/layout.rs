//! Images as OCI image layouts: a directory, or a tar archive of one.
//!
//! Each name gives an entry in `index.json` with the annotations that `BuildKit` writes: the tag
//! alone as `org.opencontainers.image.ref.name`, so that `skopeo copy oci-archive:x.tar:TAG` finds
//! it, and the full name as `io.containerd.image.name`, which `ctr image import` uses.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::image::archive::{Archive, failed};
use crate::image::{ImageError, StoredImage};
use crate::oci::{Descriptor, Document, ImageIndex, Reference};
use crate::store::{LAYOUT, REF_NAME, Store, index, publish, remove_tree};

const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Writes the image as a tar archive of an OCI layout (`-o type=oci`).
///
/// # Errors
///
/// Fails if a blob is missing or altered, or the output cannot be written.
pub fn write_oci_tar(
    store: &Store,
    image: &StoredImage,
    names: &[Reference],
    output: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut archive = Archive::new(output);
    let index = ImageIndex { manifests: entries(image, names), ..index::empty() };
    archive.file("oci-layout", LAYOUT.as_bytes())?;
    archive.file("index.json", Document::new(index).bytes())?;
    archive.directory("blobs")?;
    archive.directory("blobs/sha256")?;
    for blob in image.blobs() {
        archive.blob(&format!("blobs/sha256/{}", blob.digest.hex()), store, &blob)?;
    }
    archive.finish()
}

/// Writes the image as an OCI layout into the directory `output` (`-o type=oci,tar=false`), which
/// is made if it is missing. Where a layout is there already, the image is added to it, and takes
/// its names from whatever had them.
///
/// # Errors
///
/// [`ImageError::NotEmpty`] if the directory holds something else; else as [`write_oci_tar`].
pub fn write_oci_layout(
    store: &Store,
    image: &StoredImage,
    names: &[Reference],
    output: &Path,
) -> Result<(), ImageError> {
    publish::create_dirs(output, 0o755)?;
    // What a killed attempt has left.
    let temporary = output.join(".coracle-unfinished");
    remove_tree(&temporary)?;
    let marker = output.join("oci-layout");
    let mut present = fs::read_dir(output).map_err(|source| ImageError::Output { source })?;
    if !marker.exists() && present.next().is_some() {
        return Err(ImageError::NotEmpty(output.to_owned()));
    }
    let index_path = output.join("index.json");
    let mut index = index::read(&index_path)?;
    add(&mut index, entries(image, names));

    // The file that makes it a layout comes first, so that a second try is not told that the
    // directory is not empty; the list of images last, when all that it names is there.
    let durability = publish::Durability::Replaceable;
    publish::replace(&marker, &temporary, LAYOUT.as_bytes(), 0o644, durability)?;
    let blobs = output.join("blobs/sha256");
    publish::create_dir(&output.join("blobs"), 0o755)?;
    publish::create_dir(&blobs, 0o755)?;
    for blob in image.blobs() {
        copy(store, &blob, &blobs.join(blob.digest.hex()), &temporary)?;
    }
    index::write(&index_path, &temporary, index)?;
    Ok(())
}

/// The entries of `index.json` for the image.
fn entries(image: &StoredImage, names: &[Reference]) -> Vec<Descriptor> {
    let platform = Some(image.config.value().platform.clone());
    let entry = Descriptor { platform, ..image.descriptor.clone() };
    let entry_for = |name: &Reference| {
        let mut entry = entry.clone();
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
        if let Some(tag) = name.tag() {
            entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        entry
    };
    if names.is_empty() { vec![entry] } else { names.iter().map(entry_for).collect() }
}

/// Adds entries, each in the place of those with the same name.
fn add(index: &mut ImageIndex, entries: Vec<Descriptor>) {
    for entry in entries {
        let name = entry.annotations.get(CONTAINERD_NAME);
        index.manifests.retain(|other| match (name, other.annotations.get(CONTAINERD_NAME)) {
            (None, None) => other.digest != entry.digest,
            (ours, theirs) => ours != theirs,
        });
        index.manifests.push(entry);
    }
}

/// Copies one blob to `path`, by way of `temporary` in the same file system.
fn copy(store: &Store, blob: &Descriptor, path: &Path, temporary: &Path) -> Result<(), ImageError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == blob.size) {
        return Ok(());
    }
    let mut content = store.open_verified(blob)?;
    let mut file: File = publish::create(temporary, 0o644)?;
    let copied = io::copy(&mut content, &mut file).and_then(|_| fs::rename(temporary, path));
    if copied.is_err() {
        fs::remove_file(temporary).ok();
    }
    copied.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::{Fixture, skopeo};
    use crate::store::StoreError;

    fn names(texts: &[&str]) -> Vec<Reference> {
        texts.iter().map(|text| text.parse().expect("valid")).collect()
    }

    #[test]
    fn skopeo_reads_the_archive_by_tag() {
        let fixture = Fixture::new();
        let mut bytes = Vec::new();
        write_oci_tar(&fixture.store, &fixture.image, &names(&["a.io/x:1", "b:2"]), &mut bytes)
            .expect("written");
        let path = fixture.directory().join("x.tar");
        std::fs::write(&path, bytes).expect("writable");
        skopeo(&["inspect", &format!("oci-archive:{}:2", path.display())]);
    }

    #[test]
    fn the_archive_is_the_same_each_time() {
        let fixture = Fixture::new();
        let write = || {
            let mut bytes = Vec::new();
            write_oci_tar(&fixture.store, &fixture.image, &[], &mut bytes).expect("written");
            bytes
        };
        assert_eq!(write(), write());
        let mut archive = tar::Archive::new(io::Cursor::new(write()));
        for entry in archive.entries().expect("an archive") {
            let entry = entry.expect("whole");
            let header = entry.header();
            let of_nobody = (header.mtime().ok(), header.uid().ok(), header.gid().ok());
            assert_eq!(of_nobody, (Some(0), Some(0), Some(0)));
        }
    }

    #[test]
    fn a_directory_takes_several_images_and_the_last_one_has_the_name() {
        let fixture = Fixture::new();
        let output = fixture.directory().join("layout");
        std::fs::create_dir(&output).expect("writable");
        std::fs::write(output.join(".coracle-unfinished"), "killed").expect("writable");
        let write = |image, texts: &[&str]| {
            write_oci_layout(&fixture.store, image, &names(texts), &output).expect("written");
        };
        write(&fixture.image, &["a:1", "b:2"]);
        write(&fixture.other, &["a:1"]);
        let index = index::read(&output.join("index.json")).expect("a list");
        let found: Vec<_> = index.manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(found, [fixture.image.descriptor.digest, fixture.other.descriptor.digest]);
        skopeo(&["inspect", &format!("oci:{}:1", output.display())]);
        skopeo(&["inspect", &format!("oci:{}:2", output.display())]);
        assert!(!output.join(".coracle-unfinished").exists());
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let fixture = Fixture::new();
        std::fs::write(fixture.directory().join("thesis.tex"), "x").expect("writable");
        let error = write_oci_layout(&fixture.store, &fixture.image, &[], fixture.directory())
            .expect_err("not empty");
        assert!(matches!(error, ImageError::NotEmpty(_)));
    }

    #[test]
    fn an_altered_layer_does_not_leave_the_machine() {
        let fixture = Fixture::new();
        let layer = fixture.image.manifest.value().layers[0].clone();
        let path = fixture.store.root().join("blobs/sha256").join(layer.digest.hex());
        let size = usize::try_from(layer.size).expect("small");
        std::fs::write(path, vec![0; size]).expect("writable");
        let error = write_oci_tar(&fixture.store, &fixture.image, &[], &mut io::sink())
            .expect_err("altered");
        assert!(matches!(error, ImageError::Store(StoreError::WrongDigest { .. })), "{error}");
    }

    #[test]
    fn skopeo_reads_the_store_itself_by_full_name() {
        let fixture = Fixture::new();
        let name: Reference = "python:3".parse().expect("valid");
        fixture.store.tag(&name, &fixture.image.descriptor).expect("there");
        fixture.store.tag(&names(&["a.io/y:1"])[0], &fixture.other.descriptor).expect("there");
        let root = fixture.store.root().display();
        skopeo(&["inspect", &format!("oci:{root}:docker.io/library/python:3")]);
    }
}
