//! `stat` and its kin: what the kernel says of a file, with the owner and mode that the image says.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Stat, fstatfs, major, minor, statat};
use rustix::io::Errno;

use crate::sandbox::emulate::access::permits;
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::credentials::Credentials;
use crate::sandbox::emulate::procfs::{self, Node, NodeKind};
use crate::sandbox::emulate::records::{Owner, inode};
use crate::sandbox::emulate::resolve::{Found, PATH_MAX, Quick, Walked, look_flags, own_path};
use crate::sandbox::emulate::start_point::Base;
use crate::sandbox::emulate::world::World;

/// `TMPFS_MAGIC`.
const TEMPORARY: u64 = 0x0102_1994;
/// `STATX_BASIC_STATS`.
const BASIC: u32 = 0x7ff;
const EFFECTIVE: i32 = libc::AT_EACCESS;

/// `stat`, `lstat`: into the second argument.
pub(in crate::sandbox::emulate) fn stat(call: &Call<'_>, follow: bool) -> Answered {
    let stat = look(call, HERE, &call.peek_path(0)?, flags(follow))?;
    call.still_pending()?;
    call.write(call.word(1), &encode(&stat))?;
    Ok(Reply::DONE)
}

/// `fstat`.
pub(in crate::sandbox::emulate) fn fstat(call: &Call<'_>) -> Answered {
    let stat = look_at_descriptor(call, call.int(0))?;
    call.still_pending()?;
    call.write(call.word(1), &encode(&stat))?;
    Ok(Reply::DONE)
}

/// `newfstatat(directory, path, into, flags)`.
pub(in crate::sandbox::emulate) fn fstatat(call: &Call<'_>) -> Answered {
    let path = optional_path(call, 1, call.bits(3))?;
    let stat = look(call, call.int(0), &path, call.bits(3))?;
    call.still_pending()?;
    call.write(call.word(2), &encode(&stat))?;
    Ok(Reply::DONE)
}

/// `statx(directory, path, flags, mask, into)`.
pub(in crate::sandbox::emulate) fn statx(call: &Call<'_>) -> Answered {
    let path = optional_path(call, 1, call.bits(2))?;
    let stat = look(call, call.int(0), &path, call.bits(2))?;
    call.still_pending()?;
    call.write(call.word(4), &encode_extended(&stat))?;
    Ok(Reply::DONE)
}

/// A path which may be null if the call is about a descriptor.
fn optional_path(call: &Call<'_>, index: usize, flags: u32) -> Result<Vec<u8>, Errno> {
    let about_descriptor = flags & libc::AT_EMPTY_PATH.unsigned_abs() != 0;
    if about_descriptor && call.word(index) == 0 {
        return Ok(Vec::new());
    }
    call.peek_path(index)
}

const fn flags(follow: bool) -> u32 {
    if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW.unsigned_abs() }
}

/// What the image says of what a path and flags name.
fn look(call: &Call<'_>, directory: i32, path: &[u8], flags: u32) -> Result<Stat, Errno> {
    let has = |flag: i32| flags & flag.unsigned_abs() != 0;
    let follow = !has(libc::AT_SYMLINK_NOFOLLOW);
    if path.is_empty() && has(libc::AT_EMPTY_PATH) {
        if directory != HERE {
            return look_at_descriptor(call, directory);
        }
        return match call.world.find(call, HERE, b".", true)? {
            Walked::Found(found) => Ok(told(call, &found.stat, found.fd.as_fd())),
            Walked::Node(node) => procfs::stat(call.world, &node),
            Walked::Missing(..) => Err(Errno::NOENT),
        };
    }
    if let Some(result) = look_at_name(call, directory, path, follow) {
        return result;
    }
    if let Some(result) = look_at_known(call, path, follow) {
        return result;
    }
    match call.world.find(call, directory, path, follow)? {
        Walked::Found(found) => Ok(told(call, &found.stat, found.fd.as_fd())),
        Walked::Node(node) => procfs::stat(call.world, &node),
        Walked::Missing(..) => Err(Errno::NOENT),
    }
}

/// The way to what was looked at a moment ago, or what will be remembered: what the kernel finds in
/// the tree by itself. Through `/proc` the same path leads each process elsewhere.
fn look_at_known(call: &Call<'_>, path: &[u8], follow: bool) -> Option<Result<Stat, Errno>> {
    if !path.starts_with(b"/") || !call.may_search_all() {
        return None;
    }
    let known = &call.world.known;
    let moment = known.now();
    if let Some(end) = known.find(path, follow) {
        let Some(file) = end else { return Some(Err(Errno::NOENT)) };
        let stat = rustix::fs::fstat(&*file);
        return Some(stat.map(|stat| told(call, &stat, file.as_fd())));
    }
    match call.world.quick(call, None, path, look_flags(follow)) {
        Quick::Opened(fd, stat) => {
            let told = told(call, &stat, fd.as_fd());
            known.remember(moment, path, follow, Some(Arc::new(fd)));
            Some(Ok(told))
        }
        Quick::Failed(Errno::NOENT) => {
            known.remember(moment, path, follow, None);
            Some(Err(Errno::NOENT))
        }
        Quick::Failed(errno) => Some(Err(errno)),
        Quick::Unsure => None,
    }
}

/// The short way to one name in a directory, if it is no link and nothing covers it.
fn look_at_name(
    call: &Call<'_>,
    directory: i32,
    path: &[u8],
    follow: bool,
) -> Option<Result<Stat, Errno>> {
    let world = call.world;
    if path.contains(&b'/') || path.is_empty() || path == b".." || !call.may_search_all() {
        return None;
    }
    let name = OsStr::from_bytes(path);
    let (found, within) = if directory == HERE {
        let base = call.process.directory();
        let Base::Files { fd, .. } = &*base else { return None };
        let stat = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let within = own_path(fd.as_fd());
        (stat, within)
    } else {
        let at = [directory.to_string().as_bytes(), b"/", path].concat();
        let stat = world.in_descriptors(call, |fds| {
            statat(fds, OsStr::from_bytes(&at), AtFlags::SYMLINK_NOFOLLOW)
        });
        (stat, format!("/proc/{}/fd/{directory}", call.thread().as_raw_pid()).into_bytes())
    };
    // If not, perhaps the directory is missing, perhaps it stands for another.
    let mut stat = found.ok()?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !world.file_devices.contains(&stat.st_dev)
        || is_link && follow
        || world.scratch.is_listed(&stat)
        || world.mounts.is_covered(&stat)
    {
        return None;
    }
    let owner = world.records.owner(&stat, || [&*within, b"/", path].concat());
    tell(world, &owner, &mut stat);
    Some(Ok(stat))
}

/// Whoever uses this says [`still_pending`](Call::still_pending) before the answer.
fn look_at_descriptor(call: &Call<'_>, number: i32) -> Result<Stat, Errno> {
    let world = call.world;
    if number >= 0 {
        // Through the link in `/proc` the kernel looks at the open file itself.
        let name = number.to_string();
        let stat = world.in_descriptors(call, |fds| statat(fds, &*name, AtFlags::empty()));
        if let Ok(stat) = stat
            && world.file_devices.contains(&stat.st_dev)
            && world.scratch.listing(&stat).is_none()
            && !world.proxies.has(&stat)
        {
            let path = || format!("/proc/{}/fd/{number}", call.thread().as_raw_pid()).into_bytes();
            let mut told = stat;
            tell(world, &world.records.owner(&stat, path), &mut told);
            return Ok(told);
        }
    }
    let found = world.descriptor_of(call, number)?;
    if let Some(path) = world.scratch.listing(&found.stat) {
        let node = Node { path, kind: NodeKind::Directory };
        return procfs::stat(world, &node);
    }
    Ok(told(call, &found.stat, found.fd.as_fd()))
}

/// What the image says of a file that was found.
fn told(call: &Call<'_>, stat: &Stat, fd: BorrowedFd<'_>) -> Stat {
    let mut told = *stat;
    let owner = owner(call.world, &call.process.credentials(), stat, fd);
    tell(call.world, &owner, &mut told);
    told
}

/// Makes a stat of the disk one of the image.
fn tell(world: &World, owner: &Owner, stat: &mut Stat) {
    if owner.is_device()
        && let Some((device, number)) = world.devices.real(inode(stat))
    {
        (stat.st_dev, stat.st_ino) = (device, number);
    }
    owner.apply(stat);
}

/// Whose a file is; one that is in no directory is its maker's, and nobody else has it.
pub(in crate::sandbox::emulate) fn owner_of(
    world: &World,
    who: &Credentials,
    found: &Found,
) -> Owner {
    owner(world, who, &found.stat, found.fd.as_fd())
}

fn owner(world: &World, who: &Credentials, stat: &Stat, fd: BorrowedFd<'_>) -> Owner {
    let mut owner = world.records.owner(stat, || own_path(fd));
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_nameless =
        matches!(kind, FileType::Fifo | FileType::Socket) || stat.st_mode & libc::S_IFMT == 0;
    if is_nameless && !world.file_devices.contains(&stat.st_dev) {
        (owner.uid, owner.gid) = (who.users.files, who.groups.files);
    }
    owner
}

/// `access`, `faccessat`, `faccessat2`.
pub(in crate::sandbox::emulate) fn access(
    call: &Call<'_>,
    directory: i32,
    path: &[u8],
    mode: u32,
    flags: u32,
) -> Answered {
    if mode & !7 != 0 {
        return Err(Errno::INVAL);
    }
    let who = call.process.credentials();
    let who = if flags & EFFECTIVE.unsigned_abs() == 0 { real(&who) } else { (*who).clone() };
    if mode == 0 {
        look(call, directory, path, flags)?;
        return Ok(Reply::DONE);
    }
    let has = |flag: i32| flags & flag.unsigned_abs() != 0;
    let walked = if path.is_empty() && has(libc::AT_EMPTY_PATH) && directory != HERE {
        Walked::Found(call.world.descriptor_of(call, directory)?)
    } else {
        call.world.find(call, directory, path, !has(libc::AT_SYMLINK_NOFOLLOW))?
    };
    let owner = match &walked {
        Walked::Found(found) => {
            if mode & 2 != 0 {
                call.world.require_writable(&found.stat, found.fd.as_fd())?;
            }
            owner_of(call.world, &who, found)
        }
        Walked::Node(node) => {
            let stat = procfs::stat(call.world, node)?;
            let (uid, gid) = (stat.st_uid, stat.st_gid);
            Owner { uid, gid, mode: stat.st_mode, device: 0 }
        }
        Walked::Missing(..) => return Err(Errno::NOENT),
    };
    permits(&who, &owner, mode)?;
    Ok(Reply::DONE)
}

/// Somebody's real identity, as if it were the effective one.
fn real(who: &Credentials) -> Credentials {
    let mut real = who.clone();
    if who.users.files != who.users.real || who.groups.files != who.groups.real {
        real.users.files = real.users.real;
        real.groups.files = real.groups.real;
        let sets = &mut real.capabilities;
        sets.effective = if real.users.real == 0 { sets.permitted } else { 0 };
    }
    real
}

/// `readlink`, `readlinkat`: from the argument `index` on: path, buffer, size.
pub(in crate::sandbox::emulate) fn readlink(
    call: &Call<'_>,
    directory: i32,
    index: usize,
) -> Answered {
    let size = usize::try_from(call.int(index + 2)).map_err(|_| Errno::INVAL)?;
    if size == 0 {
        return Err(Errno::INVAL);
    }
    let path = call.peek_path(index)?;
    let walked = if path.is_empty() && directory != HERE {
        Walked::Found(call.world.descriptor_of(call, directory)?)
    } else {
        call.world.find(call, directory, &path, false)?
    };
    let target = match walked {
        Walked::Found(found) if found.kind() == FileType::Symlink => {
            rustix::fs::readlinkat(&found.fd, "", Vec::with_capacity(PATH_MAX))?.into_bytes()
        }
        Walked::Found(_) => return Err(Errno::INVAL),
        Walked::Node(node) => procfs::read_link(call.world, &node)?,
        Walked::Missing(..) => return Err(Errno::NOENT),
    };
    let told = &target[..target.len().min(size)];
    call.still_pending()?;
    call.write(call.word(index + 1), told)?;
    Ok(Reply::Value(i64::try_from(told.len()).map_err(|_| Errno::INVAL)?))
}

/// `statfs`, and `fstatfs` if it is of a descriptor.
pub(in crate::sandbox::emulate) fn statfs(call: &Call<'_>, of_descriptor: bool) -> Answered {
    let walked = if of_descriptor {
        Walked::Found(call.world.descriptor_of(call, call.int(0))?)
    } else {
        call.world.find(call, HERE, &call.path(0)?, true)?
    };
    let (found, temporary) = match &walked {
        Walked::Found(found) => {
            let mount = call.world.mount_of(&found.fd).map(|mount| call.world.mounts.get(mount));
            (fstatfs(&found.fd)?, mount.and_then(|mount| mount.temporary))
        }
        _ => (fstatfs(&call.world.proc)?, None),
    };
    let block = i64_bits(found.f_bsize);
    let mut words = [
        i64_bits(found.f_type),
        block,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        0,
        i64_bits(found.f_namelen),
        i64_bits(found.f_frsize),
        0,
        0,
        0,
        0,
        0,
    ];
    if let Some(size) = temporary {
        words[0] = TEMPORARY;
        if size != 0 {
            // It lies on the disk, and has no more room than that.
            let blocks = size / block.max(1);
            words[2] = blocks;
            (words[3], words[4]) = (blocks.min(found.f_bfree), blocks.min(found.f_bavail));
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    call.write(call.word(1), &bytes)?;
    Ok(Reply::DONE)
}

fn i64_bits(value: impl Into<i64>) -> u64 {
    value.into().cast_unsigned()
}

/// The kernel's `struct stat` of x86-64.
fn encode(stat: &Stat) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(144);
    let mut words = |words: &[u64]| {
        for word in words {
            bytes.extend(word.to_ne_bytes());
        }
    };
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    words(&[stat.st_dev, stat.st_ino, stat.st_nlink]);
    words(&[pair(stat.st_mode, stat.st_uid), pair(stat.st_gid, 0), stat.st_rdev]);
    words(&[i64_bits(stat.st_size), i64_bits(stat.st_blksize), i64_bits(stat.st_blocks)]);
    words(&[i64_bits(stat.st_atime), stat.st_atime_nsec]);
    words(&[i64_bits(stat.st_mtime), stat.st_mtime_nsec]);
    words(&[i64_bits(stat.st_ctime), stat.st_ctime_nsec, 0, 0, 0]);
    bytes
}

/// The kernel's `struct statx`, with what `stat` knows too.
fn encode_extended(stat: &Stat) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let small = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut halves = |halves: &[u32]| {
        for half in halves {
            bytes.extend(half.to_ne_bytes());
        }
    };
    let links = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
    halves(&[BASIC, small(i64_bits(stat.st_blksize).cast_signed()), 0, 0]);
    // The mode is half of its word.
    halves(&[links, stat.st_uid, stat.st_gid, stat.st_mode & 0xffff]);
    for word in [stat.st_ino, i64_bits(stat.st_size), i64_bits(stat.st_blocks), 0] {
        bytes.extend(word.to_ne_bytes());
    }
    let times = [
        (stat.st_atime, stat.st_atime_nsec),
        (0, 0),
        (stat.st_ctime, stat.st_ctime_nsec),
        (stat.st_mtime, stat.st_mtime_nsec),
    ];
    for (seconds, nanoseconds) in times {
        bytes.extend(seconds.to_ne_bytes());
        // Less than a thousand million.
        bytes.extend(nanoseconds.to_ne_bytes());
    }
    for device in [stat.st_rdev, stat.st_dev] {
        bytes.extend(major(device).to_ne_bytes());
        bytes.extend(minor(device).to_ne_bytes());
    }
    bytes.resize(256, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_the_kernels() {
        let stat = rustix::fs::stat("/bin/sh").expect("Debian has a shell");
        let bytes = encode(&stat);
        assert_eq!(bytes.len(), size_of::<libc::stat>());
        assert_eq!(bytes[24..28], stat.st_mode.to_ne_bytes());
        assert_eq!(bytes[48..56], stat.st_size.to_ne_bytes());
        assert_eq!(bytes[88..96], stat.st_mtime.to_ne_bytes());
        let bytes = encode_extended(&stat);
        assert_eq!(bytes.len(), size_of::<libc::statx>());
        assert_eq!(bytes[32..40], stat.st_ino.to_ne_bytes());
        assert_eq!(bytes[112..120], stat.st_mtime.to_ne_bytes());
        assert_eq!(bytes[136..140], major(stat.st_dev).to_ne_bytes());
    }
}
