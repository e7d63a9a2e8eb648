//! Owners, modes and devices as the image has them: remembered per inode, kept on disk.
//!
//! What a regular file or a directory is differently from "root's, with the mode on disk" is in an
//! extended attribute of it ([`layer`](crate::layer), `user.coracle.stat`). Links, pipes and sockets
//! cannot have one; theirs are here in memory, and in the end in the file beside the tree.
//!
//! All inodes of the tree are made through the supervisor, which says here who owns each new one;
//! so what is remembered of an inode is true even if its number was another file's before.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, major, makedev, minor};
use rustix::io::Errno;

use crate::layer::{Kind, Record, STAT, Sidecar, real_mode};
use crate::oci::ImagePath;
use crate::sys::beneath;

const SHARDS: usize = 16;
/// How much a shard remembers of what can be read again.
const REMEMBERED: usize = 16_384;
const PERMISSIONS: u32 = 0o7777;

/// An inode: device and number.
pub(super) type Inode = (u64, u64);

/// Whose a file is and what may be done with it, as the image counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// With the type.
    pub(super) mode: u32,
    pub(super) device: u64,
}

impl Owner {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_device(&self) -> bool {
        matches!(self.kind(), FileType::CharacterDevice | FileType::BlockDevice)
    }

    /// Makes a stat of the disk one of the image.
    pub(super) fn apply(&self, stat: &mut Stat) {
        stat.st_uid = self.uid;
        stat.st_gid = self.gid;
        stat.st_mode = self.mode;
        stat.st_rdev = self.device;
    }

    fn record(&self) -> Record {
        let device = (major(self.device), minor(self.device));
        let kind = match self.kind() {
            FileType::CharacterDevice => Kind::CharDevice { major: device.0, minor: device.1 },
            FileType::BlockDevice => Kind::BlockDevice { major: device.0, minor: device.1 },
            FileType::Directory => Kind::Directory,
            _ => Kind::File { size: 0 },
        };
        Record::new(&kind, self.mode & PERMISSIONS, self.uid, self.gid)
    }
}

/// The mode on disk of a file that is to have the given mode, with its type.
pub(super) fn mode_on_disk(mode: u32) -> Mode {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        FileType::Fifo | FileType::Socket => Kind::Fifo,
        FileType::Symlink => Kind::Symlink { target: Vec::new() },
        FileType::CharacterDevice => Kind::CharDevice { major: 0, minor: 0 },
        FileType::BlockDevice => Kind::BlockDevice { major: 0, minor: 0 },
        _ => Kind::File { size: 0 },
    };
    Mode::from_raw_mode(real_mode(&kind, mode & PERMISSIONS))
}

/// The inode of a stat.
pub(super) fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// All that is known of inodes.
#[derive(Debug, Default)]
pub(super) struct Records {
    shards: [Mutex<HashMap<Inode, Option<Record>>>; SHARDS],
    /// Of links, pipes and sockets. These cannot be read again.
    special: Mutex<HashMap<Inode, Record>>,
}

impl Records {
    /// Reads those that are beside the tree.
    pub(super) fn load(&self, tree: &impl std::os::fd::AsFd, file: &Path) -> io::Result<()> {
        let bytes = match std::fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let sidecar = Sidecar::decode(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        let mut special = lock(&self.special);
        for (path, record) in sidecar.iter() {
            let at = path.relative();
            if let Ok(stat) = rustix::fs::statat(tree, at, AtFlags::SYMLINK_NOFOLLOW) {
                special.insert(inode(&stat), *record);
            }
        }
        Ok(())
    }

    /// Writes those of links, pipes and sockets beside the tree.
    pub(super) fn save(&self, tree: &impl std::os::fd::AsFd, file: &Path) -> io::Result<()> {
        let special = std::mem::take(&mut *lock(&self.special));
        let mut sidecar = Sidecar::default();
        if !special.is_empty() {
            let root = beneath::open_root(Path::new(&format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&tree.as_fd())
            )))?;
            collect(&root, &ImagePath::root(), &special, &mut sidecar)?;
        }
        if sidecar.is_empty() {
            return match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        std::fs::write(file, sidecar.encode())
    }

    /// What the image says of a file. `path` names it for extended attributes; the last component is
    /// followed.
    pub(super) fn owner(&self, stat: &Stat, path: impl FnOnce() -> Vec<u8>) -> Owner {
        let plain = Owner { uid: 0, gid: 0, mode: stat.st_mode, device: stat.st_rdev };
        let Some(record) = self.record(stat, path) else { return plain };
        let on_disk = FileType::from_raw_mode(stat.st_mode);
        let real = stat.st_mode & PERMISSIONS;
        let (kind, device) = match record.device {
            Some((major, minor)) if on_disk == FileType::RegularFile => {
                (record.mode & !PERMISSIONS, makedev(major, minor))
            }
            _ => (stat.st_mode & !PERMISSIONS, stat.st_rdev),
        };
        let mode = if mode_on_disk(kind | record.mode & PERMISSIONS).as_raw_mode() == real {
            record.mode & PERMISSIONS
        } else {
            real
        };
        Owner { uid: record.uid, gid: record.gid, mode: kind | mode, device }
    }

    fn record(&self, stat: &Stat, path: impl FnOnce() -> Vec<u8>) -> Option<Record> {
        let key = inode(stat);
        if !can_carry(stat.st_mode) {
            return lock(&self.special).get(&key).copied();
        }
        let shard = self.shard(key);
        if let Some(known) = lock(shard).get(&key) {
            return *known;
        }
        let mut value = [0; 64];
        let path = path();
        let record = match rustix::fs::getxattr(&*path, STAT, &mut value[..]) {
            Ok(length) => Record::decode(&value[..length]),
            Err(_) => None,
        };
        self.remember(key, record);
        record
    }

    fn remember(&self, key: Inode, record: Option<Record>) {
        let mut shard = lock(self.shard(key));
        if shard.len() >= REMEMBERED {
            shard.clear();
        }
        shard.insert(key, record);
    }

    /// Says whose a file is. Its mode on disk must be the one that [`mode_on_disk`] gives.
    pub(super) fn set(&self, stat: &Stat, path: &[u8], owner: &Owner) -> Result<(), Errno> {
        let key = inode(stat);
        let record = owner.record();
        let real = mode_on_disk(owner.mode).as_raw_mode();
        let is_plain = record.uid == 0
            && record.gid == 0
            && record.device.is_none()
            && (record.mode == real || FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if !can_carry(stat.st_mode) {
            let mut special = lock(&self.special);
            if is_plain {
                special.remove(&key);
            } else {
                special.insert(key, record);
            }
            return Ok(());
        }
        if is_plain {
            if lock(self.shard(key)).get(&key) == Some(&None) {
                return Ok(());
            }
            match rustix::fs::removexattr(path, STAT) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            rustix::fs::setxattr(path, STAT, &record.encode(), XattrFlags::empty())?;
        }
        self.remember(key, (!is_plain).then_some(record));
        Ok(())
    }

    /// Says whose a file is that has just been made, and of which nothing is on disk yet.
    pub(super) fn set_new(&self, stat: &Stat, path: &[u8], owner: &Owner) -> Result<(), Errno> {
        let is_plain = owner.uid == 0 && owner.gid == 0 && !owner.is_device();
        let real = mode_on_disk(owner.mode).as_raw_mode();
        if is_plain && can_carry(stat.st_mode) && owner.mode & PERMISSIONS == real {
            self.remember(inode(stat), None);
            return Ok(());
        }
        self.set(stat, path, owner)
    }

    /// Says of whom a file is to be, in memory only.
    pub(super) fn pretend(&self, stat: &Stat, uid: u32, gid: u32, mode: u32) {
        self.remember(inode(stat), Some(Record { uid, gid, mode, device: None, stand_in: None }));
    }

    fn shard(&self, (_, number): Inode) -> &Mutex<HashMap<Inode, Option<Record>>> {
        &self.shards[usize::try_from(number % SHARDS as u64).unwrap_or(0)]
    }
}

fn can_carry(mode: u32) -> bool {
    matches!(FileType::from_raw_mode(mode), FileType::RegularFile | FileType::Directory)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds the paths of inodes that have records.
fn collect(
    directory: &impl std::os::fd::AsFd,
    path: &ImagePath,
    special: &HashMap<Inode, Record>,
    into: &mut Sidecar,
) -> io::Result<()> {
    for (name, kind) in beneath::read_entries(directory)? {
        let at = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name));
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let inner = beneath::open(directory, at, flags)?;
                collect(&inner, &path.join(&name), special, into)?;
            }
            FileType::RegularFile => {}
            _ => {
                let stat = rustix::fs::statat(directory, at, AtFlags::SYMLINK_NOFOLLOW)?;
                if let Some(record) = special.get(&inode(&stat)) {
                    into.insert(path.join(&name), *record);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn owners_survive_on_disk_and_beside_it() {
        let directory = tempfile::tempdir().expect("writable");
        let at = |name: &str| directory.path().join(name);
        let root = beneath::open_root(directory.path()).expect("a directory");
        std::fs::write(at("file"), "").expect("writable");
        std::fs::set_permissions(at("file"), PermissionsExt::from_mode(0o755)).expect("ours");
        std::os::unix::fs::symlink("file", at("link")).expect("writable");
        let stat = |name: &str| {
            rustix::fs::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW).expect("it is there")
        };
        let path = |name: &str| at(name).into_os_string().into_encoded_bytes();
        let file = Owner { uid: 7, gid: 8, mode: 0o104_755, device: 0 };
        let link = Owner { uid: 9, gid: 0, mode: 0o120_777, device: 0 };
        let records = Records::default();
        records.set(&stat("file"), &path("file"), &file).expect("xattrs work here");
        records.set(&stat("link"), &path("link"), &link).expect("in memory");
        records.save(&root, &at("records")).expect("writable");

        let again = Records::default();
        again.load(&root, &at("records")).expect("readable");
        assert_eq!(again.owner(&stat("file"), || path("file")), file);
        assert_eq!(again.owner(&stat("link"), || path("link")), link);
        let nobody = Owner { uid: 0, gid: 0, mode: 0o100_755, device: 0 };
        again.set(&stat("file"), &path("file"), &nobody).expect("xattrs work here");
        assert_eq!(Records::default().owner(&stat("file"), || path("file")), nobody);
    }

    #[test]
    fn a_device_is_an_empty_file_with_a_record() {
        let directory = tempfile::tempdir().expect("writable");
        let path = directory.path().join("null");
        std::fs::write(&path, "").expect("writable");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("ours");
        let stat = rustix::fs::stat(&path).expect("it is there");
        let bytes = path.into_os_string().into_encoded_bytes();
        let device = Owner { uid: 0, gid: 6, mode: 0o020_666, device: makedev(1, 3) };
        Records::default().set_new(&stat, &bytes, &device).expect("xattrs work here");
        assert_eq!(Records::default().owner(&stat, || bytes.clone()), device);
    }
}
