//! A directory beside the tree for what the emulation makes itself: copies of programs, `/dev`,
//! listings of `/proc`, temporary file systems. It is removed with the sandbox.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, Stat, fstat, mkdirat, openat, symlinkat};

use crate::sandbox::emulate::mounts::host_path;
use crate::sandbox::emulate::records::{Inode, Records, inode};
use crate::sys::beneath;

/// How many listings of `/proc` last at a time.
const LISTINGS: usize = 64;
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory.
#[derive(Debug)]
pub(super) struct Scratch {
    name: Vec<u8>,
    parent: OwnedFd,
    top: OwnedFd,
    listings: OwnedFd,
    listings_host: Vec<u8>,
    count: AtomicU64,
    listed: Mutex<(VecDeque<String>, HashSet<Inode>)>,
}

impl Scratch {
    /// Makes it in the directory `parent`.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        let parent = openat(CWD, parent, OPEN, Mode::empty())?;
        let name = format!("emulate-{}", rustix::process::getpid().as_raw_pid()).into_bytes();
        beneath::remove_tree(&parent, &name)?;
        let top = make(&parent, &name, 0o700)?;
        let listings = make(&top, b"listings", 0o700)?;
        let listings_host = host_path(listings.as_fd())?;
        let (count, listed) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { name, parent, top, listings, listings_host, count, listed })
    }

    /// Makes a new directory in it.
    pub(super) fn directory(&self, purpose: &str, mode: u32) -> io::Result<OwnedFd> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        make(&self.top, format!("{purpose}-{number}").as_bytes(), mode)
    }

    /// Where listings are.
    pub(super) fn listings(&self) -> &[u8] {
        &self.listings_host
    }

    /// Whether this directory is a listing of `/proc`.
    pub(super) fn is_listing(&self, stat: &Stat) -> bool {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.1.contains(&inode(stat))
    }

    /// Makes a directory with these directories (names and owners), files and links in it.
    pub(super) fn list(
        &self,
        records: &Records,
        directories: &[(String, u32, u32)],
        files: &[&str],
        links: &[(&str, Vec<u8>)],
    ) -> io::Result<OwnedFd> {
        let number = self.count.fetch_add(1, Ordering::Relaxed).to_string();
        let listing = make(&self.listings, number.as_bytes(), 0o755)?;
        for (name, uid, gid) in directories {
            let made = make(&listing, name.as_bytes(), 0o755)?;
            records.pretend(&fstat(&made)?, *uid, *gid, 0o755);
        }
        for name in files {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let made = openat(&listing, *name, flags, Mode::from_raw_mode(0o644))?;
            records.pretend(&fstat(&made)?, 0, 0, 0o644);
        }
        for (name, target) in links {
            symlinkat(OsStr::from_bytes(target), &listing, *name)?;
        }
        let key = inode(&fstat(&listing)?);
        records.pretend(&fstat(&listing)?, 0, 0, 0o755);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.1.insert(key);
        listed.0.push_back(number);
        if listed.0.len() > LISTINGS
            && let Some(oldest) = listed.0.pop_front()
        {
            beneath::remove_tree(&self.listings, oldest.as_bytes())?;
        }
        Ok(listing)
    }

    /// Removes it.
    pub(super) fn remove(&self) -> io::Result<()> {
        beneath::remove_tree(&self.parent, &self.name)
    }
}

/// Makes and opens a directory with exactly this mode.
pub(super) fn make(parent: &OwnedFd, name: &[u8], mode: u32) -> io::Result<OwnedFd> {
    let name = PathBuf::from(OsStr::from_bytes(name));
    mkdirat(parent, &name, Mode::RWXU)?;
    let made = openat(parent, &name, OPEN | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode | 0o700))?;
    Ok(made)
}
