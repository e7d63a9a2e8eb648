//! Images as `docker save` writes them and `docker load` reads them.
//!
//! `manifest.json` says where config and layers are; the older `repositories` and one directory a
//! layer are left out, which no Docker since 1.10 needs. Layers stay compressed: Docker, Podman
//! and skopeo look at their first bytes.
//!
//! Spec: <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md#combined-image-json--filesystem-changeset-format>.

use std::io::Write;

use serde::Serialize;

use crate::image::archive::Archive;
use crate::image::{ImageError, StoredImage};
use crate::oci::{Compression, Descriptor, Reference};
use crate::store::Store;

/// One image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes the image as a Docker archive (`-o type=docker`).
///
/// A name without a tag cannot be expressed, and is left out.
///
/// # Errors
///
/// Fails if a blob is missing or altered, or the output cannot be written.
pub fn write_docker_archive(
    store: &Store,
    image: &StoredImage,
    names: &[Reference],
    output: &mut dyn Write,
) -> Result<(), ImageError> {
    let manifest = image.manifest.value();
    let entry = entry(image, names);
    let mut archive = Archive::new(output);
    archive.file("manifest.json", &json(&entry))?;
    archive.blob(&entry.config, store, &manifest.config)?;
    for blob in image.blobs().iter().filter(|blob| manifest.layers.iter().any(|l| l == *blob)) {
        archive.blob(&file_name(blob), store, blob)?;
    }
    archive.finish()
}

fn entry(image: &StoredImage, names: &[Reference]) -> Entry {
    let manifest = image.manifest.value();
    let tagged = names.iter().filter_map(|name| {
        let (registry, repository) = (name.registry(), name.repository());
        name.tag().map(|tag| format!("{registry}/{repository}:{tag}"))
    });
    Entry {
        config: format!("{}.json", manifest.config.digest.hex()),
        repo_tags: tagged.collect(),
        layers: manifest.layers.iter().map(file_name).collect(),
    }
}

/// The content of `manifest.json`: a list of images, here of one.
fn json(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(&[entry]).expect("our own types have only string keys")
}

fn file_name(layer: &Descriptor) -> String {
    let suffix = match layer.media_type.layer_compression() {
        Some(Compression::Gzip) => ".tar.gz",
        Some(Compression::Zstd) => ".tar.zst",
        Some(Compression::None) | None => ".tar",
    };
    format!("{}{suffix}", layer.digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::{Fixture, skopeo};

    fn archive(fixture: &Fixture) -> Vec<u8> {
        let mut bytes = Vec::new();
        let names = ["a.io/x:1".parse().expect("valid")];
        write_docker_archive(&fixture.store, &fixture.image, &names, &mut bytes).expect("written");
        bytes
    }

    #[test]
    fn it_has_a_list_the_config_and_each_layer_once() {
        let fixture = Fixture::new();
        let bytes = archive(&fixture);
        let layer = &fixture.image.manifest.value().layers[0];
        let config = &fixture.image.manifest.value().config;
        let names = [
            "manifest.json".to_owned(),
            format!("{}.json", config.digest.hex()),
            format!("{}.tar.gz", layer.digest.hex()),
        ];
        let mut tar = tar::Archive::new(bytes.as_slice());
        let entries = tar.entries().expect("an archive");
        let found: Vec<String> = entries
            .map(|entry| String::from_utf8_lossy(&entry.expect("whole").path_bytes()).into_owned())
            .collect();
        assert_eq!(found, names);
        assert_eq!(bytes, archive(&fixture), "the same again");
    }

    #[test]
    fn skopeo_loads_it_with_its_layers_compressed() {
        let fixture = Fixture::new();
        let path = fixture.directory().join("x.tar");
        std::fs::write(&path, archive(&fixture)).expect("writable");
        let source = format!("docker-archive:{}:a.io/x:1", path.display());
        let target = format!("dir:{}", fixture.directory().join("out").display());
        skopeo(&["copy", &source, &target]);
    }
}
