//! One entry of a layer.

use std::collections::BTreeMap;

use crate::oci::{ImagePath, Timestamp};

/// A file that a layer adds or changes, or a name that it removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: ImagePath,
    /// What.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner, as the image counts.
    pub uid: u32,
    /// The group, as the image counts.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Timestamp,
    /// Extended attributes, by full name (`security.capability`, `user.x`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File {
        /// How many.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it holds; any bytes.
        target: Vec<u8>,
    },
    /// Another name of a file that stands earlier in the same layer.
    Hardlink {
        /// The earlier name.
        target: ImagePath,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket: found in trees, never in layers. A copy makes an empty file of it (rule A120).
    Socket,
    /// The path is gone from the layers below.
    Whiteout,
    /// Everything that the layers below put into this directory is gone.
    OpaqueWhiteout,
}
