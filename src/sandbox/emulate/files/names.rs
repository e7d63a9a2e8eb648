//! Names of files: making, linking, moving and removing them.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, OFlags, RenameFlags, Stat, fstat, linkat, mkdirat, mknodat, openat,
    renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::sandbox::emulate::access::{EXECUTE, READ, WRITE, is_owner, permits};
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::credentials::{Credentials, cap};
use crate::sandbox::emulate::records::{Owner, mode_on_disk};
use crate::sandbox::emulate::resolve::{Around, PATH_MAX, Walked, own_path};
use crate::sandbox::emulate::start_point::Base;
use crate::sandbox::emulate::world::World;

const PERMISSIONS: u32 = 0o7777;
const TYPE: u32 = 0o170_000;
const SETGID: u32 = 0o2000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// Whose a new file is, in a directory.
pub(in crate::sandbox::emulate) fn new_owner(
    who: &Credentials,
    directory: &Owner,
    mode: u32,
    device: u64,
) -> Owner {
    let inherits = directory.mode & SETGID != 0;
    let gid = if inherits { directory.gid } else { who.groups.files };
    let mode = if inherits && mode & TYPE == DIRECTORY { mode | SETGID } else { mode };
    Owner { uid: who.users.files, gid, mode, device }
}

impl World {
    /// The directory around what a path names, and the name in it, perhaps with a slash after it.
    pub(in crate::sandbox::emulate) fn parent(
        &self,
        call: &Call<'_>,
        directory: i32,
        path: &[u8],
    ) -> Result<(Around, Vec<u8>), Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        self.parent_from(call, call.base(directory, path)?.as_deref(), path)
    }

    /// The same, from where the path, which is not empty, begins.
    pub(in crate::sandbox::emulate) fn parent_from(
        &self,
        call: &Call<'_>,
        base: Option<&Base>,
        path: &[u8],
    ) -> Result<(Around, Vec<u8>), Errno> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = match &path[start..end] {
            b"" => b".".to_vec(),
            name if end < path.len() => [name, b"/"].concat(),
            name => name.to_vec(),
        };
        let around = if start == 0 && end > 0 {
            match base.ok_or(Errno::NOENT)? {
                Base::Processes(_) => return Err(Errno::ACCESS),
                Base::Files { fd, .. } => Around { stat: fstat(fd)?, fd: Arc::clone(fd) },
            }
        } else {
            match self.find_from(call, base, &path[..start.max(1)], true)? {
                Walked::Found(found) if found.kind() == FileType::Directory => {
                    Around { stat: found.stat, fd: Arc::new(found.fd) }
                }
                Walked::Found(_) => return Err(Errno::NOTDIR),
                _ => return Err(Errno::ACCESS),
            }
        };
        if !call.may_search_all() {
            let owner = self.records.owner(&around.stat, || own_path(around.fd.as_fd()));
            permits(&call.process.credentials(), &owner, EXECUTE)?;
        }
        Ok((around, name))
    }

    /// Fails if something else is shown where a name would be removed.
    fn require_uncovered(&self, around: &Around, name: &[u8]) -> Result<(), Errno> {
        if !self.mounts.is_around(&around.stat) {
            return Ok(());
        }
        match look(around, name) {
            Ok(stat) if self.mounts.is_covered(&stat) || self.mounts.is_around(&stat) => {
                Err(Errno::BUSY)
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may remove a name, or move it away.
    fn may_unlink(&self, call: &Call<'_>, around: &Around, name: &[u8]) -> Result<(), Errno> {
        let who = call.process.credentials();
        let directory = self.may_change_names(&who, around)?;
        self.require_uncovered(around, name)?;
        if who.can(cap::FOWNER) {
            return Ok(());
        }
        let stat = look(around, name)?;
        let owner = self.records.owner(&stat, || name_path(around, name));
        Self::may_remove(&who, &directory, &owner)
    }
}

fn look(around: &Around, name: &[u8]) -> Result<Stat, Errno> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    statat(&around.fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

/// Fails if a name is there already, which is told before that it may not be made.
fn exists_first(call: &Call<'_>, around: &Around, name: &[u8]) -> Result<(), Errno> {
    // To somebody who may, the kernel says so.
    if !call.may_search_all() && look(around, name).is_ok() { Err(Errno::EXIST) } else { Ok(()) }
}

/// A path for the attributes of a name that is no link.
fn name_path(around: &Around, name: &[u8]) -> Vec<u8> {
    let directory = format!("/proc/self/fd/{}/", around.fd.as_raw_fd());
    [directory.as_bytes(), name.strip_suffix(b"/").unwrap_or(name)].concat()
}

/// Says whose a file is that has just been made.
fn settle(
    call: &Call<'_>,
    around: &Around,
    name: &[u8],
    who: &Credentials,
    directory: &Owner,
    (mode, device): (u32, u64),
) -> Result<(), Errno> {
    let owner = new_owner(who, directory, mode, device);
    let stat = look(around, name)?;
    call.world.records.set_new(&stat, &name_path(around, name), &owner)
}

/// `mkdir` and `mkdirat`.
pub(in crate::sandbox::emulate) fn make_directory(
    call: &Call<'_>,
    from: i32,
    path: &[u8],
    mode: u32,
) -> Answered {
    let (around, name) = call.world.parent(call, from, path)?;
    let who = call.process.credentials();
    exists_first(call, &around, &name)?;
    let directory = call.world.may_change_names(&who, &around)?;
    let mode = DIRECTORY | mode & 0o1777 & !call.process.with(|state| state.umask);
    let real = mode_on_disk(new_owner(&who, &directory, mode, 0).mode);
    mkdirat(&around.fd, OsStr::from_bytes(&name), real)?;
    settle(call, &around, &name, &who, &directory, (mode, 0))?;
    Ok(Reply::DONE)
}

/// `mknod` and `mknodat`.
pub(in crate::sandbox::emulate) fn make_node(
    call: &Call<'_>,
    from: i32,
    path: &[u8],
    mode: u32,
    device: u64,
) -> Answered {
    let (around, name) = call.world.parent(call, from, path)?;
    let who = call.process.credentials();
    let mode = mode & TYPE | mode & PERMISSIONS & !call.process.with(|state| state.umask);
    let mode = if mode & TYPE == 0 { mode | REGULAR } else { mode };
    let kind = FileType::from_raw_mode(mode);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    exists_first(call, &around, &name)?;
    if is_device && !who.can(cap::MKNOD) {
        return Err(Errno::PERM);
    }
    let directory = call.world.may_change_names(&who, &around)?;
    let (at, real) = (OsStr::from_bytes(&name), mode_on_disk(mode));
    match kind {
        FileType::Fifo | FileType::Socket => mknodat(&around.fd, at, kind, real, 0)?,
        FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(openat(&around.fd, at, flags | OFlags::NOFOLLOW, real)?);
        }
        FileType::Directory => return Err(Errno::PERM),
        _ => return Err(Errno::INVAL),
    }
    let device = if is_device { device } else { 0 };
    settle(call, &around, &name, &who, &directory, (mode, device))?;
    Ok(Reply::DONE)
}

/// `symlink` and `symlinkat`.
pub(in crate::sandbox::emulate) fn make_link(
    call: &Call<'_>,
    target: &[u8],
    from: i32,
    path: &[u8],
) -> Answered {
    if target.is_empty() {
        return Err(Errno::NOENT);
    }
    let (around, name) = call.world.parent(call, from, path)?;
    let who = call.process.credentials();
    exists_first(call, &around, &name)?;
    let directory = call.world.may_change_names(&who, &around)?;
    symlinkat(OsStr::from_bytes(target), &around.fd, OsStr::from_bytes(&name))?;
    settle(call, &around, &name, &who, &directory, (LINK, 0))?;
    Ok(Reply::DONE)
}

/// `link` and `linkat`: another name for a file that is there.
pub(in crate::sandbox::emulate) fn add_name(
    call: &Call<'_>,
    (from, path): (i32, &[u8]),
    (to, new): (i32, &[u8]),
    flags: u32,
) -> Answered {
    let has = |flag: i32| flags & flag.unsigned_abs() != 0;
    let found = if path.is_empty() && has(libc::AT_EMPTY_PATH) && from != HERE {
        call.world.descriptor_of(call, from)?
    } else {
        match call.world.find(call, from, path, has(libc::AT_SYMLINK_FOLLOW))? {
            Walked::Found(found) => found,
            _ => return Err(Errno::XDEV),
        }
    };
    let who = call.process.credentials();
    let owner = call.world.records.owner(&found.stat, || found.path());
    if is_owner(&who, &owner).is_err() {
        // As with `fs.protected_hardlinks`.
        let is_plain = found.kind() == FileType::RegularFile && owner.mode & 0o6000 == 0;
        if !is_plain || permits(&who, &owner, READ | WRITE).is_err() {
            return Err(Errno::PERM);
        }
    }
    let (around, name) = call.world.parent(call, to, new)?;
    call.world.may_change_names(&who, &around)?;
    // What is shown from elsewhere may be on the same disk: under another name it could be changed.
    if call.world.mount_of(&found.fd) != call.world.mount_of(&around.fd) {
        return Err(Errno::XDEV);
    }
    let (path, name) = (found.path(), OsStr::from_bytes(&name));
    linkat(CWD, &*path, &around.fd, name, AtFlags::SYMLINK_FOLLOW)?;
    Ok(Reply::DONE)
}

/// `unlink`, `rmdir` and `unlinkat`.
pub(in crate::sandbox::emulate) fn remove(
    call: &Call<'_>,
    from: i32,
    path: &[u8],
    directory: bool,
) -> Answered {
    let (around, name) = call.world.parent(call, from, path)?;
    call.world.may_unlink(call, &around, &name)?;
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unlinkat(&around.fd, OsStr::from_bytes(&name), flags)?;
    Ok(Reply::DONE)
}

/// `rename`, `renameat` and `renameat2`.
pub(in crate::sandbox::emulate) fn rename(
    call: &Call<'_>,
    (from, path): (i32, &[u8]),
    (to, new): (i32, &[u8]),
    flags: u32,
) -> Answered {
    let flags = RenameFlags::from_bits_retain(flags);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    let (old_around, old_name) = call.world.parent(call, from, path)?;
    let (new_around, new_name) = call.world.parent(call, to, new)?;
    call.world.may_unlink(call, &old_around, &old_name)?;
    match call.world.may_unlink(call, &new_around, &new_name) {
        Err(Errno::NOENT) => {}
        other => other?,
    }
    let names = (OsStr::from_bytes(&old_name), OsStr::from_bytes(&new_name));
    renameat_with(&old_around.fd, names.0, &new_around.fd, names.1, flags)?;
    Ok(Reply::DONE)
}

/// The path in memory that the first of two arguments of `symlink` points to.
pub(in crate::sandbox::emulate) fn target(call: &Call<'_>) -> Result<Vec<u8>, Errno> {
    call.string(call.word(0), PATH_MAX)
}
