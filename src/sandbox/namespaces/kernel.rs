//! `/proc` and `/sys` in a step, with what Docker masks there masked, and what it makes read-only
//! read-only.
//!
//! Spec: <https://github.com/moby/moby/blob/v28.0.0/oci/defaults.go>.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::mount::MountAttrFlags;

use crate::sandbox::Spec;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{MountPoints, Shape};
use crate::sandbox::namespaces::filesystem::{
    INERT, READ_ONLY, attach, clone_of, clone_of_host, find, new,
};
use crate::sys::mount::set_attributes;

const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const MASKED_IN_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];

/// What the step is told on its standard error where `/proc` cannot be a fresh one.
const OLD_PROC: &[u8] = b"coracle: this place masks /proc, so the step sees the one from outside, \
    with the process numbers from outside\n";

/// Mounts `/proc`: that of this process's own process namespace. All of it, if `insecure`.
pub(in crate::sandbox) fn mount_proc(
    points: &mut MountPoints,
    insecure: bool,
) -> Result<(), Failure> {
    let at = points.get(Path::new("/proc"), Shape::Directory).to("make `/proc`")?;
    let proc = match new("proc", &[], INERT) {
        // The kernel allows a new one only if nothing is mounted over the old one, so not in a
        // container that masks files there.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let _ = rustix::io::write(rustix::stdio::stderr(), OLD_PROC);
            clone_of_host(Path::new("/proc"))
        }
        other => other,
    }
    .to("mount `/proc`")?;
    attach(&proc, &at).to("mount `/proc`")?;
    if insecure {
        return Ok(());
    }
    for name in MASKED_IN_PROC {
        mask(proc.as_fd(), name).to(format!("mask `/proc/{name}`"))?;
    }
    for name in READ_ONLY_IN_PROC {
        make_read_only(proc.as_fd(), name).to(format!("make `/proc/{name}` read-only"))?;
    }
    Ok(())
}

/// Mounts `/sys`, read-only unless the spec is insecure.
pub(in crate::sandbox) fn mount_sys(points: &mut MountPoints, spec: &Spec) -> Result<(), Failure> {
    let attributes = if spec.insecure { INERT } else { INERT | READ_ONLY };
    let at = points.get(Path::new("/sys"), Shape::Directory).to("make `/sys`")?;
    // A new one shows the network of this process; the kernel allows it to whoever owns that.
    let fresh = if spec.host_network { None } else { new("sysfs", &[], attributes).ok() };
    let is_fresh = fresh.is_some();
    let sys = match fresh {
        Some(sys) => sys,
        None => old_sys(attributes).to("mount `/sys`")?,
    };
    attach(&sys, &at).to("mount `/sys`")?;
    if is_fresh {
        mount_cgroup(sys.as_fd());
    }
    if spec.insecure {
        return Ok(());
    }
    for name in MASKED_IN_SYS {
        mask(sys.as_fd(), name).to(format!("mask `/sys/{name}`"))?;
    }
    Ok(())
}

fn old_sys(attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let sys = clone_of_host(Path::new("/sys"))?;
    set_attributes(sys.as_fd(), attributes)?;
    Ok(sys)
}

/// Shows the step its own limits, where the host has control groups of version 2. Java looks
/// there; nothing depends on it.
fn mount_cgroup(sys: BorrowedFd<'_>) {
    let path = Path::new("fs/cgroup");
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false)
        && let Ok(cgroup) = new("cgroup2", &[], INERT | READ_ONLY)
        && let Ok(at) = find(sys, path)
    {
        let _ = attach(&cgroup, &at);
    }
}

/// Covers a file with `/dev/null` or a directory with an empty one. What is not there needs none.
fn mask(around: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let Some(at) = find_if_there(around, name)? else { return Ok(()) };
    let cover = match FileType::from_raw_mode(fstat(&at)?.st_mode) {
        FileType::Directory => new("tmpfs", &[("size", "0")], INERT | READ_ONLY)?,
        _ => clone_of_host(Path::new("/dev/null"))?,
    };
    attach(&cover, &at)
}

fn make_read_only(around: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let Some(at) = find_if_there(around, name)? else { return Ok(()) };
    let copy = clone_of(at.as_fd(), Path::new(""))?;
    set_attributes(copy.as_fd(), INERT | READ_ONLY)?;
    attach(&copy, &at)
}

fn find_if_there(around: BorrowedFd<'_>, name: &str) -> io::Result<Option<OwnedFd>> {
    match find(around, Path::new(name)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
