//! The backend `emulate`: a root file system, root's rights and all ids, without any privilege.
//!
//! The step is an ordinary process of this user under a system call filter. Each call that names a
//! file, a user or another process waits for the supervisor, this process, which answers as the kernel
//! would if the tree were the root file system and the user were who it claims to be. All else runs
//! at full speed.
//!
//! - `calls` says what becomes of every system call, and why; `filter` makes the kernel's program of it.
//! - `start` is the step's first process until it is the command; `supervisor` the story from outside.
//! - `notifications` answers calls: each is a `call`, and finds its function in `files`, `identity`,
//!   `others` or `sockets`.
//! - `trace` follows all processes, and changes what `execve` is told (`exec`).
//! - `resolve` leads from a path to a file: through `mounts` (made by `surroundings`), `procfs` and
//!   `start_point`; `known` remembers where it led; `access` says who may; `records` whose it is; `devices` and `proxies` stand in
//!   for what cannot be had.
//! - `world` is what all of them share; `process` and `credentials` are what is known of the step.
//!
//! The second wall is Landlock: even a call that slipped through the filter could open nothing.

#[cfg(target_arch = "x86_64")]
mod access;
#[cfg(target_arch = "x86_64")]
mod call;
#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod credentials;
#[cfg(target_arch = "x86_64")]
mod devices;
#[cfg(target_arch = "x86_64")]
mod exec;
#[cfg(target_arch = "x86_64")]
mod files;
#[cfg(target_arch = "x86_64")]
mod filter;
#[cfg(target_arch = "x86_64")]
mod identity;
#[cfg(target_arch = "x86_64")]
mod known;
#[cfg(target_arch = "x86_64")]
mod mounts;
#[cfg(target_arch = "x86_64")]
mod notifications;
#[cfg(target_arch = "x86_64")]
mod others;
#[cfg(target_arch = "x86_64")]
mod process;
#[cfg(target_arch = "x86_64")]
mod procfs;
#[cfg(target_arch = "x86_64")]
mod proxies;
#[cfg(target_arch = "x86_64")]
mod quotas;
#[cfg(target_arch = "x86_64")]
mod records;
#[cfg(target_arch = "x86_64")]
mod resolve;
#[cfg(target_arch = "x86_64")]
mod scratch;
#[cfg(target_arch = "x86_64")]
mod sockets;
#[cfg(target_arch = "x86_64")]
mod start;
#[cfg(target_arch = "x86_64")]
mod start_point;
#[cfg(target_arch = "x86_64")]
mod supervisor;
#[cfg(target_arch = "x86_64")]
mod surroundings;
#[cfg(target_arch = "x86_64")]
mod trace;
#[cfg(target_arch = "x86_64")]
mod world;

use std::fs::File;

use crate::sandbox::error::Failure;
use crate::sandbox::protocol::{Order, Outcome};

/// Carries out the order; `orders` closing means that the sandbox is to end.
#[cfg(target_arch = "x86_64")]
pub(super) fn serve(order: &Order, orders: File) -> Result<Outcome, Failure> {
    supervisor::serve(order, orders)
}

/// There are no registers here that this could change.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn serve(_order: &Order, _orders: File) -> Result<Outcome, Failure> {
    let source = std::io::Error::from_raw_os_error(libc::ENOSYS);
    let action = "use the isolation `emulate`, which there is for x86-64 only".to_owned();
    Err(Failure { action, source })
}
