//! What a step finds around the image, made ready before it begins: `/proc`, `/sys`, `/dev`, and what
//! the spec wants shown. All of it is put in the place of what the tree has there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fchown, makedev, mknodat};

use crate::oci::ImagePath;
use crate::sandbox::chroot::calls::{Asked, Topic};
use crate::sandbox::chroot::census::{Census, MOST};
use crate::sandbox::chroot::inside::{self, Inside};
use crate::sandbox::chroot::mirror::Mirror;
use crate::sandbox::chroot::proc::Proc;
use crate::sandbox::chroot::served::sealed;
use crate::sandbox::chroot::swap::{Stand, Swaps};
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{self, Made, MountPoints, Shape};
use crate::sandbox::quota::Quota;
use crate::sandbox::{Bind, MemoryFile, Spec, WholeTree};
use crate::sys::beneath;
use crate::sys::lock::{Locked, lock};

/// The devices that every program expects, with their numbers.
const DEVICES: [(&str, u32, u32); 6] = [
    ("full", 1, 7),
    ("null", 1, 3),
    ("random", 1, 8),
    ("tty", 5, 0),
    ("urandom", 1, 9),
    ("zero", 1, 5),
];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];
/// What programs look for in `/sys`: how many processors there are, and how much memory they may have.
const SYS: [&str; 13] = [
    "devices/system/cpu/online",
    "devices/system/cpu/possible",
    "devices/system/cpu/present",
    "fs/cgroup/cgroup.controllers",
    "fs/cgroup/cpu.max",
    "fs/cgroup/cpu/cpu.cfs_period_us",
    "fs/cgroup/cpu/cpu.cfs_quota_us",
    "fs/cgroup/memory.high",
    "fs/cgroup/memory.max",
    "fs/cgroup/memory/memory.limit_in_bytes",
    "kernel/mm/transparent_hugepage/defrag",
    "kernel/mm/transparent_hugepage/enabled",
    "kernel/mm/transparent_hugepage/hpage_pmd_size",
];

/// A tree in which everything is in its place.
#[derive(Debug)]
pub(super) struct Surroundings {
    tree: PathBuf,
    /// Holds what was made for the step and what was moved aside.
    workshop: PathBuf,
    swaps: Swaps,
    made: Vec<Made>,
    /// Keeps what is only in memory there.
    _locked: Vec<Locked>,
}

impl Surroundings {
    /// Takes everything out of the tree again, when nothing runs in it any more.
    pub(super) fn remove(self) -> io::Result<()> {
        let undone = self.swaps.undo();
        let removed = mountpoint::remove(&self.tree, &self.made);
        let around = beneath::open_root(self.workshop.parent().unwrap_or(&self.workshop))?;
        let name = self.workshop.file_name().unwrap_or_default().as_bytes();
        undone.and(removed).and(beneath::remove_tree(around, name))
    }
}

/// Puts everything in its place. `signals` is whether signals must be judged by the supervisor.
pub(super) fn prepare(
    spec: &Spec,
    tree: &WholeTree,
    signals: bool,
) -> Result<(Surroundings, Inside), Failure> {
    let around = tree.directory.parent().unwrap_or(&tree.directory);
    let workshop = tempfile::Builder::new().prefix("around-").tempdir_in(around);
    let workshop = workshop.to("make a directory beside the root")?.keep();
    let mut preparing = Preparing::begin(&workshop, &tree.directory)?;
    let prepared = preparing.all(spec, signals);
    let Preparing { swaps, points, locked, .. } = preparing;
    let (tree, made) = (tree.directory.clone(), points.into_made());
    let surroundings = Surroundings { tree, workshop, swaps, made, _locked: locked };
    match prepared {
        Ok(inside) => Ok((surroundings, inside)),
        Err(failure) => {
            // The tree is lost to the caller, but what was moved into it is not.
            let _ = surroundings.remove();
            Err(failure)
        }
    }
}

struct Preparing<'a> {
    workshop: &'a Path,
    root: OwnedFd,
    points: MountPoints,
    swaps: Swaps,
    memory: Vec<(ImagePath, OwnedFd)>,
    locked: Vec<Locked>,
    read_only: Vec<ImagePath>,
    temporary: Vec<Quota>,
    /// Where directories were moved that were wanted at one more place.
    moved: Vec<(PathBuf, Vec<u8>)>,
}

/// One thing that the spec wants shown.
enum Wanted<'a> {
    Bind(&'a Bind),
    Temporary(&'a Path, u64),
    Memory(&'a MemoryFile),
}

impl Wanted<'_> {
    fn target(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.target,
            Self::Temporary(target, _) => target,
            Self::Memory(file) => &file.target,
        }
    }
}

impl<'a> Preparing<'a> {
    fn begin(workshop: &'a Path, tree: &Path) -> Result<Self, Failure> {
        let aside = workshop.join("aside");
        fs::create_dir(&aside).to("make a directory beside the root")?;
        let root = beneath::open_root(tree).to("open the root directory")?;
        let copy = root.try_clone().to("copy a descriptor")?;
        Ok(Self {
            workshop,
            root,
            points: MountPoints::new(copy),
            swaps: Swaps::new(&aside).to("open a directory beside the root")?,
            memory: Vec::new(),
            locked: Vec::new(),
            read_only: Vec::new(),
            temporary: Vec::new(),
            moved: Vec::new(),
        })
    }

    fn all(&mut self, spec: &Spec, signals: bool) -> Result<Inside, Failure> {
        if let Some(tree) = spec.trees.first() {
            let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            return Err(Failure { action: format!("stack `{}`", tree.target.display()), source });
        }
        let (proc, path) = self.directory("proc", 0o555).to("make `/proc`")?;
        let proc_directory = beneath::open_root(&path).to("make `/proc`")?;
        self.put(Path::new("/proc"), Shape::Directory, &proc)?;
        let (sys, path) = self.directory("sys", 0o555).to("make `/sys`")?;
        fill_sys(&path).to("make `/sys`")?;
        self.put(Path::new("/sys"), Shape::Directory, &sys)?;
        let (dev, path) = self.directory("dev", 0o755).to("make `/dev`")?;
        let devices = fill_dev(&path).to("make `/dev`")?;
        self.put(Path::new("/dev"), Shape::Directory, &dev)?;
        self.show(spec)?;

        let root = self.root.try_clone().to("copy a descriptor")?;
        let processes = spec.limits.iter().find(|limit| limit.name == "nproc");
        let most = processes.and_then(|limit| limit.soft).unwrap_or(MOST);
        Ok(Inside {
            proc: Proc::new(
                &root,
                &spec.hostname,
                self.temporary.iter().map(|it| (&it.path, it.size)),
            )
            .to("look at `/proc`")?,
            root,
            mirror: Mirror::new(proc_directory),
            devices,
            asked: Asked::about([
                // What is in memory only has an empty file in its place, and nobody may take it for
                // the content. Beside the two files of the network, what is read-only is to be so for
                // everybody.
                (Topic::Relative, !self.memory.is_empty() || self.read_only.len() > 2),
                (Topic::Changes, !self.read_only.is_empty()),
                (Topic::FileSystems, !self.temporary.is_empty()),
                (Topic::Quotas, self.temporary.iter().any(|it| it.size > 0)),
                (Topic::Signals, signals),
            ]),
            memory: std::mem::take(&mut self.memory),
            read_only: std::mem::take(&mut self.read_only),
            temporary: std::mem::take(&mut self.temporary),
            hostname: spec.hostname.clone(),
            census: Census::new(most),
            calls: inside::table(),
        })
    }

    /// Shows what the spec wants, outer before inner, and otherwise in its order.
    fn show(&mut self, spec: &Spec) -> Result<(), Failure> {
        let temporary = spec.tmpfs.iter().map(|(target, size)| Wanted::Temporary(target, *size));
        let mut wanted: Vec<Wanted<'_>> = temporary
            .chain(spec.binds.iter().map(Wanted::Bind))
            .chain(spec.memory_files.iter().map(Wanted::Memory))
            .collect();
        wanted.sort_by_key(|wanted| wanted.target().components().count());
        for (number, wanted) in wanted.iter().enumerate() {
            match wanted {
                Wanted::Bind(bind) => self.bind(bind)?,
                Wanted::Temporary(target, size) => {
                    let (stand, _) = self
                        .directory(&format!("tmpfs-{number}"), 0o1777)
                        .to(format!("make a directory for `{}`", target.display()))?;
                    let path = self.put(target, Shape::Directory, &stand)?;
                    self.temporary.push(Quota::new(path, *size));
                }
                Wanted::Memory(file) => self.memory_file(file)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, bind: &Bind) -> Result<(), Failure> {
        let action = || format!("show the host's `{}`", bind.source.display());
        let known = self.moved.iter().find(|(source, _)| *source == bind.source);
        let known = known.map(|(_, path)| path.clone());
        let (shape, stand) = if let Some(path) = known {
            (Shape::Directory, Stand::Link(path))
        } else {
            let kind = fs::symlink_metadata(&bind.source).to(action())?.file_type();
            let source = bind.source.clone();
            match (kind.is_dir(), bind.movable) {
                _ if kind.is_socket() => (Shape::File, Stand::SocketOf(source)),
                (true, true) => (Shape::Directory, Stand::Moved(source)),
                (false, true) => (Shape::File, Stand::Moved(source)),
                (false, false) => (Shape::File, Stand::CopyOf(source)),
                (true, false) => {
                    let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
                    return Err(Failure { action: action(), source });
                }
            }
        };
        let path = self.put(&bind.target, shape, &stand)?;
        if matches!(stand, Stand::Moved(_)) {
            self.moved.push((bind.source.clone(), path.as_bytes().to_vec()));
        }
        if !bind.writable {
            self.read_only.push(path);
        }
        Ok(())
    }

    fn memory_file(&mut self, file: &MemoryFile) -> Result<(), Failure> {
        let action = || format!("make a file in memory for `{}`", file.target.display());
        let memory = sealed(file.content.reveal(), file.mode & 0o7777).to(action())?;
        let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
        fchown(&memory, Some(uid), Some(gid)).to(action())?;
        // Swapped pages are still better than a file in the store.
        self.locked.extend(lock(&memory, file.content.reveal().len()).ok().flatten());
        let path = self.put(&file.target, Shape::File, &Stand::Empty)?;
        self.memory.push((path, memory));
        Ok(())
    }

    /// Makes a directory to be put somewhere.
    fn directory(&self, name: &str, mode: u32) -> io::Result<(Stand, PathBuf)> {
        let path = self.workshop.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok((Stand::Made(path.clone()), path))
    }

    /// Puts something at a path of the tree; says where that is, without links.
    fn put(&mut self, target: &Path, shape: Shape, stand: &Stand) -> Result<ImagePath, Failure> {
        let action = || format!("put something in the place of `{}`", target.display());
        let place = self.points.place(target, shape).to(action())?;
        let path = ImagePath::new(&place.path);
        self.swaps.put(place, stand).to(action())?;
        Ok(path)
    }
}

/// Copies what there is of `/sys`.
fn fill_sys(to: &Path) -> io::Result<()> {
    for name in SYS {
        let Ok(content) = fs::read(Path::new("/sys").join(name)) else { continue };
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap_or(to))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444))?;
    }
    Ok(())
}

/// Makes devices where that is allowed. Gives those of the host that are to be served instead.
fn fill_dev(to: &Path) -> io::Result<Vec<(&'static str, OwnedFd)>> {
    for (name, target) in LINKS {
        symlink(target, to.join(name))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        let path = to.join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let mut served = Vec::new();
    for (name, major, minor) in DEVICES {
        if make_device(&to.join(name), makedev(major, minor)).is_ok() {
            continue;
        }
        let host = Path::new("/dev").join(name);
        let Ok(device) = rustix::fs::open(host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        // So that it is seen in a listing.
        let mode = Mode::from_raw_mode(0o666);
        let path = to.join(name);
        match mknodat(CWD, &path, FileType::RegularFile, mode, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        rustix::fs::chmod(&path, mode)?;
        served.push((name, device));
    }
    Ok(served)
}

/// Makes a device that works: not every file system lets devices be opened.
fn make_device(path: &Path, device: u64) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, path, FileType::CharacterDevice, mode, device)?;
    let tried = rustix::fs::chmod(path, mode).and_then(|()| {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            // A terminal that this process has not.
            Ok(_) | Err(rustix::io::Errno::NXIO) => Ok(()),
            Err(errno) => Err(errno),
        }
    });
    if let Err(errno) = tried {
        fs::remove_file(path)?;
        return Err(errno.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Hidden, RootFs};

    #[test]
    fn everything_is_in_its_place_and_gone_without_a_trace() {
        let bench = tempfile::tempdir().expect("writable");
        let at = |name: &str| bench.path().join(name);
        for name in ["t/root/etc", "t/root/dev", "store/cache"] {
            fs::create_dir_all(at(name)).expect("writable");
        }
        fs::write(at("t/root/etc/hosts"), "own").expect("writable");
        fs::write(at("t/root/dev/of-image"), "own").expect("writable");
        fs::write(at("hosts"), "given").expect("writable");
        let tree = WholeTree { directory: at("t/root"), records: at("t/records") };
        let mut spec = Spec::new(RootFs::Directory(tree.clone()), vec!["true".to_owned()]);
        let bind = |source: &str, target: &str, writable| Bind {
            source: at(source),
            target: target.into(),
            writable,
            movable: writable,
        };
        spec.binds = vec![
            bind("hosts", "/etc/hosts", false),
            bind("store/cache", "/c", true),
            bind("store/cache", "/also", true),
        ];
        spec.tmpfs = vec![("/c/inner".into(), 0)];
        let (content, mode) = (Hidden::new(b"hidden".to_vec()), 0o400);
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let target = "/run/secrets/s".into();
        spec.memory_files = vec![MemoryFile { target, content, mode, uid, gid }];
        let (surroundings, inside) = prepare(&spec, &tree, false).expect("prepared");
        assert_eq!(fs::read_to_string(at("t/root/etc/hosts")).expect("there"), "given");
        fs::write(at("t/root/also/kept"), "kept").expect_err("an absolute link, inside");
        fs::write(at("t/root/c/kept"), "kept").expect("writable");
        assert_eq!(fs::read(at("t/root/run/secrets/s")).expect("there"), b"", "not on a disk");
        assert!(!at("t/root/dev/of-image").exists() && at("t/root/dev/null").exists());
        assert!(inside.is_read_only(&ImagePath::new("/etc/hosts")));
        assert!(!inside.is_read_only(&ImagePath::new("/etc/hostname")));
        assert!(inside.may_serve(&ImagePath::new("/run/secrets/s")));
        surroundings.remove().expect("removed");
        assert_eq!(fs::read_to_string(at("store/cache/kept")).expect("it is back"), "kept");
        let mut left: Vec<_> = walkdir::WalkDir::new(at("t"))
            .into_iter()
            .map(|entry| entry.expect("readable").path().display().to_string())
            .map(|path| path.replace(&at("").display().to_string(), ""))
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["t", "t/root", "t/root/dev", "t/root/dev/of-image", "t/root/etc", "t/root/etc/hosts"]
        );
    }
}
