//! Copies of single files, with everything that a layer keeps of them.
//!
//! A copy shares its blocks with the original where the file system can do that, but never the file
//! itself: what a command changes in its tree must not change a finished layer.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use crate::layer::{HOST_LABELS, Kind, Owners, Record, STAT};
use crate::sys::xattr;

/// Files up to this size are copied at one go. They are the most.
const SMALL: u64 = 128 << 10;

/// Copies files, keeping owners in one way.
#[derive(Debug)]
pub(super) struct Duplicator {
    owners: Owners,
    /// Whether the file system has not yet refused to share blocks.
    shares: AtomicBool,
}

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a Path,
}

impl<'a> At<'a> {
    /// The name `name` in `directory`.
    pub(super) fn new(directory: &'a impl AsFd, name: &'a [u8]) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        Self { directory: directory.as_fd(), name }
    }

    /// What stands there, a link itself and not where it leads.
    pub(super) fn stat(self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl Duplicator {
    pub(super) fn new(owners: Owners) -> Self {
        Self { owners, shares: AtomicBool::new(true) }
    }

    /// Copies `from`, which is no directory and of which `stat` tells, to `to`, where nothing is.
    pub(super) fn file(&self, from: At<'_>, stat: &Stat, to: At<'_>) -> io::Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular(from, stat, to),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from.directory, from.name, Vec::new())?;
                rustix::fs::symlinkat(target, to.directory, to.name)?;
                self.special(from, stat, to)
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                // The device 0:0 would be a whiteout, so it is never made as a device.
                let made = match stat.st_rdev {
                    0 => Err(Errno::PERM),
                    device => rustix::fs::mknodat(to.directory, to.name, kind, Mode::RUSR, device),
                };
                match made {
                    Err(Errno::PERM) => placeholder(stat, to),
                    other => other.map_err(io::Error::from),
                }?;
                self.special(from, stat, to)
            }
            kind => {
                rustix::fs::mknodat(to.directory, to.name, kind, Mode::RUSR | Mode::WUSR, 0)?;
                self.special(from, stat, to)
            }
        }
    }

    fn regular(&self, from: At<'_>, stat: &Stat, to: At<'_>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = File::from(open(from, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = File::from(open(to, flags, Mode::RUSR | Mode::WUSR)?);
        self.content(&source, &target, stat.st_size.cast_unsigned())?;
        self.metadata(&source, stat, &target)
    }

    /// Gives the open file or directory `to` what `stat` tells of `from`, and its attributes.
    pub(super) fn metadata(&self, from: impl AsFd, stat: &Stat, to: impl AsFd) -> io::Result<()> {
        if self.owners == Owners::Real {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&to, Some(uid), Some(gid))?;
        }
        // After the owner: a change of owner takes setuid bits and capabilities away.
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for name in xattr::list_of(&from)?.iter().filter(|name| is_kept(name)) {
            if let Some(value) = xattr::get_of(&from, name)? {
                xattr::set_of(&to, name, &value)?;
            }
        }
        Ok(rustix::fs::futimens(&to, &modified(stat))?)
    }

    /// The same for what cannot be opened.
    fn special(&self, from: At<'_>, stat: &Stat, to: At<'_>) -> io::Result<()> {
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        if self.owners == Owners::Real {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::chownat(to.directory, to.name, Some(uid), Some(gid), no_follow)?;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(to.directory, to.name, mode, AtFlags::empty())?;
        }
        for name in xattr::list(from.directory, from.name)?.iter().filter(|name| is_kept(name)) {
            if let Some(value) = xattr::get(from.directory, from.name, name)? {
                xattr::set(to.directory, to.name, name, &value)?;
            }
        }
        Ok(rustix::fs::utimensat(to.directory, to.name, &modified(stat), no_follow)?)
    }

    fn content(&self, from: &File, to: &File, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.shares.load(Ordering::Relaxed) {
            if rustix::fs::ioctl_ficlone(to, from).is_ok() {
                return Ok(());
            }
            self.shares.store(false, Ordering::Relaxed);
        }
        if size <= SMALL {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            from.take(size).read_to_end(&mut bytes)?;
            let mut to = to;
            return to.write_all(&bytes);
        }
        copy_with_holes(from, to, size)
    }
}

/// Makes an empty file that stands for a device which nobody lets us make.
fn placeholder(stat: &Stat, to: At<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = open(to, flags, Mode::RUSR | Mode::WUSR)?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        _ => Kind::CharDevice { major, minor },
    };
    let record = Record::new(&kind, stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    xattr::set_of(file, STAT, &record.encode())
}

/// Copies the parts of a file that are no holes.
fn copy_with_holes(from: &File, to: &File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            // There is only a hole from here on.
            Err(Errno::NXIO) => break,
            // Not every file system knows its holes.
            Err(Errno::INVAL) => at,
            other => other?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        copy_range(from, to, data, end)?;
        at = end.max(data + 1);
    }
    to.set_len(size)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let (mut read, mut written) = (start, start);
    while read < end {
        let length = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length);
        match copied {
            Ok(1..) | Err(Errno::INTR) => {}
            // The end, or two file systems that do not know each other.
            _ => break,
        }
    }
    let mut buffer = vec![0; 256 << 10];
    while read < end {
        let length = usize::try_from(end - read).unwrap_or(usize::MAX).min(buffer.len());
        let count = from.read_at(&mut buffer[..length], read)?;
        if count == 0 {
            break;
        }
        to.write_all_at(&buffer[..count], read)?;
        read += count as u64;
    }
    Ok(())
}

fn open(at: At<'_>, flags: OFlags, mode: Mode) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::openat(at.directory, at.name, flags, mode)?)
}

/// Not the marks of layers, which say nothing of a whole tree, nor the labels of the host.
fn is_kept(name: &[u8]) -> bool {
    !name.starts_with(b"user.overlay.")
        && !name.starts_with(b"trusted.overlay.")
        && !HOST_LABELS.contains(&name)
}

/// The modification time of a file; the access time stays.
pub(super) fn modified(stat: &Stat) -> Timestamps {
    #[allow(clippy::cast_possible_wrap, clippy::useless_conversion, reason = "differs by target")]
    let nanoseconds = stat.st_mtime_nsec as i64;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::sys::beneath;

    #[test]
    fn a_copy_has_the_content_the_holes_the_mode_and_the_time() {
        let directory = tempfile::tempdir().expect("writable");
        let at = |name: &str| directory.path().join(name);
        let file = File::create(at("from")).expect("writable");
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", 5 << 20).expect("writable");
        file.set_len(9 << 20).expect("writable");
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o4711)).expect("ours");
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(7, 9);
        file.set_modified(time).expect("ours");
        let root = beneath::open_root(directory.path()).expect("open");
        let (from, to) = (At::new(&root, b"from"), At::new(&root, b"to"));
        let duplicator = Duplicator::new(Owners::Recorded);
        duplicator.file(from, &from.stat().expect("there"), to).expect("copied");
        assert!(fs::read(at("from")).expect("readable") == fs::read(at("to")).expect("readable"));
        let (one, two) = (fs::metadata(at("from")), fs::metadata(at("to")));
        let (one, two) = (one.expect("there"), two.expect("there"));
        assert_eq!((one.mode(), one.mtime_nsec()), (two.mode(), two.mtime_nsec()));
        assert!(two.blocks() * 512 < 1 << 20, "{} blocks", two.blocks());
    }
}
