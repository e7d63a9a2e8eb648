//! Files below an open directory: no name leads out of it, and no symbolic link is followed.
//!
//! A path inside an image is never joined to a host path. It is opened with `openat2`, relative to
//! the descriptor of the image's root directory, and the kernel holds the promise.
//!
//! Spec: <https://man7.org/linux/man-pages/man2/openat2.2.html>.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// What directories are opened with.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Opens a directory of the host as a root. Links in `path` are followed: it is ours.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens `path` below `root`. A link anywhere in it is the error `ELOOP`.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            // The kernel could not rule out that a concurrent rename moved the path out.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Opens the directory `path` below `root`.
pub(crate) fn open_directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open(root, path, DIRECTORY)
}

/// The names in an open directory, sorted by bytes, without `.` and `..`.
pub(crate) fn read_names(directory: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    Ok(read_entries(directory)?.into_iter().map(|(name, _)| name).collect())
}

/// The names in an open directory, sorted by bytes, with the types that the file system tells.
pub(crate) fn read_entries(directory: impl AsFd) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(names)
}

/// Removes `name` in `parent`, with everything below it if it is a directory. Absent is fine.
///
/// Neither a directory without permissions nor one nested deeper than any path can say stops it:
/// what lies deep is moved up, so that two open directories are enough.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let parent = parent.as_fd();
    if remove_file(parent, name)? {
        return Ok(());
    }
    let top = open_for_removal(parent, name)?;
    let mut moved = 0;
    loop {
        let names = read_names(&top)?;
        if names.is_empty() {
            break;
        }
        for child in names {
            if !remove_file(&top, &child)? {
                let directory = open_for_removal(&top, &child)?;
                for grandchild in read_names(&directory)? {
                    if !remove_file(&directory, &grandchild)? {
                        remove_or_move_up(&directory, &grandchild, &top, &mut moved)?;
                    }
                }
                rustix::fs::unlinkat(&top, &child[..], AtFlags::REMOVEDIR)?;
            }
        }
        // The next look at the directory starts from its beginning.
        rustix::fs::seek(&top, rustix::fs::SeekFrom::Start(0))?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// A name that nothing has in an open directory, as long as nobody else makes one.
pub(crate) fn free_name(directory: impl AsFd) -> io::Result<Vec<u8>> {
    for number in 0_u64.. {
        let name = format!(".coracle-{number}");
        match rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(name.into_bytes()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Whether `name` is gone now; `false` if it is a directory.
fn remove_file(parent: impl AsFd, name: &[u8]) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn open_for_removal(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    // Overlayfs leaves directories with mode 000, and a command in a build may do so too.
    match rustix::fs::openat(&parent, name, DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => {
            // If this is refused, so is what needs it, and that is reported.
            let _ = rustix::fs::fchmod(&directory, Mode::RWXU);
            Ok(directory)
        }
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            let flags = DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(&parent, name, flags, Mode::empty())?)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn remove_or_move_up(
    directory: impl AsFd,
    name: &[u8],
    top: impl AsFd,
    moved: &mut u64,
) -> io::Result<()> {
    match rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Moving a directory changes its `..`, for which it must be writable.
    drop(open_for_removal(&directory, name)?);
    loop {
        *moved += 1;
        let new = format!("moved-{moved}");
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&directory, name, &top, new.as_str(), flags) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn links_are_never_followed() {
        let directory = tempfile::tempdir().expect("writable");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("d")).expect("writable");
        fs::write(at("d/f"), "x").expect("writable");
        std::os::unix::fs::symlink("d", at("link")).expect("writable");
        std::os::unix::fs::symlink("/etc", at("out")).expect("writable");
        let root = open_root(directory.path()).expect("a directory");
        let check = |path: &str, expected: Option<i32>| {
            let result = open(&root, Path::new(path), OFlags::RDONLY);
            assert_eq!(result.err().and_then(|e| e.raw_os_error()), expected, "{path}");
        };
        check("d/f", None);
        check("link/f", Some(libc::ELOOP));
        check("out/passwd", Some(libc::ELOOP));
        check("../x", Some(libc::EXDEV));
        check("/etc/passwd", Some(libc::EXDEV));
        assert_eq!(read_names(&root).expect("readable"), [&b"d"[..], b"link", b"out"]);
    }

    #[test]
    fn trees_without_permissions_and_of_any_depth_are_removed() {
        let directory = tempfile::tempdir().expect("writable");
        let root = open_root(directory.path()).expect("a directory");
        rustix::fs::mkdirat(&root, "t", Mode::RWXU).expect("writable");
        let mut here = open_directory(&root, Path::new("t")).expect("a directory");
        for _ in 0..600 {
            rustix::fs::mkdirat(&here, "moved-1", Mode::RWXU).expect("writable");
            rustix::fs::mkdirat(&here, "0123456789", Mode::RWXU).expect("writable");
            here = open_directory(&here, Path::new("0123456789")).expect("a directory");
        }
        rustix::fs::mkdirat(&here, "none", Mode::RWXU).expect("writable");
        let none = open_directory(&here, Path::new("none")).expect("a directory");
        rustix::fs::mkdirat(&none, "in", Mode::RWXU).expect("writable");
        rustix::fs::fchmod(&none, Mode::empty()).expect("ours");
        fs::set_permissions(
            directory.path().join("t/0123456789"),
            fs::Permissions::from_mode(0o000),
        )
        .expect("ours");
        remove_tree(&root, b"t").expect("removable");
        remove_tree(&root, b"t").expect("absent is fine");
        assert!(read_names(&root).expect("readable").is_empty());
    }
}
