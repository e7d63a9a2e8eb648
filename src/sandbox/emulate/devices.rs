//! Devices: files with a record, of which a few can be opened, because every container has them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, fstat, major, makedev, minor, openat, symlinkat};
use rustix::io::Errno;

use crate::sandbox::emulate::call::{Answered, Call, Reply};
use crate::sandbox::emulate::credentials::Credentials;
use crate::sandbox::emulate::records::{Inode, Owner, Records, inode, mode_on_disk};
use crate::sandbox::emulate::resolve::own_path;
use crate::sandbox::emulate::scratch::make;

/// Name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
const REAL_PTMX: &str = "/dev/ptmx";
const TTY: (u32, u32) = (5, 0);
const PTMX: (u32, u32) = (5, 2);
/// Of the terminals that `ptmx` makes.
const TERMINALS: u32 = 136;
/// The group `tty`.
const GROUP_OF_TERMINALS: u32 = 5;
const CHARACTER: u32 = 0o020_000;

/// The devices in `/dev`, with the pseudo-terminals that the step has made, which it alone may open.
#[derive(Debug)]
pub(super) struct Devices {
    /// `/dev/pts` as the step sees it.
    terminals: OwnedFd,
    made: Mutex<HashSet<u32>>,
    /// The real device that each file of ours in `/dev` stands for: whoever opens one gets that, and
    /// must find it to be the same file.
    real: Mutex<HashMap<Inode, Inode>>,
}

/// Fills an empty directory with what is in `/dev`.
pub(super) fn fill(dev: &OwnedFd, records: &Records) -> std::io::Result<Devices> {
    let terminals = make(dev, b"pts", 0o755)?;
    let (made, real) = (Mutex::default(), Mutex::default());
    let devices = Devices { terminals, made, real };
    for (name, major, minor) in DEVICES {
        let real = format!("/dev/{name}");
        devices.place(records, (dev, name), (0, 0, 0o666), makedev(major, minor), &real)?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name)?;
    }
    make(dev, b"shm", 0o1777)?;
    make(dev, b"mqueue", 0o1777)?;
    let at = (&devices.terminals, "ptmx");
    devices.place(records, at, (0, 0, 0o666), makedev(PTMX.0, PTMX.1), REAL_PTMX)?;
    Ok(devices)
}

/// Opens the device that a file stands for.
pub(super) fn open(call: &Call<'_>, owner: &Owner, flags: OFlags) -> Answered {
    let number = (major(owner.device), minor(owner.device));
    if owner.kind() != FileType::CharacterDevice {
        return Err(Errno::PERM);
    }
    let devices = &call.world.devices;
    let path = match number {
        // A step has no terminal of its own.
        TTY => return Err(Errno::NXIO),
        PTMX => REAL_PTMX.to_owned(),
        (TERMINALS, minor) if devices.has(minor) => format!("/dev/pts/{minor}"),
        _ => match DEVICES.iter().find(|(_, major, minor)| (*major, *minor) == number) {
            Some((name, ..)) => format!("/dev/{name}"),
            None => return Err(Errno::PERM),
        },
    };
    let close_on_exec = flags.contains(OFlags::CLOEXEC);
    let made = OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::PATH;
    let flags = (flags & !made) | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    if number == PTMX {
        devices.add(&fd, &call.process.credentials(), &call.world.records)?;
    }
    Ok(Reply::Descriptor { fd, close_on_exec })
}

impl Devices {
    fn has(&self, number: u32) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(&number)
    }

    /// The real device that a file of ours stands for.
    pub(super) fn real(&self, file: Inode) -> Option<Inode> {
        self.real.lock().unwrap_or_else(PoisonError::into_inner).get(&file).copied()
    }

    /// Makes a file that stands for a device.
    fn place(
        &self,
        records: &Records,
        (directory, name): (&OwnedFd, &str),
        (uid, gid, mode): (u32, u32, u32),
        device: u64,
        real: &str,
    ) -> Result<(), Errno> {
        let owner = Owner { uid, gid, mode: CHARACTER | mode, device };
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, mode_on_disk(owner.mode))?;
        let stat = fstat(&file)?;
        records.set_new(&stat, &own_path(file.as_fd()), &owner)?;
        // A place may lack some of them.
        if let Ok(found) = rustix::fs::stat(real) {
            let mut known = self.real.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(inode(&stat), inode(&found));
        }
        Ok(())
    }

    /// Shows the other end of a new terminal.
    fn add(&self, fd: &OwnedFd, who: &Credentials, records: &Records) -> Result<(), Errno> {
        let name = rustix::pty::ptsname(fd, Vec::new())?;
        let name = OsStr::from_bytes(name.as_bytes()).to_string_lossy().into_owned();
        let number = name.strip_prefix("/dev/pts/").ok_or(Errno::NOTTY)?;
        let minor: u32 = number.parse().map_err(|_| Errno::NOTTY)?;
        let owner = (who.users.files, GROUP_OF_TERMINALS, 0o620);
        let at = (&self.terminals, number);
        self.place(records, at, owner, makedev(TERMINALS, minor), &name)?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(minor);
        Ok(())
    }
}
