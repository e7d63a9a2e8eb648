//! Putting things into a tree for as long as a command runs, where nothing can be mounted: what is
//! at the place is moved aside, and moved back when nothing runs any more.
//!
//! What was put there goes away with all that the command did to it, or back to where it came from.
//! If the command has removed the directory around the place, what was moved aside is removed with it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, renameat};
use rustix::io::Errno;

use crate::sandbox::mountpoint::{Place, keeping_times};
use crate::sys::beneath;

/// What is to be at a place.
#[derive(Debug)]
pub(super) enum Stand {
    /// A directory or file of the host on the tree's file system, which goes back there in the end.
    Moved(PathBuf),
    /// A copy of a file of the host.
    CopyOf(PathBuf),
    /// Another name of a socket of the host.
    SocketOf(PathBuf),
    /// A directory that was made for it, and is removed in the end.
    Made(PathBuf),
    /// A link to another place of the tree.
    Link(Vec<u8>),
    /// An empty file: its content is given to those who ask for it by its path.
    Empty,
}

/// Places that are not what they were.
#[derive(Debug)]
pub(super) struct Swaps {
    /// A directory of ours on the tree's file system, for what is moved aside.
    aside: OwnedFd,
    done: Vec<Swap>,
}

#[derive(Debug)]
struct Swap {
    place: Place,
    /// Where in the aside directory the tree's own is.
    own: String,
    back_to: Option<PathBuf>,
}

impl Swaps {
    pub(super) fn new(aside: &Path) -> io::Result<Self> {
        Ok(Self { aside: beneath::open_root(aside)?, done: Vec::new() })
    }

    /// Puts `stand` at `place`, where something is.
    pub(super) fn put(&mut self, place: Place, stand: &Stand) -> io::Result<()> {
        let own = format!("own-{}", self.done.len());
        let name = OsStr::from_bytes(&place.name).to_owned();
        keeping_times(place.around.as_fd(), |around| {
            renameat(around, &*name, &self.aside, &*own)?;
            stand.put(around, &name).inspect_err(|_| {
                // Nothing has begun, so that this fails only where all is lost anyway.
                let _ = renameat(&self.aside, &*own, around, &*name);
            })
        })?;
        let back_to = match stand {
            Stand::Moved(source) => Some(source.clone()),
            _ => None,
        };
        self.done.push(Swap { place, own, back_to });
        Ok(())
    }

    /// Puts everything back. Nothing may run in the tree any more.
    pub(super) fn undo(mut self) -> io::Result<()> {
        // All of it, whatever goes wrong with one.
        let mut result = Ok(());
        while let Some(swap) = self.done.pop() {
            result = result.and(swap.undo(self.aside.as_fd()));
        }
        result
    }
}

impl Stand {
    fn put(&self, around: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        match self {
            Self::Moved(source) | Self::Made(source) => {
                // Moving a directory changes its `..`, and so its time of modification.
                let time = fs::symlink_metadata(source)?.modified()?;
                renameat(CWD, source, around, name)?;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let moved = rustix::fs::openat(around, name, flags, Mode::empty())?;
                fs::File::from(moved).set_modified(time)
            }
            Self::CopyOf(source) => {
                let mut from = fs::File::open(source)?;
                let mode = std::os::unix::fs::PermissionsExt::mode(&from.metadata()?.permissions());
                let mut to = create(around, name)?;
                io::copy(&mut from, &mut to)?;
                Ok(rustix::fs::fchmod(to, Mode::from_raw_mode(mode & 0o7777))?)
            }
            Self::SocketOf(source) => {
                Ok(rustix::fs::linkat(CWD, source, around, name, AtFlags::empty())?)
            }
            Self::Link(target) => Ok(rustix::fs::symlinkat(&target[..], around, name)?),
            Self::Empty => create(around, name).map(drop),
        }
    }
}

fn create(around: BorrowedFd<'_>, name: &OsStr) -> io::Result<fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(around, name, flags, Mode::from_raw_mode(0o644))?.into())
}

impl Swap {
    fn undo(&self, aside: BorrowedFd<'_>) -> io::Result<()> {
        let name = OsStr::from_bytes(&self.place.name);
        let is_gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        let put_back = |around: BorrowedFd<'_>| {
            match &self.back_to {
                Some(source) => self.give_back(around, name, source)?,
                None => beneath::remove_tree(around, &self.place.name)?,
            }
            Ok(renameat(aside, &*self.own, around, name)?)
        };
        match keeping_times(self.place.around.as_fd(), put_back) {
            Err(error) if is_gone(&error) => beneath::remove_tree(aside, self.own.as_bytes()),
            other => other,
        }
    }

    /// A command may have put something else there, which is thrown away.
    fn give_back(&self, around: BorrowedFd<'_>, name: &OsStr, source: &Path) -> io::Result<()> {
        match rustix::fs::statat(around, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                return beneath::remove_tree(around, &self.place.name);
            }
            Ok(_) => {}
        }
        Ok(renameat(around, name, CWD, source)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::mountpoint::{MountPoints, Shape};

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().expect("writable"));
            for name in ["tree/etc", "tree/cache", "aside", "store/data"] {
                fs::create_dir_all(bench.at(name)).expect("writable");
            }
            fs::write(bench.at("tree/etc/hosts"), "own").expect("writable");
            fs::write(bench.at("tree/cache/hidden"), "own").expect("writable");
            fs::write(bench.at("store/data/kept"), "kept").expect("writable");
            fs::write(bench.at("hosts"), "given").expect("writable");
            bench
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn place(&self, path: &str, shape: Shape) -> Place {
            let root = beneath::open_root(&self.at("tree")).expect("open");
            MountPoints::new(root).place(Path::new(path), shape).expect("a place")
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.at(name)).expect(name)
        }
    }

    #[test]
    fn what_was_there_comes_back_and_the_times_too() {
        let bench = Bench::new();
        let time = || fs::metadata(bench.at("tree/etc")).and_then(|it| it.modified()).expect("etc");
        let before = time();
        let mut swaps = Swaps::new(&bench.at("aside")).expect("open");
        let hosts = bench.place("/etc/hosts", Shape::File);
        swaps.put(hosts, &Stand::CopyOf(bench.at("hosts"))).expect("put");
        let cache = bench.place("/cache", Shape::Directory);
        swaps.put(cache, &Stand::Moved(bench.at("store/data"))).expect("put");
        assert_eq!((bench.read("tree/etc/hosts"), time()), ("given".to_owned(), before));
        assert!(!bench.at("store/data").exists());
        fs::write(bench.at("tree/cache/more"), "more").expect("writable");
        swaps.undo().expect("undone");
        assert_eq!((bench.read("tree/etc/hosts"), time()), ("own".to_owned(), before));
        assert_eq!(bench.read("tree/cache/hidden"), "own");
        assert_eq!(bench.read("store/data/kept") + &bench.read("store/data/more"), "keptmore");
        assert_eq!(fs::read_dir(bench.at("aside")).expect("readable").count(), 0);
    }

    #[test]
    fn a_command_may_remove_or_replace_what_was_put_and_what_is_around_it() {
        let bench = Bench::new();
        let mut swaps = Swaps::new(&bench.at("aside")).expect("open");
        let hosts = bench.place("/etc/hosts", Shape::File);
        swaps.put(hosts, &Stand::CopyOf(bench.at("hosts"))).expect("put");
        let cache = bench.place("/cache", Shape::Directory);
        swaps.put(cache, &Stand::Moved(bench.at("store/data"))).expect("put");
        fs::remove_dir_all(bench.at("tree/etc")).expect("removed");
        fs::remove_dir_all(bench.at("tree/cache")).expect("removed");
        std::os::unix::fs::symlink("/etc", bench.at("tree/cache")).expect("writable");
        swaps.undo().expect("undone");
        assert!(!bench.at("tree/etc").exists());
        assert_eq!(bench.read("tree/cache/hidden"), "own");
        assert!(!bench.at("store/data").exists(), "the cache is gone, as the command had it");
        assert_eq!(fs::read_dir(bench.at("aside")).expect("readable").count(), 0);
    }
}
