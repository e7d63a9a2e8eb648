//! A directory beside the tree for what the emulation makes itself: copies of programs, `/dev`,
//! listings of `/proc`, temporary file systems. It is removed with the sandbox.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, symlinkat};

use crate::sandbox::emulate::mounts::host_path;
use crate::sandbox::emulate::records::{Inode, inode};
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
    any: AtomicBool,
    listed: Mutex<Listed>,
}

/// The listings that there are.
#[derive(Debug, Default)]
struct Listed {
    /// Oldest first.
    order: VecDeque<(String, Inode)>,
    /// What each stands for.
    paths: HashMap<Inode, Vec<u8>>,
    /// What is in any of them.
    inner: HashSet<Inode>,
}

/// What a listing shows: directories, files and links.
#[derive(Debug, Default)]
pub(super) struct Shown<'a> {
    pub(super) directories: Vec<String>,
    pub(super) files: Vec<&'a str>,
    pub(super) links: Vec<&'a str>,
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
        let (count, any, listed) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        Ok(Self { name, parent, top, listings, listings_host, count, any, listed })
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

    /// What in `/proc` this directory is a listing of.
    pub(super) fn listing(&self, stat: &Stat) -> Option<Vec<u8>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.paths.get(&inode(stat)).cloned()
    }

    /// Whether a file is only an entry of a listing.
    pub(super) fn is_listed(&self, stat: &Stat) -> bool {
        self.any.load(Ordering::Acquire)
            && self
                .listed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .inner
                .contains(&inode(stat))
    }

    /// Makes a directory that stands for `path` in `/proc`, with these names in it.
    pub(super) fn list(&self, path: &[u8], shown: &Shown<'_>) -> io::Result<OwnedFd> {
        let number = self.count.fetch_add(1, Ordering::Relaxed).to_string();
        let listing = make(&self.listings, number.as_bytes(), 0o755)?;
        let mut inner = Vec::new();
        for name in &shown.directories {
            inner.push(inode(&fstat(&make(&listing, name.as_bytes(), 0o755)?)?));
        }
        for name in &shown.files {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let made = openat(&listing, *name, flags, Mode::from_raw_mode(0o644))?;
            inner.push(inode(&fstat(&made)?));
        }
        for name in &shown.links {
            symlinkat("-", &listing, *name)?;
            let stat = statat(&listing, *name, AtFlags::SYMLINK_NOFOLLOW)?;
            inner.push(inode(&stat));
        }
        let key = inode(&fstat(&listing)?);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.paths.insert(key, path.to_vec());
        listed.inner.extend(inner);
        listed.order.push_back((number, key));
        self.any.store(true, Ordering::Release);
        if listed.order.len() > LISTINGS
            && let Some((oldest, key)) = listed.order.pop_front()
        {
            let parent = beneath::open_directory(&self.listings, Path::new(&oldest))?;
            for name in beneath::read_names(&parent)? {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let stat = statat(&parent, OsStr::from_bytes(&name), flags)?;
                listed.inner.remove(&inode(&stat));
            }
            listed.paths.remove(&key);
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
    let opened = openat(parent, &name, OPEN | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode | 0o700))?;
    Ok(opened)
}
