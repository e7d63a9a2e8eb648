//! Extended attributes: those that only a real root may set are held under another name, and ours are
//! hidden.

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use crate::layer::{HELD, is_internal};
use crate::sandbox::emulate::access::{READ, WRITE, is_owner, permits};
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::credentials::cap;
use crate::sandbox::emulate::files::attributes;
use crate::sandbox::emulate::files::stat::owner_of;
use crate::sandbox::emulate::resolve::{Found, Walked};

const NAME_MAX: usize = 256;
const VALUE_MAX: usize = 64 << 10;
const CAPABILITIES: &[u8] = b"security.capability";

/// How a call names its file.
#[derive(Debug, Clone, Copy)]
pub(in crate::sandbox::emulate) enum By {
    Path { follow: bool },
    Descriptor,
}

fn find(call: &Call<'_>, by: By, change: bool) -> Result<Found, Errno> {
    match by {
        By::Descriptor if change => attributes::descriptor(call, call.int(0)),
        By::Descriptor => call.world.descriptor_of(call, call.int(0)),
        By::Path { follow } if change => {
            let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW.unsigned_abs() };
            attributes::target(call, HERE, &call.path(0)?, flags)
        }
        By::Path { follow } => match call.world.find(call, HERE, &call.path(0)?, follow)? {
            Walked::Found(found) => Ok(found),
            _ => Err(Errno::OPNOTSUPP),
        },
    }
}

/// The name of an attribute on disk.
fn name_on_disk(name: &[u8]) -> Result<Vec<u8>, Errno> {
    if name.is_empty() || name.len() >= NAME_MAX {
        return Err(Errno::RANGE);
    }
    if is_internal(name) {
        return Err(Errno::PERM);
    }
    if name == CAPABILITIES {
        return Ok([HELD, name].concat());
    }
    Ok(name.to_vec())
}

/// `setxattr` and its kin.
pub(in crate::sandbox::emulate) fn set(call: &Call<'_>, by: By) -> Answered {
    let found = find(call, by, true)?;
    let name = call.string(call.word(1), NAME_MAX)?;
    let size = usize::try_from(call.word(3)).map_err(|_| Errno::TOOBIG)?;
    if size > VALUE_MAX {
        return Err(Errno::TOOBIG);
    }
    let value = call.bytes(call.word(2), size)?;
    may_change(call, &found, &name)?;
    let flags = XattrFlags::from_bits(call.bits(4)).ok_or(Errno::INVAL)?;
    rustix::fs::setxattr(&*found.path(), &*name_on_disk(&name)?, &value, flags)?;
    Ok(Reply::DONE)
}

/// `removexattr` and its kin.
pub(in crate::sandbox::emulate) fn remove(call: &Call<'_>, by: By) -> Answered {
    let found = find(call, by, true)?;
    let name = call.string(call.word(1), NAME_MAX)?;
    may_change(call, &found, &name)?;
    rustix::fs::removexattr(&*found.path(), &*name_on_disk(&name)?)?;
    Ok(Reply::DONE)
}

fn may_change(call: &Call<'_>, found: &Found, name: &[u8]) -> Result<(), Errno> {
    let who = call.process.credentials();
    let owner = owner_of(call.world, &who, found);
    if name == CAPABILITIES {
        let is_file = found.kind() == FileType::RegularFile && !owner.is_device();
        return if who.can(cap::SETFCAP) && is_file { Ok(()) } else { Err(Errno::PERM) };
    }
    if name.starts_with(b"user.") {
        return permits(&who, &owner, WRITE);
    }
    if name.starts_with(b"system.") {
        // Access control lists: nothing here would heed them.
        return Err(Errno::OPNOTSUPP);
    }
    is_owner(&who, &owner)?;
    Err(Errno::PERM)
}

/// `getxattr` and its kin.
pub(in crate::sandbox::emulate) fn get(call: &Call<'_>, by: By) -> Answered {
    let found = find(call, by, false)?;
    let name = call.string(call.word(1), NAME_MAX)?;
    if name.starts_with(b"system.") {
        return Err(Errno::OPNOTSUPP);
    }
    if is_internal(&name) {
        return Err(Errno::NODATA);
    }
    if name.starts_with(b"user.") {
        let who = call.process.credentials();
        permits(&who, &owner_of(call.world, &who, &found), READ)?;
    }
    let mut value = vec![0; VALUE_MAX];
    let length = rustix::fs::getxattr(&*found.path(), &*name_on_disk(&name)?, &mut value[..])?;
    give(call, &value[..length])
}

/// `listxattr` and its kin.
pub(in crate::sandbox::emulate) fn list(call: &Call<'_>, by: By) -> Answered {
    let found = find(call, by, false)?;
    let mut names = vec![0; VALUE_MAX];
    let length = match rustix::fs::listxattr(&*found.path(), &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut told = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let held = name.strip_prefix(HELD);
        if held.is_none() && is_internal(name) {
            continue;
        }
        told.extend_from_slice(held.unwrap_or(name));
        told.push(0);
    }
    let size = call.word(2);
    let into = call.word(1);
    answer(call, &told, into, size)
}

fn give(call: &Call<'_>, value: &[u8]) -> Answered {
    answer(call, value, call.word(2), call.word(3))
}

/// Writes to a buffer of a given size; of size 0, only tells how much there is.
fn answer(call: &Call<'_>, value: &[u8], into: u64, size: u64) -> Answered {
    let length = value.len() as u64;
    if size != 0 {
        if size < length {
            return Err(Errno::RANGE);
        }
        call.write(into, value)?;
    }
    Ok(Reply::Value(length.cast_signed()))
}
