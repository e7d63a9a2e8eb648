//! What is shown beside the tree: `/proc`, `/sys`, `/dev`, and what the spec asks for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags, Stat, fcntl_add_seals, fstat,
    memfd_create, openat, openat2,
};
use rustix::io::Errno;

use crate::sandbox::emulate::devices::{self, Devices};
use crate::sandbox::emulate::mounts::{Mounts, Shown, host_path};
use crate::sandbox::emulate::records::{Inode, Records, inode};
use crate::sandbox::emulate::scratch::Scratch;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{self, Made, MountPoints, Shape};
use crate::sandbox::{Bind, MemoryFile, Spec};
use crate::sys::beneath;

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// What `/dev` claims to have room for.
const DEV_SIZE: u64 = 64 << 20;
const MASKED_IN_SYS: [&str; 2] = ["/sys/devices/virtual/powercap", "/sys/firmware"];

/// A directory, and what was made in it only to be covered.
pub(super) type MadeIn = (PathBuf, Vec<Made>);

/// What has been shown so far, and what had to be made for it.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) mounts: Mounts,
    records: &'a Records,
    scratch: &'a Scratch,
    made: Vec<MadeIn>,
    /// On which devices there are files of the step's.
    pub(super) devices: Vec<u64>,
}

/// A place that is about to be covered.
struct Point {
    place: Vec<u8>,
    stat: Stat,
    has_content: bool,
    around: Vec<Inode>,
}

/// Something to show, and where.
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

impl<'a> Surroundings<'a> {
    /// Only the tree.
    pub(super) fn new(
        tree: OwnedFd,
        records: &'a Records,
        scratch: &'a Scratch,
    ) -> io::Result<Self> {
        let devices = vec![fstat(&tree)?.st_dev];
        Ok(Self { mounts: Mounts::new(tree)?, records, scratch, made: Vec::new(), devices })
    }

    /// Shows `/proc`, `/sys` and `/dev`.
    pub(super) fn add_kernel(&mut self, shm_size: u64) -> Result<Devices, Failure> {
        self.add(Path::new("/proc"), Shown::Processes, true).to("show `/proc`")?;
        if let Ok(sys) = openat(CWD, "/sys", PATH | OFlags::DIRECTORY, Mode::empty()) {
            // Its own modes are its protection.
            self.add(Path::new("/sys"), Shown::Directory(sys), true).to("show `/sys`")?;
            for masked in MASKED_IN_SYS.into_iter().filter(|masked| Path::new(masked).is_dir()) {
                let empty = self.scratch.directory("empty", 0o555).to("make a directory")?;
                let masking = format!("mask `{masked}`");
                self.add(Path::new(masked), Shown::Directory(empty), true).to(masking)?;
            }
        }
        let dev = self.scratch.directory("dev", 0o755).to("make `/dev`")?;
        let devices = devices::fill(&dev, self.records).to("make the devices")?;
        self.add(Path::new("/dev"), Shown::Directory(dev), true).to("show `/dev`")?;
        self.mounts.claim_temporary(DEV_SIZE, false);
        let shared = self.scratch.directory("shm", 0o1777).to("make `/dev/shm`")?;
        self.add(Path::new("/dev/shm"), Shown::Directory(shared), true).to("show `/dev/shm`")?;
        self.mounts.claim_temporary(shm_size, false);
        Ok(devices)
    }

    /// Shows what the spec asks for, outer before inner.
    pub(super) fn add_all(&mut self, spec: &Spec) -> Result<(), Failure> {
        if let Some(tree) = spec.trees.first() {
            // Whoever knows of snapshots makes a copy, and asks for that.
            let action = format!("stack layers on `{}`", tree.target.display());
            return Err(Failure { action, source: Errno::OPNOTSUPP.into() });
        }
        let mut wanted: Vec<Wanted<'_>> = spec
            .tmpfs
            .iter()
            .map(|(target, size)| Wanted::Temporary(target, *size))
            .chain(spec.binds.iter().map(Wanted::Bind))
            .chain(spec.memory_files.iter().map(Wanted::Memory))
            .collect();
        wanted.sort_by_key(|wanted| wanted.target().components().count());
        for wanted in wanted {
            let action = || format!("show something on `{}`", wanted.target().display());
            let (shown, writable) = match wanted {
                Wanted::Bind(bind) => {
                    let source = openat(CWD, &bind.source, PATH, Mode::empty());
                    let source =
                        source.to(format!("show the host's `{}`", bind.source.display()))?;
                    (shown(source).to(action())?, bind.writable)
                }
                Wanted::Temporary(..) => {
                    let made = self.scratch.directory("tmpfs", 0o1777).to(action())?;
                    (Shown::Directory(made), true)
                }
                Wanted::Memory(file) => (self.memory(file).to(action())?, false),
            };
            self.add(wanted.target(), shown, writable).to(action())?;
            if let Wanted::Temporary(_, size) = wanted {
                self.mounts.claim_temporary(size, true);
            }
        }
        Ok(())
    }

    /// A file that is only in memory, and that nobody can change.
    fn memory(&self, file: &MemoryFile) -> io::Result<Shown> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = File::from(memfd_create("secret", flags)?);
        (&memory).write_all(file.content.reveal())?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals)?;
        let stat = fstat(&memory)?;
        rustix::fs::fchmod(&memory, Mode::from_raw_mode(file.mode & 0o777 | 0o600))?;
        self.records.pretend(&stat, file.uid, file.gid, file.mode);
        Ok(Shown::File(memory.into()))
    }

    fn add(&mut self, target: &Path, shown: Shown, writable: bool) -> io::Result<()> {
        let shape = match &shown {
            Shown::Directory(_) | Shown::Processes => Shape::Directory,
            Shown::File(_) => Shape::File,
        };
        if let Shown::Directory(fd) | Shown::File(fd) = &shown {
            let device = fstat(fd)?.st_dev;
            if !self.devices.contains(&device) && target != Path::new("/sys") {
                self.devices.push(device);
            }
        }
        let point = self.point(target, shape)?;
        let beneath = (&point.stat, point.has_content);
        self.mounts.add(point.place, shown, writable, beneath, point.around)
    }

    /// The place `target`; it is made if it is missing.
    fn point(&mut self, target: &Path, shape: Shape) -> io::Result<Point> {
        let target = crate::oci::ImagePath::new(target.as_os_str().as_bytes());
        let target = if target.is_root() { b"" } else { target.as_bytes() };
        let (mount, rest) = self.mounts.containing(target);
        let Shown::Directory(top) = &self.mounts.get(mount).shown else {
            return Err(Errno::NOTDIR.into());
        };
        let mut points = MountPoints::new(top.try_clone()?);
        let fd = points.get(Path::new(OsStr::from_bytes(rest)), shape)?;
        let stat = fstat(&fd)?;
        let made = points.into_made();
        if !made.is_empty() {
            let directory = PathBuf::from(OsStr::from_bytes(&host_path(top.as_fd())?));
            self.made.push((directory, made));
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let has_content = is_directory
            && !beneath::read_names(openat(
                &fd,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)?
            .is_empty();
        let place = match self.mounts.locate(&host_path(fd.as_fd())?) {
            Some((found, place)) if found == mount => place,
            _ => target.to_vec(),
        };
        let inner = &place[self.mounts.get(mount).place.len().min(place.len())..];
        let around = around(top, inner)?;
        Ok(Point { place, stat, has_content, around })
    }

    /// What was made only to be covered.
    pub(super) fn into_parts(self) -> (Mounts, Vec<MadeIn>, Vec<u64>) {
        (self.mounts, self.made, self.devices)
    }
}

/// The directories between `top` and a place in it, with `top`.
fn around(top: &OwnedFd, place: &[u8]) -> io::Result<Vec<Inode>> {
    let mut found = vec![inode(&fstat(top)?)];
    for (at, _) in place.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'/') {
        let part = OsStr::from_bytes(&place[1..at]);
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let directory = openat2(top, part, PATH, Mode::empty(), inside)?;
        found.push(inode(&fstat(&directory)?));
    }
    Ok(found)
}

fn shown(source: OwnedFd) -> io::Result<Shown> {
    let kind = FileType::from_raw_mode(fstat(&source)?.st_mode);
    Ok(if kind == FileType::Directory { Shown::Directory(source) } else { Shown::File(source) })
}

/// Removes again what was made only to be covered.
pub(super) fn tidy(made: &[MadeIn]) -> io::Result<()> {
    made.iter().rev().try_for_each(|(directory, made)| mountpoint::remove(directory, made))
}
