//! The program that the sandbox's processes run: a copy of this one that nobody can change.
//!
//! A step can make the kernel run `/proc/self/exe`, by a script that names it as its interpreter,
//! and so get hold of the file that its parent came from. If that were coracle's own file, root in
//! a step could overwrite it (CVE-2019-5736 was that, in runc).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// A copy of this program in memory, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Program(OnceLock<File>);

impl Program {
    /// What to execute. Good in this process and in one that it forks.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        if self.0.get().is_none() {
            // Two threads may both make one; the second is dropped.
            let made = sealed_copy()?;
            let _ = self.0.set(made);
        }
        let copy = self.0.get().expect("it was set a line ago, if not before");
        Ok(PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())))
    }
}

fn sealed_copy() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match memfd_create("coracle", flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 do not know the flag, and need none.
        Err(Errno::INVAL) => memfd_create("coracle", flags),
        other => other,
    }?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}
