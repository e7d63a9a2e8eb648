//! Installing a system call filter on this process.
//!
//! What a filter says is `sandbox::seccomp`'s business. The libraries for this all set
//! "no new privileges" first, which would break `sudo` and `su` in a step; with `CAP_SYS_ADMIN`
//! in the user namespace the kernel does not ask for it.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/seccomp.2.html>
#![expect(unsafe_code, reason = "rustix has no seccomp(2)")]

use std::io;
use std::marker::PhantomData;

/// One instruction of classic BPF: the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u16,
    /// How many instructions to skip if a comparison holds.
    pub(crate) jump_true: u8,
    /// How many to skip if it does not.
    pub(crate) jump_false: u8,
    /// The operand.
    pub(crate) operand: u32,
}

/// The kernel's `struct sock_fprog`.
#[repr(C)]
pub(crate) struct Program<'a> {
    length: u16,
    instructions: *const Instruction,
    filter: PhantomData<&'a [Instruction]>,
}

impl<'a> Program<'a> {
    /// Points to `filter`, for the kernel to copy.
    pub(crate) fn new(filter: &'a [Instruction]) -> io::Result<Self> {
        let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self { length, instructions: filter.as_ptr(), filter: PhantomData })
    }
}

/// Filters every later system call of this thread and of what it starts by `filter`.
///
/// # Errors
///
/// `EACCES` without `CAP_SYS_ADMIN` in the user namespace; `EINVAL` if the kernel has no filters
/// or the program is not well-formed.
pub(crate) fn install(filter: &[Instruction]) -> io::Result<()> {
    let program = Program::new(filter)?;
    // SAFETY: `program` has the kernel's layout and points to the instructions of `filter`, which
    // live until the call returns; the kernel copies and verifies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
