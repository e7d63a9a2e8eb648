//! Directories of `/proc` as real ones in the tree.
//!
//! A descriptor of the host's `/proc` would lead out of the tree by `..`, where Landlock stops neither
//! `stat` nor `chmod`. So whoever opens such a directory gets one of the tree, made for the occasion:
//! names, links that say what they say, and empty files.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sandbox::chroot::proc::{Item, Listing};
use crate::sys::beneath;

const MODE: Mode = Mode::RUSR
    .union(Mode::XUSR)
    .union(Mode::RGRP)
    .union(Mode::XGRP)
    .union(Mode::ROTH)
    .union(Mode::XOTH);

/// The tree's own `/proc`, which is ours for as long as the command runs.
#[derive(Debug)]
pub(super) struct Mirror(Mutex<OwnedFd>);

impl Mirror {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(Mutex::new(directory))
    }

    /// Makes the directory at `way` look like `listing`, and opens it.
    pub(super) fn directory(&self, way: &[Vec<u8>], listing: &Listing) -> io::Result<OwnedFd> {
        let root = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = descend(root.as_fd(), way)?;
        for (name, _) in beneath::read_entries(&directory)? {
            if !listing.contains_key(&name) && name != b"self" {
                beneath::remove_tree(&directory, &name)?;
            }
        }
        for (name, item) in listing {
            make(directory.as_fd(), name, item)?;
        }
        // Read it from its beginning.
        beneath::open_directory(&directory, Path::new("."))
    }

    /// Makes a link at `way`, and lets `self` lead to the directory of the process.
    pub(super) fn link(&self, process: i32, way: &[Vec<u8>], text: &[u8]) -> io::Result<()> {
        let root = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((name, around)) = way.split_last() else { return Ok(()) };
        make(root.as_fd(), b"self", &Item::Link(process.to_string().into_bytes()))?;
        make(descend(root.as_fd(), around)?.as_fd(), name, &Item::Link(text.to_vec()))
    }
}

/// Opens a directory below `root`, which is made if it is missing. Nothing that a step may have put
/// there leads out.
fn descend(root: BorrowedFd<'_>, way: &[Vec<u8>]) -> io::Result<OwnedFd> {
    let mut here = beneath::open_directory(root, Path::new("."))?;
    for name in way {
        make(here.as_fd(), name, &Item::Directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = rustix::fs::openat(&here, &name[..], flags, Mode::empty())?;
    }
    Ok(here)
}

fn make(around: BorrowedFd<'_>, name: &[u8], item: &Item) -> io::Result<()> {
    let create = || match item {
        Item::Directory => rustix::fs::mkdirat(around, name, MODE),
        Item::File => {
            let mode = Mode::RUSR | Mode::RGRP | Mode::ROTH;
            rustix::fs::mknodat(around, name, FileType::RegularFile, mode, 0)
        }
        Item::Link(text) => match rustix::fs::readlinkat(around, name, Vec::new()) {
            Ok(old) if old.as_bytes() == text.as_slice() => Ok(()),
            Ok(_) => rustix::fs::unlinkat(around, name, rustix::fs::AtFlags::empty())
                .and_then(|()| rustix::fs::symlinkat(&text[..], around, name)),
            Err(_) => rustix::fs::symlinkat(&text[..], around, name),
        },
    };
    match create() {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_kept_up_to_date_and_links_in_it_do_not_lead_out() {
        let (tree, outside) = (tempfile::tempdir(), tempfile::tempdir());
        let (tree, outside) = (tree.expect("writable"), outside.expect("writable"));
        let mirror = Mirror::new(beneath::open_root(tree.path()).expect("open"));
        let way = [b"7".to_vec(), b"fd".to_vec()];
        let listing = |names: &[&str]| -> Listing {
            let link = |name: &&str| (name.as_bytes().to_vec(), Item::Link(b"pipe:[1]".to_vec()));
            names.iter().map(link).collect()
        };
        let names = |names: &[&str]| {
            let directory = mirror.directory(&way, &listing(names)).expect("made");
            beneath::read_names(directory).expect("readable")
        };
        assert_eq!(names(&["0", "1"]), [b"0", b"1"]);
        assert_eq!(names(&["1", "2"]), [b"1", b"2"]);
        mirror.link(7, &[b"7".to_vec(), b"exe".to_vec()], b"/bin/sh").expect("made");
        let exe = std::fs::read_link(tree.path().join("self/exe")).expect("a link");
        assert_eq!(exe, Path::new("/bin/sh"));
        std::fs::remove_dir_all(tree.path().join("7/fd")).expect("removed");
        std::os::unix::fs::symlink(outside.path(), tree.path().join("7/fd")).expect("writable");
        mirror.directory(&way, &listing(&["0"])).expect_err("a link is in the way");
        assert_eq!(std::fs::read_dir(outside.path()).expect("readable").count(), 0);
    }
}
