//! An image read back from where coracle put it, and checked against the specification.

use std::path::Path;
use std::process::Command;

use coracle::oci::Digest;
use serde_json::Value;

use crate::support::archive;
use crate::support::archive::Files;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;

/// An image whose digests, sizes and lists agree with each other.
#[derive(Debug)]
pub(crate) struct Image {
    /// The digest of the manifest.
    pub(crate) digest: String,
    /// The manifest.
    pub(crate) manifest: Value,
    /// The image config.
    pub(crate) config: Value,
    /// The files of each layer, oldest first.
    pub(crate) layers: Vec<Files>,
}

impl Image {
    /// Reads `repository:tag`, or `repository@digest`, from a registry.
    pub(crate) fn from_registry(registry: &Registry, repository: &str, tag: &str) -> Self {
        let client = registry.client();
        let manifest = client.manifest(repository, tag);
        let manifest = manifest.unwrap_or_else(|| panic!("{repository}:{tag} is not there"));
        Self::assemble(&manifest, &|digest| {
            client.blob(repository, digest).unwrap_or_else(|| panic!("{digest} is not there"))
        })
    }

    /// Reads the only image of an OCI layout.
    pub(crate) fn from_layout(directory: &Path) -> Self {
        let read = |digest: &str| {
            let path = directory.join("blobs").join(digest.replace(':', "/"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let index = std::fs::read(directory.join("index.json")).expect("a layout has an index");
        let index: Value = serde_json::from_slice(&index).expect("the index is JSON");
        let manifests = index["manifests"].as_array().expect("an index has manifests");
        assert_eq!(manifests.len(), 1, "{index}");
        Self::assemble(&read(text(&manifests[0]["digest"])), &read)
    }

    /// Reads the only image of a tar of an OCI layout.
    pub(crate) fn from_oci_tar(file: &Path) -> Self {
        let directory = Scratch::new();
        let status = Command::new("tar")
            .arg("-xf")
            .arg(file)
            .arg("-C")
            .arg(directory.path())
            .status()
            .expect("tar runs");
        assert!(status.success(), "{} is not a tar", file.display());
        Self::from_layout(directory.path())
    }

    fn assemble(manifest: &[u8], blob: &dyn Fn(&str) -> Vec<u8>) -> Self {
        let digest = Digest::of(manifest).to_string();
        let manifest: Value = serde_json::from_slice(manifest).expect("the manifest is JSON");
        let checked = |descriptor: &Value| {
            let bytes = blob(text(&descriptor["digest"]));
            assert_eq!(descriptor["size"], bytes.len(), "the size of {descriptor}");
            assert_eq!(descriptor["digest"], Digest::of(&bytes).to_string(), "{descriptor}");
            bytes
        };
        let config: Value =
            serde_json::from_slice(&checked(&manifest["config"])).expect("the config is JSON");
        let descriptors = manifest["layers"].as_array().expect("a manifest has layers");
        let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("a config has diff IDs");
        assert_eq!(descriptors.len(), diff_ids.len(), "as many layers as diff IDs");
        let mut layers = Vec::new();
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            let tar = archive::unpack(&checked(descriptor));
            assert_eq!(*diff_id, Digest::of(&tar).to_string(), "the diff ID of {descriptor}");
            layers.push(archive::read(&tar));
        }
        let image = Self { digest, manifest, config, layers };
        assert_eq!(image.history().iter().filter(|(_, empty)| !empty).count(), image.layers.len());
        image
    }

    /// Each history entry: what made it, and whether it made no layer.
    pub(crate) fn history(&self) -> Vec<(String, bool)> {
        let history = self.config["history"].as_array().expect("a config has a history");
        let entry = |entry: &Value| {
            let created_by = entry["created_by"].as_str().unwrap_or_default().to_owned();
            (created_by, entry["empty_layer"] == true)
        };
        history.iter().map(entry).collect()
    }

    /// All files, as a container would see them.
    pub(crate) fn files(&self) -> Files {
        let mut files = Files::new();
        for layer in &self.layers {
            archive::merge(&mut files, layer);
        }
        files
    }

    /// The files of the newest layer.
    pub(crate) fn top(&self) -> &Files {
        self.layers.last().expect("the image has layers")
    }

    /// A part of the config's `config`, such as `Env`.
    pub(crate) fn setting(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}
