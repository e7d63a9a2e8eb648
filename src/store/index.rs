//! `index.json`: which images the store has, by name.
//!
//! An image's name stands in the annotation `org.opencontainers.image.ref.name` of its entry,
//! written in full (`docker.io/library/python:3`), so that `skopeo inspect oci:ROOT:NAME` finds
//! it. Entries that somebody else wrote are kept as they are.
//!
//! Every change reads, changes and replaces the whole file under an exclusive lock on `lock`, so
//! two processes that tag at the same time both get their tag.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#indexjson-file>.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::oci::{Descriptor, Document, ImageIndex, MediaType, Reference};
use crate::store::publish::{Durability, replace};
use crate::store::{Store, StoreError, lock};

/// The annotation that names an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Room for some fifty thousand tags; a larger file is a mistake or an attack.
const LIMIT: u64 = 16 << 20;

/// Names.
impl Store {
    /// Makes `reference` name this image, whose manifest or index is in the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if the manifest is not in the store.
    pub fn tag(&self, reference: &Reference, image: &Descriptor) -> Result<(), StoreError> {
        if !self.has(image) {
            return Err(StoreError::Missing(image.digest));
        }
        self.change_index(|index| set(index, reference, image))
    }

    /// Takes the name away. What it named stays until [`Alone::prune`](crate::store::Alone::prune).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchImage`] if nothing had that name.
    pub fn untag(&self, reference: &Reference) -> Result<(), StoreError> {
        if self.change_index(|index| remove(index, reference))? {
            return Ok(());
        }
        Err(StoreError::NoSuchImage(reference.clone()))
    }

    /// What `reference` names here. The descriptor has no annotation of the store's own.
    ///
    /// # Errors
    ///
    /// Fails if `index.json` cannot be read.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.images()?.into_iter().find(|(name, _)| name == reference).map(|(_, image)| image))
    }

    /// All images that have a name, by name.
    ///
    /// # Errors
    ///
    /// Fails if `index.json` cannot be read.
    pub fn images(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let index = read(&self.index_path())?;
        let mut images: Vec<_> = index
            .manifests
            .into_iter()
            .filter_map(|mut entry| {
                let name = name(&entry)?;
                entry.annotations.remove(REF_NAME);
                Some((name, entry))
            })
            .collect();
        images.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(images)
    }

    fn change_index<T>(&self, change: impl FnOnce(&mut ImageIndex) -> T) -> Result<T, StoreError> {
        let lock = lock(&self.root)?;
        let path = self.index_path();
        let mut index = read(&path)?;
        let result = change(&mut index);
        write(&path, &self.workspace.path("index"), index)?;
        drop(lock);
        Ok(result)
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }
}

/// Reads the file; one that is not there is an empty list.
pub(crate) fn read(path: &Path) -> Result<ImageIndex, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(empty()),
        Err(source) => return Err(StoreError::io("open", path, source)),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| StoreError::io("read", path, source))?;
    let size = bytes.len() as u64;
    if size > LIMIT {
        return Err(StoreError::TooLarge { what: path.display().to_string(), size, limit: LIMIT });
    }
    let document = Document::<ImageIndex>::parse(bytes, "image index")
        .map_err(|source| StoreError::Index { path: path.to_owned(), source })?;
    Ok(document.value().clone())
}

/// Replaces the file.
pub(crate) fn write(path: &Path, temporary: &Path, index: ImageIndex) -> Result<(), StoreError> {
    let document = Document::new(index);
    // Nothing else knows the tags, so this one file is worth waiting for the disk.
    replace(path, temporary, document.bytes(), 0o644, Durability::Precious)
}

/// A list of nothing.
pub(crate) fn empty() -> ImageIndex {
    ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    }
}

/// Makes `reference` mean `image`, and nothing else.
pub(crate) fn set(index: &mut ImageIndex, reference: &Reference, image: &Descriptor) {
    remove(index, reference);
    let mut entry = image.clone();
    entry.annotations.insert(REF_NAME.to_owned(), reference.to_string());
    index.manifests.push(entry);
}

/// Takes the entry of `reference` away; says whether there was one.
pub(crate) fn remove(index: &mut ImageIndex, reference: &Reference) -> bool {
    let before = index.manifests.len();
    index.manifests.retain(|entry| name(entry).as_ref() != Some(reference));
    index.manifests.len() < before
}

/// The name of an entry, if it is one that we could have written.
pub(crate) fn name(entry: &Descriptor) -> Option<Reference> {
    let text = entry.annotations.get(REF_NAME)?;
    // Other tools write a bare tag here. `latest` must not be read as an image of that name.
    text.parse().ok().filter(|reference: &Reference| reference.to_string() == *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn image(content: &str) -> Descriptor {
        Descriptor::new(MediaType::OciManifest, Digest::of(content), content.len() as u64)
    }

    #[test]
    fn a_name_means_one_image() {
        let (a, b): (Reference, Reference) =
            ("a".parse().expect("valid"), "b".parse().expect("valid"));
        let mut index = empty();
        set(&mut index, &a, &image("1"));
        set(&mut index, &b, &image("2"));
        set(&mut index, &a, &image("3"));
        let names: Vec<_> = index.manifests.iter().map(|e| (name(e), e.digest)).collect();
        let expected = [(Some(b), Digest::of("2")), (Some(a.clone()), Digest::of("3"))];
        assert_eq!(names, expected);
        assert!(remove(&mut index, &a));
        assert!(!remove(&mut index, &a));
    }

    #[test]
    fn a_bare_tag_of_another_tool_is_not_an_image_name_but_is_kept() {
        let mut index = empty();
        let mut foreign = image("1");
        foreign.annotations.insert(REF_NAME.to_owned(), "latest".to_owned());
        index.manifests.push(foreign.clone());
        assert_eq!(name(&foreign), None);
        let latest: Reference = "latest".parse().expect("valid");
        set(&mut index, &latest, &image("2"));
        assert_eq!(index.manifests.len(), 2);
    }

    #[test]
    fn a_hostile_list_is_an_error_and_not_a_crash() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let path = root.path().join("index.json");
        let image = store.put(b"x", MediaType::OciManifest).expect("space");
        let name = "a".parse().expect("valid");
        let deep = "[".repeat(1 << 20);
        let negative = r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":-1,"digest":
            "sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}"#;
        for text in ["", "{", "[]", "null", &deep, negative] {
            std::fs::write(&path, text).expect("writable");
            let error = store.tag(&name, &image).expect_err(text);
            assert!(matches!(error, StoreError::Index { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("readable"), text, "left as it was");
        }
        File::create(&path).and_then(|file| file.set_len(LIMIT + 1)).expect("a sparse file");
        assert!(matches!(store.images(), Err(StoreError::TooLarge { .. })));
    }

    #[test]
    fn a_name_for_what_is_not_there_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let name: Reference = "a".parse().expect("valid");
        assert!(matches!(store.tag(&name, &image("x")), Err(StoreError::Missing(_))));
        assert!(matches!(store.untag(&name), Err(StoreError::NoSuchImage(_))));
        assert_eq!(store.resolve(&name).expect("a list"), None);
        let image = store.put(b"x", MediaType::OciManifest).expect("space");
        store.tag(&name, &image).expect("there");
        assert_eq!(store.resolve(&name).expect("a list"), Some(image));
    }
}
