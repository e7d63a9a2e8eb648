//! Descriptors that stand for files which a step may name, but not open: those opened with `O_PATH`.
//!
//! The kernel hands no such descriptor from one process to another. A step that asks for one gets an
//! empty file of ours, and whatever it does with that, the supervisor does with the file it stands for.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, Stat, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::sandbox::emulate::records::{Inode, inode};
use crate::sandbox::emulate::resolve::Found;

/// How many there are at a time; who has more open loses the oldest.
const MOST: usize = 512;

/// All of them.
#[derive(Debug)]
pub(super) struct Proxies {
    directory: OwnedFd,
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the empty file itself, so that its number is not used again.
    known: HashMap<Inode, (Arc<OwnedFd>, OwnedFd)>,
    order: VecDeque<Inode>,
}

impl Proxies {
    /// Makes them in an empty directory.
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self { directory, any: AtomicBool::new(false), state: Mutex::default() }
    }

    /// A descriptor for the step that stands for `file`.
    pub(super) fn make(&self, file: OwnedFd) -> Result<OwnedFd, Errno> {
        let mut state = self.lock();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
        let made = openat(&self.directory, "proxy", flags, Mode::RUSR)?;
        unlinkat(&self.directory, "proxy", rustix::fs::AtFlags::empty())?;
        let key = inode(&fstat(&made)?);
        let copy = made.try_clone().map_err(|_| Errno::MFILE)?;
        state.known.insert(key, (Arc::new(file), copy));
        state.order.push_back(key);
        if state.order.len() > MOST
            && let Some(oldest) = state.order.pop_front()
        {
            state.known.remove(&oldest);
        }
        self.any.store(true, Ordering::Release);
        Ok(made)
    }

    /// Whether this is a descriptor that stands for something else.
    pub(super) fn has(&self, stat: &Stat) -> bool {
        self.any.load(Ordering::Acquire) && self.lock().known.contains_key(&inode(stat))
    }

    /// What an open file of the step stands for: usually itself.
    pub(super) fn resolve(&self, found: Found) -> Result<Found, Errno> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(found);
        }
        match self.lock().known.get(&inode(&found.stat)) {
            Some((file, _)) => Found::new(file.try_clone().map_err(|_| Errno::MFILE)?),
            None => Ok(found),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::beneath::open_root;

    #[test]
    fn a_proxy_stands_for_a_file_that_cannot_be_opened() {
        let directory = tempfile::tempdir().expect("writable");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("writable");
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&link, flags, Mode::empty()).expect("it is there");
        let expected = inode(&fstat(&file).expect("open"));
        let proxies = Proxies::new(open_root(directory.path()).expect("a directory"));
        let given = proxies.make(file).expect("writable");
        let copy = Found::new(given.try_clone().expect("a copy")).expect("open");
        assert!(proxies.has(&copy.stat));
        let resolved = proxies.resolve(copy).expect("known");
        assert_eq!(inode(&resolved.stat), expected);
        let other = open_root(directory.path()).expect("a directory");
        let other = Found::new(other).expect("open");
        let key = inode(&other.stat);
        assert!(!proxies.has(&other.stat));
        let same = proxies.resolve(other).expect("itself");
        assert_eq!(inode(&same.stat), key);
    }
}
