//! The system calls that the standard library and rustix lack, each behind a safe function.
//!
//! This is the only module with `unsafe` code. Paths that come from an image are opened beneath a
//! root descriptor ([`beneath`]), never joined as text.

pub(crate) mod allocator;
pub(crate) mod beneath;
pub(crate) mod credentials;
pub(crate) mod landlock;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod notify;
pub(crate) mod process;
#[cfg(target_arch = "x86_64")]
pub(crate) mod ptrace;
pub(crate) mod remote;
pub(crate) mod seccomp;
pub(crate) mod xattr;
