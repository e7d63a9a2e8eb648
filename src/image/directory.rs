//! The files of an image, all layers merged, in a directory (`-o type=local`).
//!
//! Nothing is ever written outside the directory: every file is named relative to a descriptor of
//! its parent, which is reached from the root one name at a time and through no symbolic link.
//! What is in the directory already stays, and is replaced where the image has a file of that
//! name; a directory is never replaced by anything else.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::image::ImageError;
use crate::image::rootfs::{Links, walk};
use crate::layer::{Kind, Node, Tree};
use crate::oci::{ImagePath, Timestamp};
use crate::store::publish;

/// To whom the files will belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// To those who own them in the image. Takes root, in no user namespace.
    Kept,
    /// To the user who runs this. Then the bits setuid and setgid are left out, which would make
    /// the program act for another user than the image meant; and so are devices.
    CallingUser,
}

/// A part of the image that is not in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// What.
    pub path: ImagePath,
    /// Why, such as `only root can make a device`.
    pub reason: &'static str,
}

/// Writes all files of `tree` into the directory `destination`, which is made if it is missing,
/// parents and all.
/// No time is later than `clamp`. Tells what could not be written for lack of privileges.
///
/// # Errors
///
/// [`ImageError::InTheWay`], or the operating system's refusal of a file. What was written by then
/// stays.
pub fn write_rootfs_dir(
    tree: &dyn Tree,
    clamp: Option<Timestamp>,
    ownership: Ownership,
    destination: &Path,
) -> Result<Vec<Skipped>, ImageError> {
    publish::create_dirs(destination, 0o755)?;
    let failed = |source| ImageError::file(&ImagePath::root(), destination, source);
    let root: OwnedFd = File::open(destination).map_err(failed)?.into();
    let mut output = Output {
        destination: destination.to_owned(),
        root,
        ownership,
        clamp,
        parent: None,
        links: Links::default(),
        directories: Vec::new(),
        skipped: Vec::new(),
    };
    walk(tree, &mut |path, node| output.write(tree, path, node))?;
    output.finish()
}

struct Output {
    destination: PathBuf,
    root: OwnedFd,
    ownership: Ownership,
    clamp: Option<Timestamp>,
    /// The directory written to last: most files are in the same one as the one before.
    parent: Option<(ImagePath, OwnedFd)>,
    links: Links,
    /// Directories get mode and time when all that is in them is written.
    directories: Vec<(ImagePath, Node)>,
    skipped: Vec<Skipped>,
}

impl Output {
    fn write(&mut self, tree: &dyn Tree, path: &ImagePath, node: Node) -> Result<(), ImageError> {
        let failed = |destination: &Path, error: rustix::io::Errno| {
            ImageError::file(path, destination, error.into())
        };
        let is_device = matches!(node.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
        if is_device && self.ownership == Ownership::CallingUser {
            let reason = "only root can make a device";
            self.skipped.push(Skipped { path: path.clone(), reason });
            return Ok(());
        }
        let (parent, name) = (path.parent().expect("not the root"), path.name().expect("nor so"));
        self.enter(&parent).map_err(|error| failed(&self.destination, error))?;
        let exists = self.make_room(name, &node).map_err(|error| match error {
            rustix::io::Errno::ISDIR => {
                let destination = self.destination.clone();
                ImageError::InTheWay { path: path.clone(), destination }
            }
            error => failed(&self.destination, error),
        })?;
        if node.kind == Kind::Directory {
            if !exists {
                rustix::fs::mkdirat(self.here(), name, Mode::RWXU)
                    .map_err(|error| failed(&self.destination, error))?;
            }
            self.directories.push((path.clone(), node));
            return Ok(());
        }
        if let Some(first) = self.links.first(path, &node) {
            return self.link(&first, name).map_err(|error| failed(&self.destination, error));
        }
        if let Kind::File { .. } = node.kind {
            let mut content = tree.open(path)?;
            return self
                .file(path, name, &node, &mut content)
                .map_err(|source| ImageError::file(path, &self.destination, source));
        }
        self.special(name, &node).map_err(|error| failed(&self.destination, error))
    }

    /// Opens the directory `path`, unless that is where we are.
    fn enter(&mut self, path: &ImagePath) -> rustix::io::Result<()> {
        if self.parent.as_ref().is_none_or(|(here, _)| here != path) {
            self.parent = Some((path.clone(), self.open(path)?));
        }
        Ok(())
    }

    fn here(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.root, |(_, directory)| directory)
    }

    fn open(&self, path: &ImagePath) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut directory = rustix::fs::openat(&self.root, c".", flags, Mode::empty())?;
        for name in path.components() {
            directory = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
        }
        Ok(directory)
    }

    /// Removes what `name` is, unless it is a directory and shall be one; says whether it is one.
    /// A directory where something else shall be gives `EISDIR`.
    fn make_room(&self, name: &[u8], node: &Node) -> rustix::io::Result<bool> {
        let stat = match rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(self.here(), name, AtFlags::empty())?;
            return Ok(false);
        }
        if node.kind != Kind::Directory {
            return Err(rustix::io::Errno::ISDIR);
        }
        // Whatever an earlier output left: we must be able to write into it.
        rustix::fs::chmodat(self.here(), name, Mode::RWXU, AtFlags::empty())?;
        Ok(true)
    }

    fn link(&self, first: &ImagePath, name: &[u8]) -> rustix::io::Result<()> {
        let parent = self.open(&first.parent().expect("not the root"))?;
        let first = first.name().expect("not the root");
        rustix::fs::linkat(&parent, first, self.here(), name, AtFlags::empty())
    }

    fn file(
        &mut self,
        path: &ImagePath,
        name: &[u8],
        node: &Node,
        content: &mut dyn io::Read,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(self.here(), name, flags, Mode::RUSR)?);
        io::copy(content, &mut file)?;
        if self.ownership == Ownership::Kept {
            rustix::fs::fchown(&file, Some(owner(node)), Some(group(node)))?;
        }
        // After the owner: to change that takes setuid away. Attributes need a writable file.
        self.set_xattrs(path, &file.as_fd(), &node.xattrs)?;
        rustix::fs::fchmod(&file, self.mode(node))?;
        rustix::fs::futimens(&file, &self.times(node))?;
        Ok(())
    }

    /// Everything that is neither a file nor a directory.
    fn special(&self, name: &[u8], node: &Node) -> rustix::io::Result<()> {
        let make = |kind: FileType, device| {
            rustix::fs::mknodat(self.here(), name, kind, self.mode(node), device)?;
            // `mknod` applies the umask.
            rustix::fs::chmodat(self.here(), name, self.mode(node), AtFlags::empty())
        };
        match &node.kind {
            Kind::Symlink { target } => {
                let target = std::ffi::OsStr::from_bytes(target);
                rustix::fs::symlinkat(target, self.here(), name)?;
            }
            Kind::CharDevice { major, minor } => {
                make(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?;
            }
            Kind::BlockDevice { major, minor } => {
                make(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?;
            }
            Kind::Fifo => make(FileType::Fifo, 0)?,
            Kind::Socket => make(FileType::Socket, 0)?,
            // A tree has no whiteouts and says by `inode` which files are links of each other.
            Kind::File { .. }
            | Kind::Directory
            | Kind::Hardlink { .. }
            | Kind::Whiteout
            | Kind::OpaqueWhiteout => {}
        }
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.ownership == Ownership::Kept {
            let (owner, group) = (Some(owner(node)), Some(group(node)));
            rustix::fs::chownat(self.here(), name, owner, group, nofollow)?;
        }
        rustix::fs::utimensat(self.here(), name, &self.times(node), nofollow)
    }

    fn set_xattrs(
        &mut self,
        path: &ImagePath,
        file: &impl std::os::fd::AsFd,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> rustix::io::Result<()> {
        for (name, value) in xattrs {
            let set = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            match set {
                Ok(()) => {}
                Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) => {
                    let reason = "the file system or the user cannot have its extended attributes";
                    self.skipped.push(Skipped { path: path.clone(), reason });
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the directories their modes and times, the innermost first: what is set on one would
    /// be undone by work in it, or make such work impossible.
    fn finish(mut self) -> Result<Vec<Skipped>, ImageError> {
        for (path, node) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.finish_directory(&path, &node)
                .map_err(|error| ImageError::file(&path, &self.destination, error.into()))?;
        }
        Ok(self.skipped)
    }

    fn finish_directory(&mut self, path: &ImagePath, node: &Node) -> rustix::io::Result<()> {
        let directory = self.open(path)?;
        if self.ownership == Ownership::Kept {
            rustix::fs::fchown(&directory, Some(owner(node)), Some(group(node)))?;
        }
        self.set_xattrs(path, &directory, &node.xattrs)?;
        rustix::fs::fchmod(&directory, self.mode(node))?;
        rustix::fs::futimens(&directory, &self.times(node))
    }

    fn mode(&self, node: &Node) -> Mode {
        let kept = match self.ownership {
            Ownership::Kept => 0o7777,
            Ownership::CallingUser => 0o1777,
        };
        Mode::from_raw_mode(node.mode & kept)
    }

    fn times(&self, node: &Node) -> Timestamps {
        let time = node.mtime.clamped(self.clamp);
        let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

fn owner(node: &Node) -> Uid {
    Uid::from_raw(node.uid)
}

fn group(node: &Node) -> Gid {
    Gid::from_raw(node.gid)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    };

    use super::*;
    use crate::image::fixture::MemoryTree;
    use crate::store::remove_tree;

    fn tree() -> MemoryTree {
        MemoryTree::default()
            .with("/", Kind::Directory, 0o755)
            .with("/dir", Kind::Directory, 0o555)
            .file("/dir/tool", "text", 0o4755)
            .link("/dir/x", "same", 1)
            .link("/y", "same", 1)
            .with("/link", Kind::Symlink { target: b"/etc/passwd".to_vec() }, 0o777)
            .with("/pipe", Kind::Fifo, 0o600)
            .with("/null", Kind::CharDevice { major: 1, minor: 3 }, 0o666)
    }

    fn write(
        tree: &MemoryTree,
        ownership: Ownership,
        to: &Path,
    ) -> Result<Vec<Skipped>, ImageError> {
        write_rootfs_dir(tree, None, ownership, to)
    }

    #[test]
    fn files_links_modes_and_times_arrive_and_devices_are_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = directory.path().join("out");
        let skipped = write(&tree(), Ownership::CallingUser, &output).expect("written");
        let reason = "only root can make a device";
        assert_eq!(skipped, [Skipped { path: ImagePath::new("/null"), reason }]);

        let stat = |name: &str| fs::symlink_metadata(output.join(name)).expect(name);
        let (dir, tool) = (stat("dir"), stat("dir/tool"));
        assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o555, 1000));
        assert_eq!((tool.mode() & 0o7777, tool.mtime(), tool.mtime_nsec()), (0o755, 1000, 5));
        assert_eq!(tool.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(stat("dir/x").ino(), stat("y").ino());
        assert!(stat("pipe").file_type().is_fifo());
        let target = fs::read_link(output.join("link")).expect("a link");
        assert_eq!(target, Path::new("/etc/passwd"));

        write(&tree(), Ownership::CallingUser, &output).expect("written once more");
        assert_eq!(fs::read(output.join("dir/tool")).expect("readable"), b"text");
        // Which takes more than a temporary directory does: `dir` cannot be written to.
        remove_tree(&output).expect("removable");
    }

    #[test]
    fn root_can_keep_owners_setuid_and_devices() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let tree = tree();
        match write(&tree, Ownership::Kept, directory.path()) {
            Ok(skipped) => assert_eq!(skipped, []),
            // Root in a container may lack the right to make devices.
            Err(ImageError::File { path, .. }) if path == ImagePath::new("/null") => return,
            Err(error) => panic!("{error}"),
        }
        let tool = fs::metadata(directory.path().join("dir/tool")).expect("there");
        assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o7777), (7, 8, 0o4755));
    }

    #[test]
    fn nothing_is_written_through_a_link_that_was_there() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (outside, output) = (directory.path().join("outside"), directory.path().join("out"));
        fs::create_dir(&outside).expect("writable");
        fs::create_dir(&output).expect("writable");
        symlink(&outside, output.join("dir")).expect("writable");
        fs::write(outside.join("victim"), "").expect("writable");
        symlink(outside.join("victim"), output.join("y")).expect("writable");
        write(&tree(), Ownership::CallingUser, &output).expect("written");
        assert_eq!(fs::read_dir(&outside).expect("readable").count(), 1);
        assert_eq!(fs::read(outside.join("victim")).expect("readable"), b"");
        assert!(output.join("dir/tool").exists());
        remove_tree(&output).expect("removable");
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("y/precious")).expect("writable");
        let error = write(&tree(), Ownership::CallingUser, directory.path()).expect_err("no");
        assert!(matches!(error, ImageError::InTheWay { .. }), "{error}");
        assert!(directory.path().join("y/precious").exists());
    }
}
