//! Keeping a file in memory from being swapped to a disk.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/mlock.2.html>
#![expect(unsafe_code, reason = "mapping a file is the caller's promise")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::{self, NonNull};

/// Pages of a file that are not swapped as long as this lives.
#[derive(Debug)]
pub(crate) struct Locked {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the pages are never looked at, and unmapping them is safe from any thread.
unsafe impl Send for Locked {}
// SAFETY: as above; there is nothing that can be done through a shared reference.
unsafe impl Sync for Locked {}

/// Keeps the first `length` bytes of a file in memory.
///
/// # Errors
///
/// `ENOMEM`, `EPERM` or `EAGAIN` beyond what this user may keep (`RLIMIT_MEMLOCK`).
pub(crate) fn lock(file: impl AsFd, length: usize) -> io::Result<Option<Locked>> {
    if length == 0 {
        return Ok(None);
    }
    let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE);
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the kernel chooses an address that is free, so nothing of ours is replaced.
    let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, file, 0) };
    let Some(start) = NonNull::new(start).filter(|start| start.as_ptr() != libc::MAP_FAILED) else {
        return Err(io::Error::last_os_error());
    };
    let locked = Locked { start, length };
    // SAFETY: these pages were mapped a line ago, and are ours until `locked` is dropped.
    if unsafe { libc::mlock(start.as_ptr(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Some(locked))
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: nobody has a pointer to these pages, which were mapped for this value.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_in_memory_until_it_is_let_go() {
        let kept = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a line");
            line.trim_end_matches("kB").trim().parse::<u64>().expect("a number")
        };
        let file = tempfile::tempfile().expect("writable");
        file.set_len(10_000).expect("writable");
        let before = kept();
        let locked = lock(&file, 10_000).expect("a few pages are allowed");
        assert_eq!(kept() - before, 12);
        drop(locked);
        assert_eq!(kept(), before);
        assert!(lock(&file, 0).expect("nothing to do").is_none());
    }
}
