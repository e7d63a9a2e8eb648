//! A private copy of a directory, for `RUN --mount` of something that may be changed: with modes, times,
//! attributes (and so with recorded owners), and links.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags, fstat, linkat,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::sandbox::emulate::records::{Inode, inode};
use crate::sandbox::emulate::resolve::own_path;
use crate::sys::beneath;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Copies what is open as `source` to `name` in a directory, and opens that as a path.
pub(super) fn copy(source: &OwnedFd, into: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let stat = fstat(source)?;
    let readable = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&*own_path(source.as_fd()), readable, Mode::empty())?;
    let mut links = HashMap::new();
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => directory(&opened, &stat, into, name, &mut links)?,
        FileType::RegularFile => file(opened, &stat, into, name)?,
        _ => return Err(Errno::INVAL.into()),
    }
    Ok(openat(into, OsStr::from_bytes(name), PATH | OFlags::NOFOLLOW, Mode::empty())?)
}

fn directory(
    source: &OwnedFd,
    stat: &Stat,
    into: &OwnedFd,
    name: &[u8],
    links: &mut HashMap<Inode, Vec<u8>>,
) -> io::Result<()> {
    mkdirat(into, OsStr::from_bytes(name), Mode::RWXU)?;
    let made = beneath::open_directory(into, Path::new(OsStr::from_bytes(name)))?;
    for inner in beneath::read_names(source)? {
        entry(source, &made, &inner, links)?;
    }
    finish(source, stat, into, name)
}

fn entry(
    source: &OwnedFd,
    into: &OwnedFd,
    name: &[u8],
    links: &mut HashMap<Inode, Vec<u8>>,
) -> io::Result<()> {
    let at = OsStr::from_bytes(name);
    let stat = statat(source, at, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if stat.st_nlink > 1 && kind != FileType::Directory {
        if let Some(first) = links.get(&inode(&stat)) {
            return Ok(linkat(CWD, &**first, into, at, AtFlags::empty())?);
        }
        let here = crate::sandbox::emulate::mounts::host_path(into.as_fd())?;
        links.insert(inode(&stat), [&*here, b"/", name].concat());
    }
    match kind {
        FileType::Directory => {
            let inner = beneath::open_directory(source, Path::new(at))?;
            directory(&inner, &stat, into, name, links)
        }
        FileType::RegularFile => file(openat(source, at, OPEN, Mode::empty())?, &stat, into, name),
        FileType::Symlink => {
            symlinkat(&readlinkat(source, at, Vec::new())?, into, at)?;
            Ok(utimensat(into, at, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
        }
        FileType::Fifo | FileType::Socket => {
            mknodat(into, at, kind, Mode::from_raw_mode(stat.st_mode), 0)?;
            Ok(utimensat(into, at, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
        }
        _ => Err(Errno::INVAL.into()),
    }
}

fn file(source: OwnedFd, stat: &Stat, into: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = openat(into, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)?;
    let source = File::from(source);
    io::copy(&mut &source, &mut &File::from(made))?;
    finish(&source, stat, into, name)
}

/// Attributes, mode and times.
fn finish(source: impl AsFd, stat: &Stat, into: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let at = OsStr::from_bytes(name);
    let made = openat(into, at, OPEN | OFlags::NONBLOCK, Mode::empty())?;
    let from = own_path(source.as_fd());
    let from = Path::new(OsStr::from_bytes(&from));
    let mut names = [0; 64 << 10];
    let length = match rustix::fs::listxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    for attribute in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if attribute.starts_with(b"user.") {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::getxattr(from, attribute, &mut value[..])?;
            rustix::fs::fsetxattr(&made, attribute, &value[..length], XattrFlags::empty())?;
        }
    }
    rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode))?;
    Ok(rustix::fs::futimens(&made, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

    use super::*;
    use crate::sys::xattr;

    #[test]
    fn a_copy_has_modes_times_links_and_attributes() {
        let directory = tempfile::tempdir().expect("writable");
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("from/d")).expect("writable");
        std::fs::create_dir(at("to")).expect("writable");
        std::fs::write(at("from/d/f"), "text").expect("writable");
        std::fs::hard_link(at("from/d/f"), at("from/g")).expect("writable");
        std::os::unix::fs::symlink("d/f", at("from/l")).expect("writable");
        std::fs::set_permissions(at("from/d/f"), PermissionsExt::from_mode(0o751)).expect("ours");
        let root = beneath::open_root(directory.path()).expect("a directory");
        xattr::set(&root, Path::new("from/d/f"), b"user.a", b"b").expect("xattrs work here");
        let from = beneath::open_root(&at("from")).expect("a directory");
        let to = beneath::open_root(&at("to")).expect("a directory");
        copy(&from, &to, b"c").expect("copied");
        let meta = |name: &str| std::fs::symlink_metadata(at(name)).expect("it is there");
        assert_eq!(std::fs::read_to_string(at("to/c/l")).expect("a link"), "text");
        assert_eq!(meta("to/c/d/f").mode(), meta("from/d/f").mode());
        assert_eq!(meta("to/c/d/f").mtime(), meta("from/d/f").mtime());
        assert_eq!(meta("to/c/d/f").ino(), meta("to/c/g").ino());
        let value = xattr::get(&root, Path::new("to/c/g"), b"user.a").expect("readable");
        assert_eq!(value, Some(b"b".to_vec()));
    }
}
