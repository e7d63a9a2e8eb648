//! Paths inside an image.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt as _, path::Path};

/// An absolute path inside an image: bytes without `.`, `..`, doubled or trailing slashes.
///
/// It is bytes, not text, because file names are. It cannot be joined to a host path by accident:
/// whoever opens one goes through `sys::beneath`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImagePath(Vec<u8>);

impl ImagePath {
    /// The root directory.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Reads a path as if it began at the root: `..` cannot leave it (rule A106).
    pub fn new(path: impl AsRef<[u8]>) -> Self {
        Self::root().join(path)
    }

    /// This path followed by `path`; an absolute `path` replaces it. Purely lexical.
    #[must_use]
    pub fn join(&self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let mut parts: Vec<&[u8]> =
            if path.starts_with(b"/") { Vec::new() } else { self.components().collect() };
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        let mut bytes = Vec::with_capacity(self.0.len() + path.len() + 1);
        for part in parts {
            bytes.push(b'/');
            bytes.extend_from_slice(part);
        }
        if bytes.is_empty() {
            bytes.push(b'/');
        }
        Self(bytes)
    }

    /// The names between the slashes, from the root down. None for the root itself.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(if slash == 0 { b"/".to_vec() } else { self.0[..slash].to_vec() }))
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self.0 == ancestor.0
            || self.0.strip_prefix(ancestor.0.as_slice()).is_some_and(|rest| rest[0] == b'/')
    }

    /// The bytes, beginning with `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path relative to the root, as `openat2` beneath a root wants it; `.` for the root.
    pub fn relative(&self) -> &Path {
        let bytes = if self.is_root() { b"." } else { &self.0[1..] };
        Path::new(OsStr::from_bytes(bytes))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a106_dots_are_resolved_and_never_leave_the_root() {
        let check = |path: &str, expected: &str| {
            assert_eq!(ImagePath::new(path).to_string(), expected, "{path}");
        };
        check("", "/");
        check("a//b/./c/", "/a/b/c");
        check("/a/../../../etc/passwd", "/etc/passwd");
        check("..", "/");
    }

    #[test]
    fn joining_an_absolute_path_replaces() {
        assert_eq!(ImagePath::new("/a").join("b/../c").to_string(), "/a/c");
        assert_eq!(ImagePath::new("/a").join("/b").to_string(), "/b");
    }

    #[test]
    fn ancestry_is_by_component() {
        let check = |path: &str, ancestor: &str, expected| {
            assert_eq!(ImagePath::new(path).starts_with(&ImagePath::new(ancestor)), expected);
        };
        check("/a/b", "/a", true);
        check("/ab", "/a", false);
        check("/a", "/", true);
        check("/", "/a", false);
    }
}
