//! The system calls that the standard library and rustix lack, each behind a safe function.

pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod seccomp;
