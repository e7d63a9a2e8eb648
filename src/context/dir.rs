//! A directory of the host, read beneath its file descriptor.
//!
//! No path is ever put together: `openat2` starts at the descriptor, and neither a link nor `..`
//! can lead out of it, also when somebody changes the directory meanwhile. No symbolic link is
//! followed at all; `Tree::resolve` does that by asking step by step.
//!
//! What the host's files cannot tell the image is left out: their owners, as a checkout belongs to
//! whoever made it (rule A118), and their extended attributes (rule A119).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::context::ContextError;
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::{ImagePath, Timestamp};
use crate::sys::beneath;

/// An open directory of the host, as a file tree.
#[derive(Debug)]
pub struct HostDirectory {
    root: OwnedFd,
}

/// A file's content was not the same at the end as at the beginning.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` changed while it was read")]
struct ChangedWhileReading(ImagePath);

impl HostDirectory {
    /// Opens the directory at a path of the host, following links.
    ///
    /// # Errors
    ///
    /// [`ContextError::NotADirectory`], [`ContextError::Open`].
    pub fn open(path: &Path) -> Result<Self, ContextError> {
        let missing = [Errno::NOENT, Errno::NOTDIR].map(Errno::raw_os_error);
        let root = beneath::open_root(path).map_err(|source| match source.raw_os_error() {
            Some(code) if missing.contains(&code) => ContextError::NotADirectory(path.into()),
            _ => ContextError::Open { path: path.into(), source },
        })?;
        Ok(Self { root })
    }

    /// What stands at `path`; `None` if nothing does, or a parent is not a directory.
    fn node_at(&self, path: &ImagePath) -> io::Result<Option<Node>> {
        let Some(file) = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)? else {
            return Ok(None);
        };
        node(&file).map(Some)
    }

    /// The names in a directory, in byte order; `None` if there is no directory.
    fn names(&self, path: &ImagePath) -> io::Result<Option<Vec<Vec<u8>>>> {
        match self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)? {
            Some(directory) => beneath::read_names(directory).map(Some),
            None => Ok(None),
        }
    }

    /// The content of a regular file; `None` if there is no regular file.
    fn content(&self, path: &ImagePath) -> io::Result<Option<Box<dyn Read + Send>>> {
        // Not blocking, in case that a named pipe has taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Some(file) = self.open_at(path, flags)? else { return Ok(None) };
        let before = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(Box::new(WatchedFile { file: file.into(), before, path: path.clone() })))
    }

    /// `None` if there is no such thing.
    fn open_at(&self, path: &ImagePath, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        match beneath::open(&self.root, path.relative(), flags) {
            Ok(file) => Ok(Some(file)),
            Err(error) => match Errno::from_io_error(&error) {
                // NXIO: a socket, or a pipe without a writer.
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl Tree for HostDirectory {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        self.node_at(path).map_err(|source| unreadable(path, source))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let names = self.names(path).map_err(|source| unreadable(path, source))?;
        names.ok_or_else(|| TreeError::NotADirectory { path: path.clone() })
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        match self.content(path).map_err(|source| unreadable(path, source))? {
            Some(content) => Ok(content),
            None => match self.lookup(path)?.map(|node| node.kind) {
                // A socket, which stands for an empty file.
                Some(Kind::File { size: 0 }) => Ok(Box::new(io::empty())),
                _ => Err(TreeError::NotAFile { path: path.clone() }),
            },
        }
    }
}

fn unreadable(path: &ImagePath, source: io::Error) -> TreeError {
    TreeError::Read { path: path.clone(), source }
}

fn node(file: &OwnedFd) -> io::Result<Node> {
    let stat = rustix::fs::fstat(file)?;
    let device = || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(file, "", Vec::new())?;
            Kind::Symlink { target: target.into_bytes() }
        }
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => {
            let (major, minor) = device();
            Kind::CharDevice { major, minor }
        }
        FileType::BlockDevice => {
            let (major, minor) = device();
            Kind::BlockDevice { major, minor }
        }
        // A socket means nothing outside its process: it becomes an empty file (rule A120).
        FileType::Socket | FileType::Unknown => Kind::File { size: 0 },
        FileType::RegularFile => Kind::File { size: stat.st_size.try_into().unwrap_or(0) },
    };
    let several_names = stat.st_nlink > 1 && kind != Kind::Directory;
    Ok(Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: 0,
        gid: 0,
        mtime: mtime(&stat),
        xattrs: BTreeMap::new(),
        inode: several_names.then_some((stat.st_dev, stat.st_ino)),
    })
}

fn mtime(stat: &Stat) -> Timestamp {
    Timestamp {
        seconds: stat.st_mtime,
        nanoseconds: stat.st_mtime_nsec.try_into().unwrap_or_default(),
    }
}

/// A file that notices at its end whether somebody wrote to it meanwhile.
struct WatchedFile {
    file: File,
    before: Stat,
    path: ImagePath,
}

impl Read for WatchedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let now = rustix::fs::fstat(&self.file)?;
            if mtime(&now) != mtime(&self.before) || now.st_size != self.before.st_size {
                return Err(io::Error::other(ChangedWhileReading(self.path.clone())));
            }
        }
        Ok(count)
    }
}
