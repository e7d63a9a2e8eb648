//! Landlock: a process gives up access to files, and to processes outside, for good.
//!
//! Manual: <https://man7.org/linux/man-pages/man7/landlock.7.html>,
//! <https://docs.kernel.org/userspace-api/landlock.html>
#![expect(unsafe_code, reason = "neither the standard library nor rustix has Landlock")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

/// Executing a file.
pub(crate) const EXECUTE: u64 = 1 << 0;
/// Opening a file for reading.
pub(crate) const READ_FILE: u64 = 1 << 2;

/// The rights that a kernel of the given version can withhold, all that there are in it.
const RIGHTS: [(i32, u64); 4] = [(1, 0x1fff), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)];
/// The version from which signals and abstract sockets can be kept inside.
const SCOPED: i32 = 6;
/// Abstract sockets, signals.
const SCOPES: u64 = 0b11;

const VERSION: libc::c_uint = 1;
const PATH_BENEATH: libc::c_uint = 1;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct RulesetAttributes {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Access that is about to be given up, but for what [`allow`](Self::allow) names.
#[derive(Debug)]
pub(crate) struct Ruleset(OwnedFd);

/// The version of Landlock in this kernel; `None` if it has none or it is switched off.
pub(crate) fn version() -> Option<i32> {
    // SAFETY: with this flag the kernel takes no attributes, and touches no memory.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttributes>(),
            0_usize,
            VERSION,
        )
    };
    i32::try_from(version).ok().filter(|version| *version > 0)
}

/// Whether this kernel's version keeps signals and abstract sockets inside.
pub(crate) fn is_scoped(version: Option<i32>) -> bool {
    version.is_some_and(|version| version >= SCOPED)
}

impl Ruleset {
    /// Gives up all access to files that a kernel of this version can withhold, and signals and
    /// abstract sockets that lead outside.
    pub(crate) fn new(version: i32) -> io::Result<Self> {
        let files =
            RIGHTS.iter().filter(|(since, _)| *since <= version).map(|(_, bits)| bits).sum();
        let scoped = if is_scoped(Some(version)) { SCOPES } else { 0 };
        let attributes = RulesetAttributes { files, network: 0, scoped };
        // Kernels take what they know of the struct, and no more unless it is zero.
        let size = size_of::<RulesetAttributes>();
        // SAFETY: the attributes have the kernel's layout and the given size, and outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                if scoped == 0 { size_of::<u64>() } else { size },
                0,
            )
        };
        let number = i32::try_from(result).ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just returned this descriptor to us, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Keeps `rights` to the file `at`, or to all below it if it is a directory.
    pub(crate) fn allow(&self, at: impl AsFd, rights: u64) -> io::Result<()> {
        let rule = PathBeneath { allowed: rights, parent: at.as_fd().as_raw_fd() };
        // SAFETY: the rule has the kernel's layout and outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// From now on this thread, and what it starts, has only the access that was kept. Needs "no new
    /// privileges".
    pub(crate) fn enforce(self) -> io::Result<()> {
        // SAFETY: the call takes two integers.
        let result =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// From now on this thread, and what it starts, reaches no abstract socket and signals no process but its
/// own. Files stay as they are. Needs "no new privileges", or `CAP_SYS_ADMIN` in the user namespace;
/// does nothing in kernels that cannot (before 6.12).
pub(crate) fn keep_to_oneself() -> io::Result<()> {
    if !is_scoped(version()) {
        return Ok(());
    }
    let attributes = RulesetAttributes { files: 0, network: 0, scoped: SCOPES };
    // SAFETY: the attributes have the kernel's layout and the given size, and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<RulesetAttributes>(),
            0,
        )
    };
    let number = i32::try_from(result).ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just returned this descriptor to us, and nothing else owns it.
    Ruleset(unsafe { OwnedFd::from_raw_fd(number) }).enforce()
}
