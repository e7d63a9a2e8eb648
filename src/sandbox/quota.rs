//! How much may be written to what only looks like a file system in memory: nothing but the supervisor
//! can hold it to its size.
//!
//! Writes are counted before they are made, and what there really is is measured only when the count
//! says that it is too much. It is for programs that must see such a file system fill up; one that
//! writes to mapped memory escapes it, and wastes its own disk.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, statat};

use crate::oci::ImagePath;
use crate::sys::beneath;

/// Files take up whole pages.
const PAGE: u64 = 4096;

/// A directory that may hold so much.
#[derive(Debug)]
pub(super) struct Quota {
    pub(super) path: ImagePath,
    /// In bytes; 0 is any.
    pub(super) size: u64,
    /// At least as much as there is.
    at_most: Mutex<u64>,
}

impl Quota {
    pub(super) fn new(path: ImagePath, size: u64) -> Self {
        Self { path, size, at_most: Mutex::new(0) }
    }

    /// Whether so many bytes more may be written in the directory, which is in the tree `root`.
    pub(super) fn admits(&self, root: &OwnedFd, bytes: u64) -> bool {
        if self.size == 0 {
            return true;
        }
        let mut at_most = self.at_most.lock().unwrap_or_else(PoisonError::into_inner);
        if at_most.saturating_add(bytes) > self.size {
            let measured = beneath::open_directory(root, self.path.relative())
                .and_then(|directory| measure(directory.as_fd()));
            // What cannot be measured is not what somebody could run out of.
            *at_most = measured.unwrap_or(0);
        }
        let fits = at_most.saturating_add(bytes) <= self.size;
        if fits {
            *at_most += bytes;
        }
        fits
    }
}

/// The most parts of one write that are looked at; most have few.
pub(super) const PARTS: usize = 64;
/// The size of a part's description.
pub(super) const PART: usize = 16;

/// The sum of the lengths in an array of `struct iovec`: each an address and a length, of eight bytes.
pub(super) fn length_of_parts(parts: &[u8]) -> u64 {
    let length = |part: &[u8]| part[8..].try_into().map_or(0, u64::from_ne_bytes);
    parts.chunks_exact(PART).map(length).fold(0, u64::saturating_add)
}

/// How much the files below a directory hold.
fn measure(directory: impl AsFd) -> io::Result<u64> {
    let directory = directory.as_fd();
    let mut sum = 0;
    for (name, _) in beneath::read_entries(directory)? {
        // What was removed meanwhile takes up nothing.
        let Ok(stat) = statat(directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = beneath::open_directory(directory, Path::new(OsStr::from_bytes(&name)));
                sum += below.and_then(measure).unwrap_or(0);
            }
            FileType::RegularFile => sum += stat.st_size.cast_unsigned().next_multiple_of(PAGE),
            _ => {}
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_makes_room() {
        let tree = tempfile::tempdir().expect("writable");
        let at = |name: &str| tree.path().join(name);
        std::fs::create_dir_all(at("m/d")).expect("writable");
        let root = beneath::open_root(tree.path()).expect("open");
        let quota = Quota::new(ImagePath::new("/m"), 64 << 10);
        assert!(quota.admits(&root, 60 << 10));
        std::fs::write(at("m/d/f"), vec![0; 60 << 10]).expect("writable");
        assert!(!quota.admits(&root, 8 << 10));
        assert!(quota.admits(&root, 4 << 10));
        std::fs::remove_file(at("m/d/f")).expect("removed");
        assert!(quota.admits(&root, 32 << 10));
        assert!(!quota.admits(&root, 65 << 10));
        assert!(Quota::new(ImagePath::new("/m"), 0).admits(&root, u64::MAX));
    }
}
