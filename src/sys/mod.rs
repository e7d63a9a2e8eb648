//! The system calls that the standard library and rustix lack, each behind a safe function.

pub(crate) mod beneath;
pub(crate) mod xattr;
