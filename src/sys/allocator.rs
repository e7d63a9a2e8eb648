//! What the C library's allocator does with memory that is given back.
//!
//! Whoever moves layers asks for buffers of some hundred kilobytes again and again. Glibc gives such
//! memory back to the kernel at once, and gets it page by page, each zeroed, the next time: a tenth of
//! the processor time of a pull.
//!
//! Manual: <https://man7.org/linux/man-pages/man3/mallopt.3.html>
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "rustix knows no allocator"))]

/// Each arena keeps up to this many bytes that are not in use.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 4 << 20;

/// Threads share this many arenas.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 8;

/// What is larger is the kernel's business, as before.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 4 << 20;

/// Lets this process keep some of what it gives back. To be called before there are threads.
pub(crate) fn keep_buffers() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_TRIM_THRESHOLD, KEPT),
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_ARENA_MAX, ARENAS),
    ] {
        // SAFETY: the call takes two numbers, and changes nothing but the allocator's settings. That
        // it does not know one of them does no harm.
        unsafe { libc::mallopt(option, value) };
    }
}
