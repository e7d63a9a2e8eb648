//! Whiteouts: how a layer says "this path is gone".
//!
//! A tar archive can only add files, so the image spec reserves two names. `.wh.<name>` hides
//! `<name>` in the layers below; `.wh..wh..opq` hides everything below its own directory. Other
//! names in `.wh..wh.` are the private matter of a storage driver of long ago, and mean nothing.
//!
//! This module only reads and makes names. It never touches a file system.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts>.

use crate::layer::Kind;
use crate::oci::ImagePath;

/// What the last component of a layer path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// An ordinary file, directory or link.
    Present,
    /// Hide this name in the layers below.
    Whiteout(&'a [u8]),
    /// Hide everything that the layers below put in this directory.
    Opaque,
    /// A driver's own bookkeeping, to be skipped.
    Bookkeeping,
    /// The bare `.wh.`, which names nothing.
    Nameless,
}

/// Reads a file name as the image spec does.
pub(crate) fn classify(name: &[u8]) -> Name<'_> {
    match name.strip_prefix(b".wh.") {
        None => Name::Present,
        Some(b"") => Name::Nameless,
        Some(b".wh..opq") => Name::Opaque,
        Some(hidden) if hidden.starts_with(b".wh.") => Name::Bookkeeping,
        Some(hidden) => Name::Whiteout(hidden),
    }
}

/// An entry that means nothing.
#[derive(Debug)]
pub(crate) struct Skipped;

/// What an entry is whose path has a reserved name; `None` if it has none. The path becomes that of
/// the hidden file.
pub(crate) fn interpret(path: &mut ImagePath) -> Result<Option<Kind>, Skipped> {
    let parent = path.parent().unwrap_or_else(ImagePath::root);
    // Nothing can stand below a deleted file.
    if is_reserved(&parent) {
        return Err(Skipped);
    }
    match classify(path.name().unwrap_or_default()) {
        Name::Present => Ok(None),
        Name::Opaque => {
            *path = parent;
            Ok(Some(Kind::OpaqueWhiteout))
        }
        // `.wh..` and `.wh...` would hide the directory itself, or its parent.
        Name::Bookkeeping | Name::Nameless | Name::Whiteout(b"." | b"..") => Err(Skipped),
        Name::Whiteout(hidden) => {
            *path = parent.join(hidden);
            Ok(Some(Kind::Whiteout))
        }
    }
}

/// Whether a file of this path would be taken for a whiteout by whoever unpacks the layer.
pub(crate) fn is_reserved(path: &ImagePath) -> bool {
    path.components().any(|name| name.starts_with(b".wh."))
}

/// The name in the archive of the whiteout that hides `path`.
pub(crate) fn marker(path: &ImagePath) -> ImagePath {
    let name = [b".wh.", path.name().unwrap_or_default()].concat();
    path.parent().unwrap_or_else(ImagePath::root).join(name)
}

/// The name in the archive of the marker that makes the directory `path` opaque.
pub(crate) fn opaque_marker(path: &ImagePath) -> ImagePath {
    path.join(".wh..wh..opq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_told_from_others() {
        let check =
            |name: &str, expected| assert_eq!(classify(name.as_bytes()), expected, "{name}");
        check("a", Name::Present);
        check(".whatever", Name::Present);
        check("wh.b", Name::Present);
        check(".wh.a", Name::Whiteout(b"a"));
        check(".wh..", Name::Whiteout(b"."));
        check(".wh..wh..opq", Name::Opaque);
        check(".wh..wh.plnk", Name::Bookkeeping);
        check(".wh.", Name::Nameless);
    }

    #[test]
    fn markers_stand_beside_what_they_hide() {
        assert_eq!(marker(&ImagePath::new("/a/b")).to_string(), "/a/.wh.b");
        assert_eq!(opaque_marker(&ImagePath::root()).to_string(), "/.wh..wh..opq");
    }
}
