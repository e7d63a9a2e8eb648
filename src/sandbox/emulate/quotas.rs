//! Calls that make files grow, in a step with a temporary file system that has only so much room: it lies
//! on the disk, and the supervisor keeps it to its size.

use rustix::io::Errno;

use crate::sandbox::emulate::call::{Answered, Call, Reply};
use crate::sandbox::emulate::mounts::Shown;
use crate::sandbox::quota::{PART, PARTS, length_of_parts};

/// Lets a call go on, unless there is no room for it.
pub(super) fn grow(call: &Call<'_>) -> Answered {
    let (descriptor, bytes) = match i64::from(call.asked.call) {
        libc::SYS_write | libc::SYS_pwrite64 => (call.int(0), call.word(2)),
        libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => (call.int(0), parts(call)),
        libc::SYS_ftruncate => (call.int(0), call.word(1)),
        libc::SYS_fallocate | libc::SYS_sendfile => (call.int(0), call.word(3)),
        libc::SYS_copy_file_range | libc::SYS_splice => (call.int(2), call.word(4)),
        _ => return Err(Errno::NOSYS),
    };
    // What is not open, the kernel will refuse.
    let Ok(found) = call.world.descriptor_of(call, descriptor) else { return Ok(Reply::Continue) };
    let mount = call.world.mount_of(&found.fd).map(|mount| call.world.mounts.get(mount));
    if let Some(mount) = mount
        && let (Some(quota), Shown::Directory(top)) = (&mount.quota, &mount.shown)
        && !quota.admits(top, bytes)
    {
        return Err(Errno::NOSPC);
    }
    Ok(Reply::Continue)
}

/// How much a write of several parts is.
fn parts(call: &Call<'_>) -> u64 {
    let count = usize::try_from(call.word(2)).unwrap_or(PARTS).min(PARTS);
    call.bytes(call.word(1), count * PART).map_or(0, |parts| length_of_parts(&parts))
}
