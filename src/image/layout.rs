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

/// What is written: an image, or an index with all its images, and the names for it.
#[derive(Debug, Clone)]
pub struct Export {
    /// The manifest or index, with its platform where it has one.
    root: Descriptor,
    /// Everything that it leads to, itself too, each once.
    blobs: Vec<Descriptor>,
    names: Vec<ExportName>,
}

/// A name in a layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportName {
    /// The name in full.
    pub full: Option<Reference>,
    /// The tag alone.
    pub tag: Option<String>,
}

impl Export {
    /// An image by the names that it has elsewhere too.
    pub fn of_image(image: &StoredImage, names: &[Reference]) -> Self {
        let platform = Some(image.config.value().platform.clone());
        let root = Descriptor { platform, ..image.descriptor.clone() };
        let name = |full: &Reference| ExportName {
            full: Some(full.clone()),
            tag: full.tag().map(str::to_owned),
        };
        Self { root, blobs: image.blobs(), names: names.iter().map(name).collect() }
    }

    /// What `root`, a manifest or an index in the store, leads to.
    ///
    /// # Errors
    ///
    /// Fails if a manifest or an index is missing or malformed. Other blobs are missed when they are
    /// written.
    pub fn read(store: &Store, root: &Descriptor, name: ExportName) -> Result<Self, ImageError> {
        let contents = store.contents(root)?;
        let documents = contents.manifests.into_iter().map(|(descriptor, _)| descriptor);
        // What a foreign layer is fetched from is written in its manifest (rule B055).
        let is_ours = |blob: &Descriptor| !blob.media_type.is_foreign() || store.has(blob);
        let blobs = documents.chain(contents.blobs.into_iter().filter(is_ours)).collect();
        Ok(Self { root: root.clone(), blobs, names: vec![name] })
    }

    /// The entries of `index.json`.
    fn entries(&self) -> Vec<Descriptor> {
        let entry_for = |name: &ExportName| {
            let mut entry = self.root.clone();
            if let Some(full) = &name.full {
                entry.annotations.insert(CONTAINERD_NAME.to_owned(), full.to_string());
            }
            if let Some(tag) = &name.tag {
                entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
            }
            entry
        };
        let names = self.names.iter().map(entry_for).collect();
        if self.names.is_empty() { vec![self.root.clone()] } else { names }
    }
}

/// Writes the image as a tar archive of an OCI layout (`-o type=oci`).
///
/// # Errors
///
/// Fails if a blob is missing or altered, or the output cannot be written.
pub fn write_oci_tar(
    store: &Store,
    export: &Export,
    output: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut archive = Archive::new(output);
    let index = ImageIndex { manifests: export.entries(), ..index::empty() };
    archive.file("oci-layout", LAYOUT.as_bytes())?;
    archive.file("index.json", Document::new(index).bytes())?;
    archive.directory("blobs")?;
    archive.directory("blobs/sha256")?;
    for blob in &export.blobs {
        archive.blob(&format!("blobs/sha256/{}", blob.digest.hex()), store, blob)?;
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
pub fn write_oci_layout(store: &Store, export: &Export, output: &Path) -> Result<(), ImageError> {
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
    add(&mut index, export.entries());

    // The file that makes it a layout comes first, so that a second try is not told that the
    // directory is not empty; the list of images last, when all that it names is there.
    let durability = publish::Durability::Replaceable;
    publish::replace(&marker, &temporary, LAYOUT.as_bytes(), 0o644, durability)?;
    let blobs = output.join("blobs/sha256");
    publish::create_dir(&output.join("blobs"), 0o755)?;
    publish::create_dir(&blobs, 0o755)?;
    for blob in &export.blobs {
        copy(store, blob, &blobs.join(blob.digest.hex()), &temporary)?;
    }
    index::write(&index_path, &temporary, index)?;
    Ok(())
}

/// Adds entries, each in the place of those with the same name.
fn add(index: &mut ImageIndex, entries: Vec<Descriptor>) {
    // The full name, or else the tag alone.
    let name = |entry: &Descriptor| {
        let annotation = |key| Some((key, entry.annotations.get(key)?.clone()));
        annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME))
    };
    let is_same = |entry: &Descriptor, other: &Descriptor| match (name(entry), name(other)) {
        (None, None) => other.digest == entry.digest,
        (ours, theirs) => ours == theirs,
    };
    for entry in entries {
        index.manifests.retain(|other| !is_same(&entry, other));
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
        let export = Export::of_image(&fixture.image, &names(&["a.io/x:1", "b:2"]));
        write_oci_tar(&fixture.store, &export, &mut bytes).expect("written");
        let path = fixture.directory().join("x.tar");
        std::fs::write(&path, bytes).expect("writable");
        skopeo(&["inspect", &format!("oci-archive:{}:2", path.display())]);
    }

    #[test]
    fn the_archive_is_the_same_each_time() {
        let fixture = Fixture::new();
        let write = || {
            let mut bytes = Vec::new();
            let export = Export::of_image(&fixture.image, &[]);
            write_oci_tar(&fixture.store, &export, &mut bytes).expect("written");
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
            let export = Export::of_image(image, &names(texts));
            write_oci_layout(&fixture.store, &export, &output).expect("written");
        };
        write(&fixture.image, &["a:1", "b:2"]);
        write(&fixture.other, &["a:1"]);
        let index = index::read(&output.join("index.json")).expect("a list");
        let found: Vec<_> = index.manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(found, [fixture.image.descriptor.digest, fixture.other.descriptor.digest]);
        skopeo(&["inspect", &format!("oci:{}:1", output.display())]);
        skopeo(&["inspect", &format!("oci:{}:2", output.display())]);
        assert!(!output.join(".coracle-unfinished").exists());
        let tagged = |tag: &str| ExportName { full: None, tag: Some(tag.to_owned()) };
        let write = |image: &StoredImage, tag: &str| {
            let export = Export::read(&fixture.store, &image.descriptor, tagged(tag));
            let export = export.expect("in the store");
            write_oci_layout(&fixture.store, &export, &output).expect("written");
        };
        write(&fixture.image, "new");
        write(&fixture.other, "new");
        let index = index::read(&output.join("index.json")).expect("a list");
        assert_eq!(index.manifests.len(), 3, "{index:?}");
        skopeo(&["inspect", &format!("oci:{}:new", output.display())]);
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let fixture = Fixture::new();
        std::fs::write(fixture.directory().join("thesis.tex"), "x").expect("writable");
        let export = Export::of_image(&fixture.image, &[]);
        let error =
            write_oci_layout(&fixture.store, &export, fixture.directory()).expect_err("not empty");
        assert!(matches!(error, ImageError::NotEmpty(_)));
    }

    #[test]
    fn an_altered_layer_does_not_leave_the_machine() {
        let fixture = Fixture::new();
        let layer = fixture.image.manifest.value().layers[0].clone();
        let path = fixture.store.root().join("blobs/sha256").join(layer.digest.hex());
        let size = usize::try_from(layer.size).expect("small");
        std::fs::write(path, vec![0; size]).expect("writable");
        let export = Export::of_image(&fixture.image, &[]);
        let error = write_oci_tar(&fixture.store, &export, &mut io::sink()).expect_err("altered");
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
