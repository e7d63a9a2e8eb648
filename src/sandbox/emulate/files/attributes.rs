//! Mode, owner, times and length of files.

use std::os::fd::AsFd as _;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, ftruncate,
    utimensat,
};
use rustix::io::Errno;

use crate::sandbox::emulate::access::{WRITE, is_owner, permits};
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::credentials::{SAME, cap};
use crate::sandbox::emulate::files::stat::owner_of;
use crate::sandbox::emulate::records::{Owner, mode_on_disk};
use crate::sandbox::emulate::resolve::{Found, Walked};

const PERMISSIONS: u32 = 0o7777;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The file that a path and flags name, to be changed.
pub(super) fn target(
    call: &Call<'_>,
    directory: i32,
    path: &[u8],
    flags: u32,
) -> Result<Found, Errno> {
    let has = |flag: i32| flags & flag.unsigned_abs() != 0;
    if path.is_empty() && has(libc::AT_EMPTY_PATH) && directory != HERE {
        return descriptor(call, directory);
    }
    let follow = !has(libc::AT_SYMLINK_NOFOLLOW);
    match call.world.find(call, directory, path, follow)? {
        Walked::Found(found) => {
            call.world.require_writable(&found.stat, found.fd.as_fd())?;
            Ok(found)
        }
        _ => Err(Errno::PERM),
    }
}

/// The file that a descriptor of the caller stands for, to be changed.
pub(super) fn descriptor(call: &Call<'_>, number: i32) -> Result<Found, Errno> {
    let found = call.world.descriptor_of(call, number)?;
    call.world.require_writable(&found.stat, found.fd.as_fd())?;
    Ok(found)
}

/// `chmod`, `fchmodat`, `fchmodat2`.
pub(in crate::sandbox::emulate) fn chmod(
    call: &Call<'_>,
    directory: i32,
    path: &[u8],
    mode: u32,
    flags: u32,
) -> Answered {
    change_mode(call, &target(call, directory, path, flags)?, mode)
}

/// `fchmod`.
pub(in crate::sandbox::emulate) fn fchmod(call: &Call<'_>) -> Answered {
    change_mode(call, &descriptor(call, call.int(0))?, call.bits(1))
}

fn change_mode(call: &Call<'_>, found: &Found, mode: u32) -> Answered {
    if found.kind() == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    let who = call.process.credentials();
    let before = owner_of(call.world, &who, found);
    is_owner(&who, &before)?;
    let mut mode = mode & PERMISSIONS;
    if !who.is_in_group(before.gid) && !who.can(cap::FSETID) {
        mode &= !SETGID;
    }
    let after = Owner { mode: before.mode & !PERMISSIONS | mode, ..before };
    set(call, found, &before, &after)
}

/// Changes what is on disk, and what is recorded.
fn set(call: &Call<'_>, found: &Found, before: &Owner, after: &Owner) -> Answered {
    let records = &call.world.records;
    let (path, real) = (found.path(), mode_on_disk(after.mode));
    let is_link = found.kind() == FileType::Symlink;
    let changes_mode = !is_link && Mode::from_raw_mode(found.stat.st_mode) != real;
    if !call.world.file_devices.contains(&found.stat.st_dev) {
        // Something without a name, such as a pipe: it has no owner to record.
        return if changes_mode {
            rustix::fs::chmod(&*path, real).map(|()| Reply::DONE)
        } else {
            Ok(Reply::DONE)
        };
    }
    if changes_mode {
        rustix::fs::chmod(&*path, real)?;
    }
    if before != after {
        records.set(&found.stat, &path, after)?;
        if !matches!(found.kind(), FileType::RegularFile | FileType::Directory) {
            touch(found)?;
        }
    }
    Ok(Reply::DONE)
}

/// Lets the disk say that a file was changed whose record is not on it.
fn touch(found: &Found) -> Result<(), Errno> {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(found.stat.st_atime, found.stat.st_atime_nsec),
        last_modification: time(found.stat.st_mtime, found.stat.st_mtime_nsec),
    };
    utimensat(CWD, &*found.path(), &times, AtFlags::empty())
}

/// `chown`, `lchown`, `fchownat`.
pub(in crate::sandbox::emulate) fn chown(
    call: &Call<'_>,
    directory: i32,
    path: &[u8],
    (uid, gid): (u32, u32),
    flags: u32,
) -> Answered {
    change_owner(call, &target(call, directory, path, flags)?, uid, gid)
}

/// `fchown`.
pub(in crate::sandbox::emulate) fn fchown(call: &Call<'_>) -> Answered {
    let found = descriptor(call, call.int(0))?;
    change_owner(call, &found, call.bits(1), call.bits(2))
}

fn change_owner(call: &Call<'_>, found: &Found, uid: u32, gid: u32) -> Answered {
    let who = call.process.credentials();
    let before = owner_of(call.world, &who, found);
    let may_give = who.can(cap::CHOWN);
    let is_mine = before.uid == who.users.files;
    let keeps_user = uid == SAME || uid == before.uid && is_mine;
    let may_have_group = gid == SAME || is_mine && (gid == before.gid || who.is_in_group(gid));
    let may = may_give || keeps_user && may_have_group;
    if !may {
        return Err(Errno::PERM);
    }
    let mut mode = before.mode;
    if found.kind() == FileType::RegularFile {
        mode &= !SETUID;
        if mode & GROUP_EXECUTE != 0 {
            mode &= !SETGID;
        }
    }
    let new = |id, old| if id == SAME { old } else { id };
    let after = Owner { uid: new(uid, before.uid), gid: new(gid, before.gid), mode, ..before };
    set(call, found, &before, &after)
}

/// `utimensat(directory, path, times, flags)`: without a path it is about the descriptor.
pub(in crate::sandbox::emulate) fn utimens(call: &Call<'_>) -> Answered {
    let found = if call.word(1) == 0 {
        descriptor(call, call.int(0))?
    } else {
        target(call, call.int(0), &call.path(1)?, call.bits(3))?
    };
    let times = match call.word(2) {
        0 => None,
        address => Some(call.numbers::<4>(address)?),
    };
    set_times(call, &found, times)
}

/// `utime(path, times)`: in seconds.
pub(in crate::sandbox::emulate) fn utime(call: &Call<'_>) -> Answered {
    let found = target(call, HERE, &call.path(0)?, 0)?;
    let times = match call.word(1) {
        0 => None,
        address => {
            let [access, modification] = call.numbers(address)?;
            Some([access, 0, modification, 0])
        }
    };
    set_times(call, &found, times)
}

/// `utimes(path, times)` and `futimesat(directory, path, times)`: in microseconds. `index` is the
/// path's.
pub(in crate::sandbox::emulate) fn utimes(
    call: &Call<'_>,
    directory: i32,
    index: usize,
) -> Answered {
    let found = match call.word(index) {
        0 => descriptor(call, directory)?,
        _ => target(call, directory, &call.path(index)?, 0)?,
    };
    let times = match call.word(index + 1) {
        0 => None,
        address => {
            let [access, of_access, modification, of_modification] = call.numbers(address)?;
            if of_access.max(of_modification) >= 1_000_000 {
                return Err(Errno::INVAL);
            }
            Some([access, of_access * 1000, modification, of_modification * 1000])
        }
    };
    set_times(call, &found, times)
}

fn set_times(call: &Call<'_>, found: &Found, times: Option<[u64; 4]>) -> Answered {
    let now = UTIME_NOW.cast_unsigned();
    let [access, of_access, modification, of_modification] = times.unwrap_or([0, now, 0, now]);
    let is_now = |nanoseconds: u64| nanoseconds == now;
    let omitted = UTIME_OMIT.cast_unsigned();
    if [of_access, of_modification] == [omitted, omitted] {
        return Ok(Reply::DONE);
    }
    let who = call.process.credentials();
    let owner = owner_of(call.world, &who, found);
    if is_owner(&who, &owner).is_err() {
        if !(is_now(of_access) && is_now(of_modification)) {
            return Err(Errno::PERM);
        }
        permits(&who, &owner, WRITE)?;
    }
    let time = |seconds: u64, nanoseconds: u64| Timespec {
        tv_sec: seconds.cast_signed(),
        tv_nsec: nanoseconds.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(access, of_access),
        last_modification: time(modification, of_modification),
    };
    utimensat(CWD, &*found.path(), &times, AtFlags::empty())?;
    Ok(Reply::DONE)
}

/// `truncate(path, length)`.
pub(in crate::sandbox::emulate) fn truncate(call: &Call<'_>) -> Answered {
    let found = target(call, HERE, &call.path(0)?, 0)?;
    let who = call.process.credentials();
    let owner = owner_of(call.world, &who, &found);
    permits(&who, &owner, WRITE)?;
    match found.kind() {
        FileType::Directory => return Err(Errno::ISDIR),
        FileType::RegularFile if !owner.is_device() => {}
        _ => return Err(Errno::INVAL),
    }
    let length = u64::try_from(call.word(1).cast_signed()).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&*found.path(), flags, Mode::empty())?;
    ftruncate(&file, length)?;
    Ok(Reply::DONE)
}
