//! What is shown where: the tree at `/`, and the places where something else is shown.
//!
//! A place is named as the step names it, without links: the empty name is `/`. Each place that is
//! covered exists in the tree (or in what covers it), so that listings of the directory around show it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Stat, fstat};

use crate::oci::ImagePath;
use crate::sandbox::emulate::records::{Inode, inode};
use crate::sandbox::quota::Quota;

/// What is shown.
#[derive(Debug)]
pub(super) enum Shown {
    /// A directory with all below it.
    Directory(OwnedFd),
    /// One file.
    File(OwnedFd),
    /// The step's own view of its processes.
    Processes,
}

/// Something that is shown at a place.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) place: Vec<u8>,
    pub(super) shown: Shown,
    pub(super) writable: bool,
    /// How large a temporary file system claims to be; 0 is unlimited.
    pub(super) temporary: Option<u64>,
    /// How much it may hold.
    pub(super) quota: Option<Quota>,
    /// Where it really is.
    host: Vec<u8>,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Mounts {
    /// The tree is the first.
    all: Vec<Mount>,
    top: Inode,
    /// What is covered, as files of the tree.
    covered: HashSet<Inode>,
    /// The directories from which a covered place can be reached downwards.
    around: HashSet<Inode>,
    /// The files and directories that are shown but may not be written to.
    read_only: HashSet<Inode>,
    read_only_directories: bool,
    /// Whether something in the tree is hidden by what covers it.
    hides: bool,
}

/// Where an open file of ours really is.
pub(super) fn host_path(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::readlink(link, Vec::new())?.into_bytes())
}

impl Mounts {
    /// Only the tree.
    pub(super) fn new(tree: OwnedFd) -> io::Result<Self> {
        let host = host_path(tree.as_fd())?;
        let top = inode(&fstat(&tree)?);
        let mount = Mount {
            place: Vec::new(),
            shown: Shown::Directory(tree),
            writable: true,
            temporary: None,
            quota: None,
            host,
        };
        Ok(Self {
            all: vec![mount],
            top,
            read_only_directories: false,
            covered: HashSet::new(),
            around: HashSet::new(),
            read_only: HashSet::new(),
            hides: false,
        })
    }

    /// Shows something at `place`, where `beneath` is now, and which `around` leads to.
    pub(super) fn add(
        &mut self,
        place: Vec<u8>,
        shown: Shown,
        writable: bool,
        beneath: (&Stat, bool),
        around: impl IntoIterator<Item = Inode>,
    ) -> io::Result<()> {
        let host = match &shown {
            Shown::Directory(fd) | Shown::File(fd) => host_path(fd.as_fd())?,
            Shown::Processes => b"/proc".to_vec(),
        };
        if let (false, Shown::Directory(fd) | Shown::File(fd)) = (writable, &shown) {
            self.read_only.insert(inode(&fstat(fd)?));
        }
        self.read_only_directories |= !writable && matches!(shown, Shown::Directory(_));
        self.covered.insert(inode(beneath.0));
        self.hides |= beneath.1;
        self.around.extend(around);
        let (temporary, quota) = (None, None);
        self.all.push(Mount { place, shown, writable, temporary, quota, host });
        Ok(())
    }

    /// Makes what was added last claim to be a temporary file system, which is kept to its size if it
    /// `holds` to that.
    pub(super) fn claim_temporary(&mut self, size: u64, holds: bool) {
        if let Some(mount) = self.all.last_mut() {
            mount.temporary = Some(size);
            mount.quota = (holds && size != 0).then(|| Quota::new(ImagePath::root(), size));
        }
    }

    /// The tree.
    pub(super) fn tree(&self) -> BorrowedFd<'_> {
        match &self.all[0].shown {
            Shown::Directory(fd) => fd.as_fd(),
            Shown::File(_) | Shown::Processes => unreachable!("the first is the tree"),
        }
    }

    pub(super) fn get(&self, index: usize) -> &Mount {
        &self.all[index]
    }

    /// What is shown exactly at a place.
    pub(super) fn at(&self, place: &[u8]) -> Option<usize> {
        // What was added later covers what was there.
        self.all.iter().rposition(|mount| mount.place == place)
    }

    /// What shows a place, and where the place is in it.
    pub(super) fn containing<'a>(&self, place: &'a [u8]) -> (usize, &'a [u8]) {
        let below = |mount: &Mount| rest(place, &mount.place).map(|rest| (mount.place.len(), rest));
        let found =
            self.all.iter().enumerate().filter_map(|(index, mount)| {
                below(mount).map(|(length, rest)| (length, index, rest))
            });
        let (_, index, rest) =
            found.max_by_key(|(length, index, _)| (*length, *index)).unwrap_or((0, 0, place));
        (index, rest)
    }

    /// Whether an absolute path, taken literally, is in the tree itself and covered by nothing.
    pub(super) fn is_in_tree(&self, path: &[u8]) -> bool {
        self.all[1..].iter().all(|mount| rest(path, &mount.place).is_none())
    }

    /// Which mount shows a file that is really at `host`, and at what place.
    pub(super) fn locate(&self, host: &[u8]) -> Option<(usize, Vec<u8>)> {
        let found = self.all.iter().enumerate().filter_map(|(index, mount)| {
            let rest = rest(host, &mount.host)?;
            Some((mount.host.len(), index, [&*mount.place, rest].concat()))
        });
        found.max_by_key(|(length, index, _)| (*length, *index)).map(|(_, index, at)| (index, at))
    }

    /// Whether this is the top of the tree.
    pub(super) fn is_top(&self, stat: &Stat) -> bool {
        self.top == inode(stat)
    }

    /// Whether a file of the tree is covered by something.
    pub(super) fn is_covered(&self, stat: &Stat) -> bool {
        self.covered.contains(&inode(stat))
    }

    /// Whether a covered place is below this directory.
    pub(super) fn is_around(&self, stat: &Stat) -> bool {
        self.around.contains(&inode(stat))
    }

    /// Whether names that lead through links may lead to what is hidden.
    pub(super) fn hides(&self) -> bool {
        self.hides
    }

    /// Whether this is the top of what may not be written to.
    pub(super) fn is_read_only(&self, stat: &Stat) -> bool {
        self.read_only.contains(&inode(stat))
    }

    /// Whether there are directories that may not be written to.
    pub(super) fn has_read_only_directories(&self) -> bool {
        self.read_only_directories
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.all.iter()
    }
}

/// What remains of `path` below `prefix`: nothing, or a slash and more.
pub(super) fn rest<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_by_the_innermost_mount() {
        let directory = tempfile::tempdir().expect("writable");
        let open = |path: &std::path::Path| crate::sys::beneath::open_root(path).expect("open");
        let stat = rustix::fs::stat(directory.path()).expect("it is there");
        let mut mounts = Mounts::new(open(directory.path())).expect("a tree");
        let sub = directory.path().join("cache");
        std::fs::create_dir(&sub).expect("writable");
        mounts.add(b"/proc".to_vec(), Shown::Processes, false, (&stat, false), []).expect("added");
        let cache = Shown::Directory(open(&sub));
        mounts.add(b"/var/cache".to_vec(), cache, true, (&stat, true), []).expect("added");
        assert_eq!(mounts.containing(b"/proc/self"), (1, &b"/self"[..]));
        assert_eq!(mounts.containing(b"/procedure"), (0, &b"/procedure"[..]));
        assert_eq!(mounts.containing(b"/var/cache"), (2, &b""[..]));
        assert!(mounts.is_in_tree(b"/etc/passwd") && !mounts.is_in_tree(b"/var/cache/x"));
        let host = [sub.as_os_str().as_encoded_bytes(), b"/x"].concat();
        assert_eq!(mounts.locate(&host), Some((2, b"/var/cache/x".to_vec())));
        assert_eq!(mounts.locate(b"/somewhere/else"), None);
    }
}
