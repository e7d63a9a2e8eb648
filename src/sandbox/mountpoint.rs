//! Places to mount things on: found inside the root, made if missing, and removed after the run.
//!
//! A bind needs a file or directory to cover. One that the image lacks is made, and must not end
//! up in the layer; nor must the new modification time of the directory around it. So each one
//! that was made is remembered, the times are put back at once, and [`remove`] takes what was made
//! out of the upper directory when nothing runs any more.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, fstat,
    futimens, mkdirat, openat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
const FIND: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a mount point must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shape {
    /// For file systems and directories.
    Directory,
    /// For files, devices and sockets.
    File,
}

/// Something that was made only to be mounted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The names on the way from the root, none of which is a link.
    names: Vec<Vec<u8>>,
    shape: Shape,
}

/// The mount points in one root file system.
#[derive(Debug)]
pub(super) struct MountPoints {
    root: OwnedFd,
    made: Vec<Made>,
}

impl MountPoints {
    /// `root` is the root directory of a mounted file system that nobody else uses yet.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, made: Vec::new() }
    }

    /// What had to be made.
    pub(super) fn into_made(self) -> Vec<Made> {
        self.made
    }

    /// The place `target`, with links resolved inside the root; it is made if it is missing.
    pub(super) fn get(&mut self, target: &Path, shape: Shape) -> io::Result<OwnedFd> {
        match self.walk(target, shape)?.behind.pop() {
            Some((_, found)) => Ok(found),
            None => self.root.try_clone(),
        }
    }

    /// The same place, as a name in the directory around it, with its path.
    ///
    /// # Errors
    ///
    /// `EINVAL` for the root itself, which has nothing around it.
    pub(super) fn place(&mut self, target: &Path, shape: Shape) -> io::Result<Place> {
        let mut way = self.walk(target, shape)?;
        let names = way.names();
        let (name, _) = way.behind.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let around = match way.behind.pop() {
            Some((_, around)) => around,
            None => self.root.try_clone()?,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let around = openat(around, ".", flags, Mode::empty())?;
        Ok(Place { around, name, path: [b"/", names.join(&b'/').as_slice()].concat() })
    }

    fn walk(&mut self, target: &Path, shape: Shape) -> io::Result<Way> {
        let mut way = Way::new(target.as_os_str().as_bytes());
        while let Some(name) = way.ahead.pop_front() {
            if name == b".." {
                way.behind.pop();
                continue;
            }
            let parent = way.behind.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let found = match openat(parent, OsStr::from_bytes(&name), FIND, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let shape = if way.ahead.is_empty() { shape } else { Shape::Directory };
                    make(parent, &name, shape)?;
                    let mut names = way.names();
                    names.push(name.clone());
                    self.made.push(Made { names, shape });
                    openat(parent, OsStr::from_bytes(&name), FIND, Mode::empty())?
                }
                other => other?,
            };
            if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
                way.follow(readlinkat(&found, "", Vec::new())?.as_bytes())?;
            } else {
                way.behind.push((name, found));
            }
        }
        Ok(way)
    }
}

/// Where something can be put in the place of what is there.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) around: OwnedFd,
    /// The name in it.
    pub(super) name: Vec<u8>,
    /// The path from the root, without links.
    pub(super) path: Vec<u8>,
}

/// How far the search for a path has come.
struct Way {
    behind: Vec<(Vec<u8>, OwnedFd)>,
    ahead: VecDeque<Vec<u8>>,
    links: usize,
}

impl Way {
    fn new(path: &[u8]) -> Self {
        Self { behind: Vec::new(), ahead: names(path).collect(), links: 0 }
    }

    fn follow(&mut self, link: &[u8]) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        if link.starts_with(b"/") {
            self.behind.clear();
        }
        for name in names(link).collect::<Vec<_>>().into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }

    fn names(&self) -> Vec<Vec<u8>> {
        self.behind.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

/// Makes one place, and leaves the times of the directory around it as they were.
fn make(parent: BorrowedFd<'_>, name: &[u8], shape: Shape) -> io::Result<()> {
    let name = OsStr::from_bytes(name);
    keeping_times(parent, |parent| {
        match shape {
            Shape::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Shape::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        Ok(())
    })
}

/// Changes what is in `directory`, and puts its modification time back.
pub(super) fn keeping_times(
    directory: BorrowedFd<'_>,
    change: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(directory, ".", flags, Mode::empty())?;
    let before = fstat(&directory)?;
    change(directory.as_fd())?;
    Ok(futimens(&directory, &modified(&before))?)
}

fn modified(stat: &Stat) -> Timestamps {
    #[allow(clippy::cast_possible_wrap, clippy::useless_conversion, reason = "differs by target")]
    let nanoseconds = stat.st_mtime_nsec as i64;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    }
}

/// Takes what was made out of the upper directory again, except for directories that the command
/// has since put something into.
pub(super) fn remove(upper: &Path, made: &[Made]) -> io::Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let upper = openat(rustix::fs::CWD, upper, flags, Mode::empty())?;
    for made in made.iter().rev() {
        match remove_one(upper.as_fd(), made) {
            Err(error) if may_stay(&error) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether the command has used the place, or removed it together with what was around it.
fn may_stay(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTEMPTY | libc::ELOOP | libc::EXDEV)
    )
}

fn remove_one(upper: BorrowedFd<'_>, made: &Made) -> io::Result<()> {
    let Some((name, around)) = made.names.split_last() else { return Ok(()) };
    let around = if around.is_empty() { b".".to_vec() } else { around.join(&b'/') };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = openat2(upper, OsStr::from_bytes(&around), flags, Mode::empty(), inside)?;
    let name = OsStr::from_bytes(name);
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    keeping_times(parent.as_fd(), |parent| {
        match (made.shape, kind) {
            (Shape::Directory, FileType::Directory) => {
                unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            }
            (Shape::File, FileType::RegularFile) if stat.st_size == 0 => {
                unlinkat(parent, name, AtFlags::empty())?;
            }
            _ => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    fn points(root: &Path) -> MountPoints {
        MountPoints::new(fs::File::open(root).expect("root").into())
    }

    #[test]
    fn what_is_missing_is_made_and_removed_and_leaves_no_trace() {
        let root = tempfile::tempdir().expect("tempdir");
        fs::create_dir(root.path().join("etc")).expect("etc");
        let before = fs::metadata(root.path().join("etc")).expect("etc");
        let mut points = points(root.path());
        points.get(Path::new("/etc/hosts"), Shape::File).expect("hosts");
        points.get(Path::new("/a/b/c"), Shape::Directory).expect("c");
        assert!(root.path().join("a/b/c").is_dir());
        let made = points.into_made();
        assert_eq!(made.len(), 4);
        remove(root.path(), &made).expect("remove");
        let after = fs::metadata(root.path().join("etc")).expect("etc");
        let times = |meta: &fs::Metadata| (meta.mtime(), meta.mtime_nsec());
        assert_eq!(times(&before), times(&after));
        let left: Vec<_> = fs::read_dir(root.path()).expect("root").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn links_cannot_leave_the_root() {
        let root = tempfile::tempdir().expect("tempdir");
        symlink("../../../run/stub.conf", root.path().join("resolv.conf")).expect("link");
        let mut points = points(root.path());
        points.get(Path::new("resolv.conf"), Shape::File).expect("through the link");
        assert!(root.path().join("run/stub.conf").is_file());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let root = tempfile::tempdir().expect("tempdir");
        symlink("b", root.path().join("a")).expect("link");
        symlink("a", root.path().join("b")).expect("link");
        let error = points(root.path()).get(Path::new("/a"), Shape::File).expect_err("a loop");
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn what_the_command_used_stays() {
        let root = tempfile::tempdir().expect("tempdir");
        let mut points = points(root.path());
        points.get(Path::new("/etc/hosts"), Shape::File).expect("hosts");
        fs::write(root.path().join("etc/own"), "mine").expect("own");
        remove(root.path(), &points.into_made()).expect("remove");
        assert!(root.path().join("etc/own").exists());
        assert!(!root.path().join("etc/hosts").exists());
    }

    #[test]
    fn what_is_there_is_found_and_not_removed() {
        let root = tempfile::tempdir().expect("tempdir");
        fs::write(root.path().join("hosts"), "").expect("hosts");
        let mut points = points(root.path());
        points.get(Path::new("/hosts"), Shape::File).expect("hosts");
        remove(root.path(), &points.into_made()).expect("remove");
        assert!(root.path().join("hosts").exists());
    }
}
