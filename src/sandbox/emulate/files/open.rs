//! `open` and its kin: the supervisor opens the file and hands the descriptor over.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{
    FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fcntl_setfl, fstat,
    ftruncate, futimens, openat,
};
use rustix::io::Errno;

use crate::sandbox::emulate::access::{READ, WRITE, permits};
use crate::sandbox::emulate::call::{Answered, Call, Reply};
use crate::sandbox::emulate::devices;
use crate::sandbox::emulate::files::names::new_owner;
use crate::sandbox::emulate::procfs::{self, Node, NodeKind};
use crate::sandbox::emulate::records::{Owner, mode_on_disk};
use crate::sandbox::emulate::resolve::{Around, Found, Quick, Walked, own_path};
use crate::sandbox::emulate::start_point::Base;

const PERMISSIONS: u32 = 0o7777;
const REGULAR: u32 = 0o100_000;
/// What the supervisor decides by itself.
const DECIDED: OFlags =
    OFlags::CREATE.union(OFlags::EXCL).union(OFlags::TRUNC).union(OFlags::NOFOLLOW);
/// `O_TMPFILE` without `O_DIRECTORY`, which is part of it.
const UNNAMED: u32 = 0o20_000_000;
/// The time of modification is now, and that of access what it was.
const MODIFIED_NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// What a caller wants to open, and how.
struct Wanted {
    flags: OFlags,
    mode: u32,
}

impl Wanted {
    fn has(&self, flags: OFlags) -> bool {
        self.flags.contains(flags)
    }

    fn is_path_only(&self) -> bool {
        self.has(OFlags::PATH)
    }

    fn creates(&self) -> bool {
        self.has(OFlags::CREATE) && !self.is_path_only()
    }

    fn writes(&self) -> bool {
        self.flags.intersects(OFlags::WRONLY | OFlags::RDWR) && !self.is_path_only()
    }

    /// The rights that it takes.
    fn rights(&self) -> u32 {
        match self.flags.bits() & libc::O_ACCMODE.unsigned_abs() {
            _ if self.is_path_only() => 0,
            0 => READ,
            1 => WRITE,
            _ => READ | WRITE,
        }
    }

    /// What our own descriptor is opened with. It must not block, nor become our terminal.
    fn ours(&self) -> OFlags {
        let flags = (self.flags & !DECIDED) | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        // A path cannot be handed over: what can be read can be opened for that.
        flags & !OFlags::PATH
    }
}

/// `open(path, flags, mode)`.
pub(in crate::sandbox::emulate) fn open(call: &Call<'_>) -> Answered {
    open_at(call, libc::AT_FDCWD, &call.path(0)?, call.bits(1), call.bits(2))
}

/// `creat(path, mode)`.
pub(in crate::sandbox::emulate) fn creat(call: &Call<'_>) -> Answered {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
    open_at(call, libc::AT_FDCWD, &call.path(0)?, flags.bits(), call.bits(1))
}

/// `openat(directory, path, flags, mode)`.
pub(in crate::sandbox::emulate) fn openat_(call: &Call<'_>) -> Answered {
    open_at(call, call.int(0), &call.path(1)?, call.bits(2), call.bits(3))
}

/// `openat2(directory, path, how, size)`. Restrictions on the resolution are not known here, and
/// programs that ask for them know kernels without the call.
pub(in crate::sandbox::emulate) fn openat2(call: &Call<'_>) -> Answered {
    if call.word(3) < 24 {
        return Err(Errno::INVAL);
    }
    let [flags, mode, resolve] = call.numbers(call.word(2))?;
    if resolve != 0 {
        return Err(Errno::NOSYS);
    }
    let (Ok(flags), Ok(mode)) = (u32::try_from(flags), u32::try_from(mode)) else {
        return Err(Errno::INVAL);
    };
    open_at(call, call.int(0), &call.path(1)?, flags, mode)
}

fn open_at(call: &Call<'_>, directory: i32, path: &[u8], flags: u32, mode: u32) -> Answered {
    let wanted = Wanted { flags: OFlags::from_bits_retain(flags), mode: mode & PERMISSIONS };
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if flags & UNNAMED != 0 && !wanted.is_path_only() {
        return unnamed(call, directory, path, &wanted);
    }
    let base = call.base(directory, path)?;
    let exclusive = wanted.creates() && wanted.has(OFlags::EXCL);
    if wanted.creates() && !path.ends_with(b"/") && call.may_search_all() {
        // What is to be made is most often not there. If it is, or cannot be made, that is told below.
        let created = call
            .world
            .parent_from(call, base.as_deref(), path)
            .and_then(|(around, name)| create(call, &around, &name, &wanted));
        if created.is_ok() {
            return created;
        }
    }
    if !exclusive && !wanted.is_path_only() {
        let flags = wanted.ours() | (wanted.flags & OFlags::NOFOLLOW);
        match call.world.quick(call, base.as_deref(), path, flags) {
            Quick::Opened(fd, stat) => return finish(call, fd, &stat, &wanted),
            Quick::Failed(Errno::NOENT) if wanted.creates() => {}
            // A pipe that nobody reads, or something that cannot be opened.
            Quick::Failed(Errno::NXIO) | Quick::Unsure => {}
            Quick::Failed(errno) => return Err(errno),
        }
    }
    let nowhere = Base::Processes(Vec::new());
    let follow = !exclusive && !wanted.has(OFlags::NOFOLLOW);
    match call.world.walk(call, base.as_deref().unwrap_or(&nowhere), path, follow)? {
        Walked::Missing(..) if !wanted.creates() => Err(Errno::NOENT),
        Walked::Missing(..) if path.ends_with(b"/") => Err(Errno::ISDIR),
        Walked::Missing(around, name) => create(call, &around, &name, &wanted),
        Walked::Found(_) | Walked::Node(_) if exclusive => Err(Errno::EXIST),
        Walked::Found(found) => open_found(call, found, &wanted),
        Walked::Node(node) => open_node(call, &node, &wanted),
    }
}

/// Makes a file that is not there.
fn create(call: &Call<'_>, around: &Around, name: &[u8], wanted: &Wanted) -> Answered {
    let world = call.world;
    let who = call.process.credentials();
    let directory = world.may_change_names(&who, around)?;
    let mode = REGULAR | wanted.mode & !call.process.with(|state| state.umask);
    let flags = (wanted.flags & !OFlags::TRUNC)
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOCTTY;
    let fd = openat(&around.fd, OsStr::from_bytes(name), flags, mode_on_disk(mode))?;
    let owner = new_owner(&who, &directory, mode, 0);
    world.records.set_new(&fstat(&fd)?, &own_path(fd.as_fd()), &owner)?;
    Ok(give(fd, wanted))
}

/// A file without a name, which may get one later.
fn unnamed(call: &Call<'_>, directory: i32, path: &[u8], wanted: &Wanted) -> Answered {
    let Walked::Found(found) = call.world.find(call, directory, path, true)? else {
        return Err(Errno::OPNOTSUPP);
    };
    let at = found.path();
    let around = Around { stat: found.stat, fd: Arc::new(found.fd) };
    let who = call.process.credentials();
    let directory = call.world.may_change_names(&who, &around)?;
    let mode = REGULAR | wanted.mode & !call.process.with(|state| state.umask);
    let flags = (wanted.flags & !OFlags::NOFOLLOW) | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&*at, flags, mode_on_disk(mode))?;
    let owner = new_owner(&who, &directory, mode, 0);
    call.world.records.set_new(&fstat(&fd)?, &own_path(fd.as_fd()), &owner)?;
    Ok(give(fd, wanted))
}

/// Opens a file that the slow way has found.
fn open_found(call: &Call<'_>, found: Found, wanted: &Wanted) -> Answered {
    let world = call.world;
    let kind = found.kind();
    if wanted.has(OFlags::DIRECTORY) && kind != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let owner = world.records.owner(&found.stat, || found.path());
    let who = call.process.credentials();
    if wanted.is_path_only() {
        let readable = matches!(kind, FileType::Directory | FileType::RegularFile)
            && !owner.is_device()
            && permits(&who, &owner, READ).is_ok();
        if !readable {
            return Ok(give(world.proxies.make(found.fd)?, wanted));
        }
    } else if kind == FileType::Symlink {
        return Err(Errno::LOOP);
    } else if kind == FileType::Directory && (wanted.writes() || wanted.creates()) {
        return Err(Errno::ISDIR);
    }
    permits(&who, &owner, wanted.rights())?;
    if owner.is_device() && !wanted.is_path_only() {
        return devices::open(call, &owner, wanted.flags);
    }
    if kind == FileType::Fifo && !wanted.has(OFlags::NONBLOCK) {
        return open_later(call, found, wanted);
    }
    let fd = rustix::fs::open(&*found.path(), wanted.ours(), Mode::empty())?;
    finish(call, fd, &found.stat, wanted)
}

fn open_node(call: &Call<'_>, node: &Node, wanted: &Wanted) -> Answered {
    if wanted.has(OFlags::DIRECTORY) && node.kind != NodeKind::Directory {
        return Err(Errno::NOTDIR);
    }
    if wanted.is_path_only() && !matches!(node.kind, NodeKind::Directory | NodeKind::File) {
        return Ok(give(
            call.world.proxies.make(procfs::open(
                call.world,
                call,
                node,
                OFlags::PATH | OFlags::NOFOLLOW,
            )?)?,
            wanted,
        ));
    }
    let flags = (wanted.flags & !DECIDED & !OFlags::PATH) | OFlags::CLOEXEC;
    Ok(give(procfs::open(call.world, call, node, flags)?, wanted))
}

/// What remains to be done with an open file before it is handed over.
fn finish(call: &Call<'_>, fd: OwnedFd, stat: &Stat, wanted: &Wanted) -> Answered {
    let world = call.world;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if wanted.writes() || wanted.has(OFlags::TRUNC) {
        world.require_writable(stat, fd.as_fd())?;
    }
    match kind {
        FileType::Fifo if !wanted.has(OFlags::NONBLOCK) && !wanted.is_path_only() => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let path = rustix::fs::open(&*own_path(fd.as_fd()), flags, Mode::empty())?;
            // Held until the other is open, or else a writer could come and go in between.
            let result = open_later(call, Found::new(path)?, wanted);
            drop(fd);
            return result;
        }
        FileType::RegularFile if !wanted.is_path_only() => {
            // A device is an empty file.
            let is_empty = stat.st_size == 0;
            let owner = is_empty.then(|| world.records.owner(stat, || own_path(fd.as_fd())));
            if let Some(owner) = owner.filter(Owner::is_device) {
                return devices::open(call, &owner, wanted.flags);
            }
            if wanted.has(OFlags::TRUNC) && wanted.writes() {
                ftruncate(&fd, 0)?;
                if is_empty {
                    // To be opened so is a change, even of a file that was empty before.
                    futimens(&fd, &MODIFIED_NOW)?;
                }
            }
        }
        _ => {}
    }
    if !wanted.has(OFlags::NONBLOCK) {
        fcntl_setfl(&fd, wanted.flags & !OFlags::NONBLOCK & !OFlags::PATH)?;
    }
    Ok(give(fd, wanted))
}

fn give(fd: OwnedFd, wanted: &Wanted) -> Reply {
    Reply::Descriptor { fd, close_on_exec: wanted.has(OFlags::CLOEXEC) }
}

/// Opens a pipe when somebody opens its other end, which may take as long as it likes.
fn open_later(call: &Call<'_>, found: Found, wanted: &Wanted) -> Answered {
    let flags = (wanted.flags & !DECIDED) | OFlags::CLOEXEC | OFlags::NOCTTY;
    let close_on_exec = wanted.has(OFlags::CLOEXEC);
    call.later(move || {
        let fd = rustix::fs::open(&*found.path(), flags, Mode::empty())?;
        Ok(Reply::Descriptor { fd, close_on_exec })
    })
}
