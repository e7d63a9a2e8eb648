//! Where an image is: a name in a registry, or `oci:DIR[:TAG]` and its kin, as skopeo writes them.

use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use crate::image::LayoutName;
use crate::oci::Reference;

/// Where an image is, or is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `docker://NAME`, or the name alone.
    Registry(Reference),
    /// `oci:DIR[:TAG][@DIGEST]`
    Layout(PathBuf, LayoutName),
    /// `oci-archive:FILE[:TAG]`
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`
    DockerArchive(PathBuf, Option<Reference>),
}

impl Place {
    /// The name in a registry.
    pub(crate) fn registry(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            _ => None,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |text: &str| text.parse::<Reference>().map_err(|error| error.to_string());
        match text.split_once(':') {
            Some(("docker", rest)) if rest.starts_with("//") => {
                name(&rest[2..]).map(Self::Registry)
            }
            Some((kind @ ("oci" | "oci-archive" | "docker-archive"), "")) => {
                Err(format!("`{kind}:` needs a path"))
            }
            Some(("oci", rest)) => {
                let (directory, wanted) = LayoutName::split(rest);
                Ok(Self::Layout(directory.to_owned(), wanted))
            }
            Some(("oci-archive", rest)) => {
                let (file, tag) = split(rest);
                Ok(Self::OciArchive(file.to_owned(), tag.map(str::to_owned)))
            }
            Some(("docker-archive", rest)) => {
                let (file, wanted) = split(rest);
                Ok(Self::DockerArchive(file.to_owned(), wanted.map(name).transpose()?))
            }
            _ => name(text).map(Self::Registry),
        }
    }
}

/// Splits `FILE[:NAME]`. A file of just this name wins; a name may have a tag with a colon.
fn split(text: &str) -> (&Path, Option<&str>) {
    match text.split_once(':') {
        Some((file, name)) if !Path::new(text).exists() => (Path::new(file), Some(name)),
        _ => (Path::new(text), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_skopeo_writes_them() {
        let check = |text: &str, expected: Place| {
            assert_eq!(text.parse::<Place>(), Ok(expected), "{text}");
        };
        let name = |text: &str| text.parse::<Reference>().expect(text);
        check("python:3", Place::Registry(name("python:3")));
        check("docker://r.example:5000/a:1", Place::Registry(name("r.example:5000/a:1")));
        // There is a registry of that name in many a compose file.
        check("oci.example:5000/a", Place::Registry(name("oci.example:5000/a")));
        let tag = LayoutName { tag: Some("x".to_owned()), digest: None };
        check("oci:/d/e:x", Place::Layout("/d/e".into(), tag));
        check("oci:/d/e", Place::Layout("/d/e".into(), LayoutName::default()));
        check("oci-archive:/d/e.tar:x", Place::OciArchive("/d/e.tar".into(), Some("x".into())));
        let archive = Place::DockerArchive("/e.tar".into(), Some(name("a:1")));
        check("docker-archive:/e.tar:a:1", archive);
        check("docker-archive:e.tar", Place::DockerArchive("e.tar".into(), None));
        for text in ["", "oci:", "docker://", "docker-archive:/e:A", "ftp://x/y:Z"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
