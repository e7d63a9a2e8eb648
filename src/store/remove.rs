//! Removing a directory tree of any depth and with any modes.
//!
//! What is removed here was written by strangers: by layers of base images and by `RUN`. It may
//! hold directories without permissions (overlayfs's own `work` has mode 000) and be deeper than
//! there are file descriptors or stack. So nothing recurses: each directory is first moved to the
//! top of the tree, and then is one among others.
//!
//! No symbolic link is followed.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::store::StoreError;

/// Removes whatever is at `path`. It need not exist.
///
/// # Errors
///
/// Fails at the first thing that cannot be removed, for example because it belongs to somebody
/// else; what has been removed by then stays removed.
pub fn remove_tree(path: &Path) -> Result<(), StoreError> {
    let failed = |error: rustix::io::Errno| StoreError::io("remove", path, error.into());
    match remove(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn remove(path: &Path) -> rustix::io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::unlinkat(cwd, path, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // Linux says EISDIR, POSIX says EPERM.
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = open_directory(cwd, path)?;
    let mut moved = 0_u64;
    let mut waiting = empty(&top, &top, &mut moved)?;
    while let Some(name) = waiting.pop() {
        let directory = open_directory(top.as_fd(), &name)?;
        waiting.extend(empty(&directory, &top, &mut moved)?);
        rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
    }
    rustix::fs::unlinkat(cwd, path, AtFlags::REMOVEDIR)
}

/// Removes every file in `directory`, and moves every directory in it to `top`; gives their names.
fn empty(directory: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> rustix::io::Result<Vec<CString>> {
    let mut waiting = Vec::new();
    for name in names(directory)? {
        if !is_directory(directory, &name)? {
            rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
        } else if std::ptr::eq(directory, top) {
            waiting.push(name);
        } else {
            waiting.push(lift(directory, &name, top, moved)?);
        }
    }
    Ok(waiting)
}

/// Moves the directory `name` from `directory` to a free name in `top`.
fn lift(
    directory: &OwnedFd,
    name: &CStr,
    top: &OwnedFd,
    moved: &mut u64,
) -> rustix::io::Result<CString> {
    loop {
        let free = CString::new(format!(".removed-{moved}")).expect("a number has no NUL");
        *moved += 1;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(directory, name, top, &free, flags) {
            Ok(()) => return Ok(free),
            Err(rustix::io::Errno::EXIST) => {}
            // To move a directory is to write its `..`.
            Err(rustix::io::Errno::ACCESS) if open_up(directory.as_fd(), name).is_ok() => {
                rustix::fs::renameat(directory, name, top, &free)?;
                return Ok(free);
            }
            // Some network file systems have no NOREPLACE. The name is ours; an empty directory
            // in its place would be replaced, which is as well.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                rustix::fs::renameat(directory, name, top, &free)?;
                return Ok(free);
            }
            Err(error) => return Err(error),
        }
    }
}

/// All names are read before anything is removed: a directory that changes while it is read may
/// show a name twice or never.
fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn is_directory(directory: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Opens a directory whose content may be changed, giving its owner the permissions that takes.
fn open_directory(
    parent: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let writable = rustix::fs::accessat(
        parent,
        name,
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        AtFlags::EACCESS,
    );
    if writable == Err(rustix::io::Errno::ACCESS) {
        open_up(parent, name)?;
    }
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn open_up(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(rustix::io::Errno::NOTDIR);
    }
    rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())
}

/// Removes `path` as well as it can be removed, for places that cannot report a failure.
pub(crate) fn remove_quietly(path: &Path) {
    // Whatever stays lies in a temporary directory that the next `Store::open` cleans again.
    let _: Result<(), io::Error> = remove_tree(path).map_err(|_| io::ErrorKind::Other.into());
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn modes_links_and_our_own_names_do_not_stop_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kept = directory.path().join("kept");
        fs::create_dir(&kept).expect("writable");
        fs::write(kept.join("file"), "").expect("writable");
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).expect("writable");
        fs::create_dir_all(tree.join(".removed-0/x")).expect("writable");
        symlink(&kept, tree.join("a/link")).expect("writable");
        for dark in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(tree.join(dark), Permissions::from_mode(0o0)).expect("our own");
        }
        remove_tree(&tree).expect("removable");
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_tree(&tree).expect("it need not exist");
        remove_tree(&kept.join("file")).expect("a file is a tree of one");
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_goes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).expect("writable");
        let mut parent: OwnedFd = fs::File::open(&tree).expect("readable").into();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&parent, "d", Mode::RWXU).expect("writable");
            parent = open_directory(parent.as_fd(), "d").expect("readable");
        }
        remove_tree(&tree).expect("removable");
        assert!(!tree.exists());
    }
}
