//! The working directory, which the supervisor keeps: the kernel's own is never used.

use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::sandbox::emulate::access::{EXECUTE, permits};
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::procfs::NodeKind;
use crate::sandbox::emulate::resolve::{Found, Walked};
use crate::sandbox::emulate::start_point::Base;

/// `chdir`.
pub(in crate::sandbox::emulate) fn chdir(call: &Call<'_>) -> Answered {
    let base = match call.world.find(call, HERE, &call.path(0)?, true)? {
        Walked::Found(found) => enter(call, found)?,
        Walked::Node(node) if node.kind == NodeKind::Directory => Base::Processes(node.path),
        Walked::Node(_) => return Err(Errno::NOTDIR),
        Walked::Missing(..) => return Err(Errno::NOENT),
    };
    call.process.with(|state| state.directory = Arc::new(base));
    Ok(Reply::DONE)
}

/// `fchdir`.
pub(in crate::sandbox::emulate) fn fchdir(call: &Call<'_>) -> Answered {
    let found = call.world.descriptor_of(call, call.int(0))?;
    let base = enter(call, found)?;
    call.process.with(|state| state.directory = Arc::new(base));
    Ok(Reply::DONE)
}

fn enter(call: &Call<'_>, found: Found) -> Result<Base, Errno> {
    if found.kind() != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let owner = call.world.records.owner(&found.stat, || found.path());
    permits(&call.process.credentials(), &owner, EXECUTE)?;
    let base = call.world.base_at(found.fd)?;
    // Somewhere that the step does not know.
    call.world.place_of(&base).map_err(|_| Errno::ACCESS)?;
    Ok(base)
}

/// `getcwd(buffer, size)`: returns the length with the zero byte.
pub(in crate::sandbox::emulate) fn getcwd(call: &Call<'_>) -> Answered {
    let base = call.process.directory();
    if let Base::Files { fd, .. } = &*base
        && rustix::fs::fstat(fd)?.st_nlink == 0
    {
        return Err(Errno::NOENT);
    }
    let mut place = call.world.place_of(&base)?;
    if place.is_empty() {
        place.push(b'/');
    }
    place.push(0);
    let length = place.len() as u64;
    if length > call.word(1) {
        return Err(Errno::RANGE);
    }
    call.write(call.word(0), &place)?;
    Ok(Reply::Value(length.cast_signed()))
}
