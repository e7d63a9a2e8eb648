//! The file system that a store is on, as far as it matters to a build.
//!
//! Numbers: the kernel's `include/uapi/linux/magic.h`.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

/// A file system, seen at one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type: `ext4`; the kernel's number in hexadecimal if we have no name for it.
    pub kind: String,
    /// How many bytes this user may still write.
    pub free: u64,
    /// How many bytes there are altogether.
    pub size: u64,
    /// How many files may still be made; `None` where that is not limited.
    pub free_files: Option<u64>,
    /// Whether it is mounted so that no program on it can be run.
    pub no_exec: bool,
}

const KINDS: [(u32, &str); 16] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x00c3_6400, "ceph"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x8584_58f6, "ramfs"),
    (0xca45_1a4e, "bcachefs"),
    (0x0186_1b62, "lustre"),
];

impl FileSystem {
    /// Looks at the one that `path` is on.
    ///
    /// # Errors
    ///
    /// Fails if `path` is not there, or may not be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (raw, mount) = (statfs(path)?, statvfs(path)?);
        // The type's width and sign differ between machines; the numbers have 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let magic = raw.f_type as u32;
        let kind = KINDS.iter().find(|(number, _)| *number == magic);
        Ok(Self {
            kind: kind.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned()),
            free: mount.f_bavail.saturating_mul(mount.f_frsize),
            size: mount.f_blocks.saturating_mul(mount.f_frsize),
            free_files: (mount.f_files > 0).then_some(mount.f_favail),
            no_exec: mount.f_flag.contains(StatVfsMountFlags::NOEXEC),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_file_systems_are_known_by_name_or_number() {
        let directory = tempfile::tempdir().expect("writable");
        let here = FileSystem::of(directory.path()).expect("it is there");
        assert!(here.size >= here.free && here.size > 0, "{here:?}");
        let proc = FileSystem::of(Path::new("/proc")).expect("it is mounted");
        assert_eq!(proc.kind, "0x9fa0");
        assert!(FileSystem::of(Path::new("/nowhere/at/all")).is_err());
    }
}
