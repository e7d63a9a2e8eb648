//! Reads images from files: an OCI layout in a directory or a tar, or a docker-archive.
//!
//! A tar is read once, from front to back. Every blob is hashed on its way into the store; what
//! the archive *says* of a digest is believed only after that.
//!
//! Specs: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>,
//! <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::image::ImageError;
use crate::oci::Compression;
use crate::oci::Descriptor;
use crate::oci::Digest;
use crate::oci::Document;
use crate::oci::ImageConfig;
use crate::oci::ImageIndex;
use crate::oci::Manifest;
use crate::oci::MediaType;
use crate::oci::Reference;
use crate::store::Store;

/// Documents in an archive are never larger (rule B049).
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;
/// The annotations that name an image in an OCI layout: containerd's full name, then the spec's.
pub(crate) const NAMES: [&str; 2] =
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name, if the archive gave it one that is a reference.
    pub reference: Option<Reference>,
    /// What the archive calls it, whether that is a reference or a tag alone.
    pub name: Option<String>,
    /// Its manifest or index, in the store.
    pub descriptor: Descriptor,
}

/// Reads an OCI layout from a directory.
///
/// # Errors
///
/// [`ImageError::NotAnImage`] if it is not one; what was read by then stays, without a name.
pub fn import_directory(store: &Store, directory: &Path) -> Result<Vec<Imported>, ImageError> {
    let mut found = Archive::default();
    let blobs = directory.join("blobs/sha256");
    for name in ["index.json", "manifest.json"] {
        if let Ok(file) = File::open(directory.join(name)) {
            found.documents.insert(name.to_owned(), document(file)?);
        }
    }
    let entries = std::fs::read_dir(&blobs).map_err(|e| unreadable(&blobs, e))?;
    for entry in entries {
        let path = entry.map_err(|e| unreadable(&blobs, e))?.path();
        let file = File::open(&path).map_err(|e| unreadable(&path, e))?;
        let name = format!("blobs/sha256/{}", path.file_name().unwrap_or_default().display());
        found.blob(store, name, file)?;
    }
    found.images(store)
}

/// Reads an OCI layout or a docker-archive from a tar.
///
/// # Errors
///
/// [`ImageError::NotAnImage`] if it is neither; what was read by then stays, without a name.
pub fn import_tar(store: &Store, reader: impl Read) -> Result<Vec<Imported>, ImageError> {
    let mut found = Archive::default();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes().into_owned();
        let name = String::from_utf8_lossy(&path).trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular if matches!(&*name, "index.json" | "manifest.json") => {
                found.documents.insert(name, document(&mut entry)?);
            }
            tar::EntryType::Regular if matches!(&*name, "oci-layout" | "repositories") => {}
            tar::EntryType::Regular => found.blob(store, name, &mut entry)?,
            // Old archives of Docker give a layer that stands twice as a link to the first.
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8_lossy(&target).into_owned();
                found.links.insert(name, target);
            }
            _ => {}
        }
    }
    found.images(store)
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Archive {
    documents: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(crate) fn unreadable(path: &Path, source: io::Error) -> ImageError {
    ImageError::Read { path: path.to_owned(), source }
}

fn broken(source: io::Error) -> ImageError {
    ImageError::Input { source }
}

pub(crate) fn document(reader: impl Read) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let read = reader.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(broken)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(ImageError::NotAnImage("its index is larger than 4 MiB".to_owned()));
    }
    Ok(bytes)
}

impl Archive {
    /// Takes one file into the store, under the digest that it really has.
    fn blob(
        &mut self,
        store: &Store,
        name: String,
        mut reader: impl Read,
    ) -> Result<(), ImageError> {
        let mut writer = store.writer()?;
        io::copy(&mut reader, &mut writer).map_err(broken)?;
        let descriptor = writer.commit(MediaType::Other(String::new()))?;
        if let Some(hex) = name.strip_prefix("blobs/sha256/")
            && hex != descriptor.digest.hex()
        {
            let reason = format!("blob {hex} has the digest {}", descriptor.digest);
            return Err(ImageError::NotAnImage(reason));
        }
        self.blobs.insert(name, (descriptor.digest, descriptor.size));
        Ok(())
    }

    /// The images that the archive's own index names.
    fn images(&self, store: &Store) -> Result<Vec<Imported>, ImageError> {
        if let Some(bytes) = self.documents.get("index.json") {
            return self.layout(bytes.clone());
        }
        if let Some(bytes) = self.documents.get("manifest.json") {
            return self.docker_archive(store, bytes);
        }
        let reason = "it has neither an index.json nor a manifest.json".to_owned();
        Err(ImageError::NotAnImage(reason))
    }

    fn layout(&self, bytes: Vec<u8>) -> Result<Vec<Imported>, ImageError> {
        let index: Document<ImageIndex> = Document::parse(bytes, "OCI layout index")?;
        let mut images = Vec::new();
        for descriptor in &index.value().manifests {
            self.require(&descriptor.digest)?;
            let name = NAMES.iter().find_map(|name| descriptor.annotations.get(*name));
            let reference = name.and_then(|name| name.parse().ok());
            let media_type = descriptor.media_type.clone();
            let descriptor = Descriptor::new(media_type, descriptor.digest, descriptor.size);
            images.push(Imported { reference, name: name.cloned(), descriptor });
        }
        Ok(images)
    }

    fn require(&self, digest: &Digest) -> Result<(), ImageError> {
        let is_there = self.blobs.values().any(|(known, _)| known == digest);
        is_there.then_some(()).ok_or_else(|| {
            ImageError::NotAnImage(format!("the blob {digest} that its index names is missing"))
        })
    }

    fn docker_archive(&self, store: &Store, bytes: &[u8]) -> Result<Vec<Imported>, ImageError> {
        let images: Vec<DockerImage> = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::NotAnImage(format!("manifest.json: {error}")))?;
        let mut imported = Vec::new();
        for image in images {
            let descriptor = self.docker_image(store, &image)?;
            let names = image.repo_tags.unwrap_or_default();
            if names.is_empty() {
                let descriptor = descriptor.clone();
                imported.push(Imported { reference: None, name: None, descriptor });
            }
            for name in names {
                let reference = name.parse().ok();
                let (name, descriptor) = (Some(name), descriptor.clone());
                imported.push(Imported { reference, name, descriptor });
            }
        }
        Ok(imported)
    }

    /// Writes the manifest that a docker-archive does not have.
    fn docker_image(&self, store: &Store, image: &DockerImage) -> Result<Descriptor, ImageError> {
        let (digest, size) = self.named(&image.config)?;
        let config = Descriptor::new(MediaType::OciConfig, digest, size);
        let bytes = store.read(&config, DOCUMENT_LIMIT)?;
        let parsed: Document<ImageConfig> = Document::parse(bytes, "image config")?;
        let diff_ids = &parsed.value().rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            let (layers, diff_ids) = (image.layers.len(), diff_ids.len());
            let reason = format!("it has {layers} layers, but its config lists {diff_ids}");
            return Err(ImageError::NotAnImage(reason));
        }
        let mut layers = Vec::new();
        for name in &image.layers {
            let (digest, size) = self.named(name)?;
            let compression = compression(store, &digest)?;
            layers.push(Descriptor::new(MediaType::OciLayer(compression), digest, size));
        }
        let manifest = Document::new(Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        });
        Ok(store.put(manifest.bytes(), MediaType::OciManifest)?)
    }

    /// The blob that stands under `name`, perhaps by way of a link.
    fn named(&self, name: &str) -> Result<(Digest, u64), ImageError> {
        let target = self.links.get(name).map(|target| {
            // `../<id>/layer.tar`, relative to the directory of the link.
            target.trim_start_matches("../").to_owned()
        });
        let found = self.blobs.get(name).or_else(|| self.blobs.get(&target?));
        found.copied().ok_or_else(|| ImageError::NotAnImage(format!("the file {name} is missing")))
    }
}

/// How a blob is compressed, by its first bytes.
fn compression(store: &Store, digest: &Digest) -> Result<Compression, ImageError> {
    let mut magic = [0; 4];
    let mut file = store.open_blob(digest)?;
    let count = file.read(&mut magic).map_err(broken)?;
    Ok(match &magic[..count] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    })
}
