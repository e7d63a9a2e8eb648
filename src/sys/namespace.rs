//! Leaving namespaces for new ones, and bringing up the network of a new one.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/unshare.2.html>
#![expect(unsafe_code, reason = "unshare and the interface ioctls have no safe form")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

pub(crate) use rustix::thread::UnshareFlags;

use crate::sys::process;

/// Moves this process into new namespaces.
///
/// # Errors
///
/// Fails in a process with more than one thread, as only the calling thread would move.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    process::require_one_thread()?;
    // SAFETY: what makes the call unsafe is that descriptors or the working directory come to
    // differ between threads. There is only one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Switches the loopback interface of this network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory of ours.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned `socket` to us, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `ifreq` is plain integers and arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        #[allow(clippy::cast_possible_wrap, reason = "two letters; the type differs by target")]
        let letter = *from as libc::c_char;
        *to = letter;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the two flags fit in 16 bits")]
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the request reads an `ifreq`, which `request` is, and it outlives the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
