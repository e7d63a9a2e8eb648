//! Changing the attributes of a mount and all mounts below it.
//!
//! The rest of the mount API is in `rustix::mount`; `mount_setattr` it lacks.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>
#![expect(unsafe_code, reason = "rustix has no mount_setattr")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::mount::MountAttrFlags;

/// `struct mount_attr` of the kernel, first version.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets `attributes` on the mount that `mount` is the root of, and on every mount below it.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> io::Result<()> {
    let change = Attributes {
        set: u64::from(attributes.bits()),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the path is a string that ends in a zero byte, `change` has the layout that the
    // kernel documents and its size is passed along; both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const change,
            size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
