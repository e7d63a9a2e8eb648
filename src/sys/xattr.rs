//! Extended attributes of any file, named by its directory and its name.
//!
//! The system calls that take a directory's descriptor are too young (Linux 6.13), and those that
//! take a file's descriptor cannot be used on links, devices and files that may not be opened. So
//! the path goes through `/proc/self/fd`, and the last component is not followed. The components
//! before it are: callers pass a single name, or a path whose parents they know to be directories.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Large enough for the attributes of nearly every file.
const BUFFER: usize = 1024;

/// The names of the attributes of `path` below `directory`, sorted. None where attributes are not
/// supported.
pub(crate) fn list(directory: impl AsFd, path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let path = proc_path(directory, path);
    let bytes = match read(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Ok(bytes) => bytes,
        Err(Errno::OPNOTSUPP) => Vec::new(),
        Err(errno) => return Err(errno.into()),
    };
    Ok(split(&bytes))
}

/// The names of the attributes of an open file, sorted. None where attributes are not supported.
pub(crate) fn list_of(file: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    match read(|buffer| rustix::fs::flistxattr(&file, buffer)) {
        Ok(bytes) => Ok(split(&bytes)),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// The value of an attribute of an open file; `None` if it lacks it.
pub(crate) fn get_of(file: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match read(|buffer| rustix::fs::fgetxattr(&file, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets an attribute of an open file, replacing what it was.
pub(crate) fn set_of(file: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    names
}

/// The value of an attribute; `None` if the file lacks it.
pub(crate) fn get(directory: impl AsFd, path: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path(directory, path);
    match read(|buffer| rustix::fs::lgetxattr(&path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets an attribute, replacing what it was.
pub(crate) fn set(directory: impl AsFd, path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = proc_path(directory, path);
    Ok(rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())?)
}

fn proc_path(directory: impl AsFd, path: &Path) -> PathBuf {
    let mut bytes = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    bytes.extend_from_slice(path.as_os_str().as_bytes());
    PathBuf::from(std::ffi::OsString::from(std::ffi::OsStr::from_bytes(&bytes)))
}

/// Calls until the buffer is large enough.
fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel has no attribute beyond 64 KiB, and no longer list of them.
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_and_links_are_not_followed() {
        let directory = tempfile::tempdir().expect("writable");
        std::fs::write(directory.path().join("f"), "").expect("writable");
        std::os::unix::fs::symlink("f", directory.path().join("l")).expect("writable");
        let root = std::fs::File::open(directory.path()).expect("readable");
        let value = vec![b'v'; 2000];
        set(&root, Path::new("f"), b"user.b", &value).expect("xattrs work here");
        set(&root, Path::new("f"), b"user.a", b"").expect("xattrs work here");
        assert_eq!(list(&root, Path::new("f")).expect("readable"), [b"user.a", b"user.b"]);
        assert_eq!(get(&root, Path::new("f"), b"user.b").expect("readable"), Some(value));
        assert_eq!(get(&root, Path::new("f"), b"user.a").expect("readable"), Some(vec![]));
        assert_eq!(get(&root, Path::new("f"), b"user.c").expect("readable"), None);
        assert_eq!(list(&root, Path::new("l")).expect("readable"), Vec::<Vec<u8>>::new());
        set(&root, Path::new("l"), b"user.a", b"").expect_err("links have no user attributes");
    }
}
