//! One image of an OCI layout: by its tag, by its digest, or because there is no other.
//!
//! Other than a whole import, this copies only what the image needs. Every blob is verified.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::image::ImageError;
use crate::image::import::{DOCUMENT_LIMIT, NAMES, document, unreadable};
use crate::oci::{Descriptor, Digest, Document, ImageIndex, Manifest};
use crate::store::{Store, StoreError};

/// Deeper nests of indexes are refused (rule B054).
const DEEPEST: usize = 3;

/// Which image of a layout is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutName {
    /// `:tag`
    pub tag: Option<String>,
    /// `@sha256:…`
    pub digest: Option<Digest>,
}

impl LayoutName {
    /// Splits `directory[:tag][@digest]`. A directory of just this name wins.
    pub fn split(text: &str) -> (&Path, Self) {
        if Path::new(text).is_dir() {
            return (Path::new(text), Self::default());
        }
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) => match digest.parse() {
                Ok(digest) => (rest, Some(digest)),
                Err(_) => (text, None),
            },
            None => (text, None),
        };
        match rest.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') && !Path::new(rest).is_dir() => {
                (Path::new(directory), Self { tag: Some(tag.to_owned()), digest })
            }
            _ => (Path::new(rest), Self { tag: None, digest }),
        }
    }

    /// Whether an entry of the index is meant.
    fn fits(&self, entry: &Descriptor) -> bool {
        let by_digest = self.digest.is_none_or(|digest| entry.digest == digest);
        let is_named = |tag: &String| {
            let names = NAMES.iter().filter_map(|name| entry.annotations.get(*name));
            let suffix = format!(":{tag}");
            names.clone().any(|name| name == tag)
                || names.clone().any(|name| name.ends_with(&suffix))
        };
        by_digest && self.tag.as_ref().is_none_or(is_named)
    }
}

/// Copies one image of the layout in `directory` into the store.
///
/// # Errors
///
/// [`ImageError::NotAnImage`] if the layout has no such image, or not all of it.
pub fn import_one(
    store: &Store,
    directory: &Path,
    name: &LayoutName,
) -> Result<Descriptor, ImageError> {
    let path = directory.join("index.json");
    let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
    let index: Document<ImageIndex> = Document::parse(document(file)?, "OCI layout index")?;
    let entry = choose(&index.value().manifests, name)?;
    Layout { store, directory }.copy(entry, 0)?;
    Ok(Descriptor::new(entry.media_type.clone(), entry.digest, entry.size))
}

/// The one entry that is meant: `latest`, if none is named and there are several.
fn choose<'a>(entries: &'a [Descriptor], name: &LayoutName) -> Result<&'a Descriptor, ImageError> {
    let fitting: Vec<&Descriptor> = entries.iter().filter(|entry| name.fits(entry)).collect();
    let latest = LayoutName { tag: Some("latest".to_owned()), digest: None };
    let first = fitting.first().copied();
    let same = |first: &Descriptor| fitting.iter().all(|entry| entry.digest == first.digest);
    match first.filter(|first| same(first)) {
        Some(entry) => Ok(entry),
        None => fitting.iter().copied().find(|entry| latest.fits(entry)).ok_or_else(|| {
            let tags: Vec<&str> = entries
                .iter()
                .filter_map(|entry| NAMES.iter().find_map(|name| entry.annotations.get(*name)))
                .map(String::as_str)
                .collect();
            let reason = if fitting.is_empty() { "no such image" } else { "several images" };
            ImageError::NotAnImage(format!("it has {reason}; it has: {}", tags.join(", ")))
        }),
    }
}

struct Layout<'a> {
    store: &'a Store,
    directory: &'a Path,
}

impl Layout<'_> {
    /// Copies a document and all that it leads to.
    fn copy(&self, entry: &Descriptor, depth: usize) -> Result<(), ImageError> {
        self.blob(entry)?;
        let bytes = || self.store.read(entry, DOCUMENT_LIMIT);
        if entry.media_type.is_index() {
            if depth == DEEPEST {
                let reason = "its indexes are nested too deeply".to_owned();
                return Err(ImageError::NotAnImage(reason));
            }
            let index: Document<ImageIndex> = Document::parse(bytes()?, "image index")?;
            // A layout may hold some platforms of an image only.
            let here = index.value().manifests.iter().filter(|entry| self.path(entry).exists());
            return here.into_iter().try_for_each(|entry| self.copy(entry, depth + 1));
        }
        let manifest: Document<Manifest> = Document::parse(bytes()?, "image manifest")?;
        let manifest = manifest.value();
        std::iter::once(&manifest.config).chain(&manifest.layers).try_for_each(|it| self.blob(it))
    }

    fn blob(&self, entry: &Descriptor) -> Result<(), ImageError> {
        if self.store.has(entry) {
            return Ok(());
        }
        let path = self.path(entry);
        let mut file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        let mut writer = self.store.writer_for(entry)?;
        io::copy(&mut file, &mut writer)
            .map_err(|error| StoreError::unwrap_io("copy", &path, error))?;
        Ok(writer.commit_verified(entry)?)
    }

    fn path(&self, entry: &Descriptor) -> std::path::PathBuf {
        self.directory.join("blobs/sha256").join(entry.digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn a_place_is_a_directory_with_a_tag_and_a_digest() {
        let here = tempfile::tempdir().expect("a temporary directory");
        let odd = here.path().join("a:b");
        std::fs::create_dir(&odd).expect("writable");
        let odd = odd.display().to_string();
        let digest = Digest::of("x");
        let check = |text: &str, directory: &str, tag: Option<&str>, with_digest: bool| {
            let name =
                LayoutName { tag: tag.map(str::to_owned), digest: with_digest.then_some(digest) };
            assert_eq!(LayoutName::split(text), (Path::new(directory), name), "{text}");
        };
        check("/x/y", "/x/y", None, false);
        check("/x/y:v1", "/x/y", Some("v1"), false);
        check(&format!("x@{digest}"), "x", None, true);
        check(&format!("x:v1@{digest}"), "x", Some("v1"), true);
        check("/x:y/z", "/x:y/z", None, false);
        check(&odd, &odd, None, false);
        check(&format!("{odd}:v1"), &odd, Some("v1"), false);
        check(&format!("{odd}@{digest}"), &odd, None, true);
    }

    #[test]
    fn the_image_that_is_meant_is_the_only_one_or_the_one_that_is_named() {
        let entry = |text: &str, tag: &str| {
            let digest = Digest::of(text);
            let mut entry = Descriptor::new(MediaType::OciManifest, digest, text.len() as u64);
            entry.annotations.insert(NAMES[1].to_owned(), tag.to_owned());
            entry
        };
        let (one, two, latest) = (entry("1", "v1"), entry("2", "a.io/x:v2"), entry("3", "latest"));
        let check = |entries: &[&Descriptor], tag: Option<&str>, expected: Option<&Descriptor>| {
            let entries: Vec<Descriptor> = entries.iter().copied().cloned().collect();
            let name = LayoutName { tag: tag.map(str::to_owned), digest: None };
            assert_eq!(choose(&entries, &name).ok(), expected, "{tag:?}");
        };
        check(&[&one], None, Some(&one));
        check(&[&one, &two], None, None);
        check(&[&one, &latest], None, Some(&latest));
        check(&[&one, &two], Some("v2"), Some(&two));
        check(&[&one, &two], Some("v3"), None);
        check(&[], None, None);
        let name = LayoutName { tag: None, digest: Some(two.digest) };
        assert_eq!(choose(&[one, two.clone()], &name).ok(), Some(&two));
    }
}
