//! `LayerDir`: one layer's directory, in overlayfs's format, read the way overlayfs reads it.
//!
//! Whiteouts and opaque directories are recognised, and records of owners are honoured, so that
//! whoever reads through this sees what the image says and not what the disk says.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::layer::marks::{HAS_WHITEOUT_FILES, OPAQUE};
use crate::layer::owners::{HELD, OverlayFormat, Owners, Record, STAT, Sidecar, is_internal};
use crate::layer::{Kind, Node};
use crate::oci::{ImagePath, Timestamp};
use crate::sys::{beneath, xattr};

/// Labels of the host's own security, which say nothing of the image.
pub(crate) const HOST_LABELS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// A directory that holds one layer.
#[derive(Debug)]
pub(crate) struct LayerDir {
    root: OwnedFd,
    owners: Owners,
    format: OverlayFormat,
    sidecar: Sidecar,
}

/// What one layer says of a path.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Nothing.
    Absent,
    /// That it is gone.
    Whiteout,
    /// What it is, and whether, being a directory, it hides those below.
    Present {
        /// What it is.
        node: Node,
        /// Whether the layers below have no part in it.
        opaque: bool,
    },
}

impl LayerDir {
    /// Opens the directory `path` of the host.
    pub(crate) fn open(
        path: &Path,
        owners: Owners,
        format: OverlayFormat,
        sidecar: Sidecar,
    ) -> io::Result<Self> {
        Ok(Self { root: beneath::open_root(path)?, owners, format, sidecar })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What is recorded of a file that cannot carry its record.
    pub(crate) fn record(&self, path: &ImagePath) -> Option<Record> {
        self.sidecar.get(path)
    }

    /// What stands at `path`, whose parents must be directories in this layer.
    pub(crate) fn lookup(&self, path: &ImagePath) -> io::Result<Stored> {
        let relative = path.relative();
        let stat = match rustix::fs::statat(&self.root, relative, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Stored::Absent),
            result => result?,
        };
        if is_whiteout_device(&stat) {
            return Ok(Stored::Whiteout);
        }
        let names = xattr::list(&self.root, relative)?;
        let has = |name: &[u8]| names.iter().any(|other| other == name);
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && has(self.format.whiteout()) {
            return Ok(Stored::Whiteout);
        }
        let name = self.format.opaque();
        let opaque = has(name)
            && xattr::get(&self.root, relative, name)?.is_some_and(|value| value == OPAQUE);
        let record = if has(STAT) {
            xattr::get(&self.root, relative, STAT)?.and_then(|value| Record::decode(&value))
        } else {
            self.sidecar.get(path)
        };
        let xattrs = self.xattrs(relative, &names)?;
        let node = self.node(relative, &stat, record, xattrs)?;
        Ok(Stored::Present { node, opaque })
    }

    /// The names in the directory `path`, sorted, and whether they are whiteouts.
    pub(crate) fn read_dir(&self, path: &ImagePath) -> io::Result<Vec<(Vec<u8>, bool)>> {
        let relative = path.relative();
        let entries = beneath::read_entries(beneath::open_directory(&self.root, relative)?)?;
        // Overlayfs marks directories in which empty files may be whiteouts.
        let marker = xattr::get(&self.root, relative, self.format.opaque())?;
        let may_be_file = marker.is_some_and(|value| value == HAS_WHITEOUT_FILES);
        let mut names = Vec::with_capacity(entries.len());
        for (name, file_type) in entries {
            let may_be_whiteout = match file_type {
                FileType::CharacterDevice | FileType::Unknown => true,
                FileType::RegularFile => may_be_file,
                _ => false,
            };
            let is_whiteout =
                may_be_whiteout && matches!(self.lookup(&path.join(&name))?, Stored::Whiteout);
            names.push((name, is_whiteout));
        }
        Ok(names)
    }

    /// Opens the regular file `path`.
    pub(crate) fn open_file(&self, path: &ImagePath) -> io::Result<File> {
        // A pipe that took the file's place would block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        beneath::open(self.root.as_fd(), path.relative(), flags).map(File::from)
    }

    fn node(
        &self,
        path: &Path,
        stat: &Stat,
        record: Option<Record>,
        xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> io::Result<Node> {
        let real = stat.st_mode & 0o7777;
        let on_disk = self.kind(path, stat)?;
        let kind = match record.and_then(|record| record.device()) {
            Some(device) if matches!(on_disk, Kind::File { .. }) => device,
            _ => on_disk,
        };
        let (mode, uid, gid) = match (self.owners, record) {
            (Owners::Real, None) => (real, stat.st_uid, stat.st_gid),
            (Owners::Real, Some(record)) => {
                let (uid, gid) = record.owner((stat.st_uid, stat.st_gid));
                (real, uid, gid)
            }
            (Owners::Recorded, None) => (real, 0, 0),
            (Owners::Recorded, Some(record)) => (record.mode(&kind, real), record.uid, record.gid),
        };
        let is_linked = stat.st_nlink > 1 && kind != Kind::Directory;
        let inode = is_linked.then_some((stat.st_dev, stat.st_ino));
        let mtime = Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        Ok(Node { kind, mode, uid, gid, mtime, xattrs, inode })
    }

    fn kind(&self, path: &Path, stat: &Stat) -> io::Result<Kind> {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&self.root, path, Vec::new())?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::File { size: stat.st_size.cast_unsigned() },
        })
    }

    fn xattrs(&self, path: &Path, names: &[Vec<u8>]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut xattrs = BTreeMap::new();
        for name in names {
            let own = name.strip_prefix(HELD);
            let is_ours = own.is_none() && is_internal(name);
            if is_ours || HOST_LABELS.contains(&name.as_slice()) {
                continue;
            }
            if let Some(value) = xattr::get(&self.root, path, name)? {
                xattrs.insert(own.unwrap_or(name).to_vec(), value);
            }
        }
        Ok(xattrs)
    }
}

/// Whether this is the device 0:0, overlayfs's way to say that a name is gone.
pub(crate) fn is_whiteout_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
