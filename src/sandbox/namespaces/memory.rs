//! Files that exist only in memory, for secrets.
//!
//! They are in a `ramfs`, which the kernel never swaps to disk; `tmpfs` it may.
//!
//! Manual: <https://docs.kernel.org/filesystems/ramfs-rootfs-initramfs.html>.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;

use crate::sandbox::MemoryFile;
use crate::sandbox::namespaces::filesystem::{INERT, READ_ONLY, attach, clone_of, new};
use crate::sandbox::namespaces::overlay::Scaffold;
use crate::sys::mount::set_attributes;

/// Makes the file, and a read-only mount of it alone.
pub(in crate::sandbox) fn mount(
    file: &MemoryFile,
    scaffold: &Scaffold,
    number: usize,
) -> io::Result<OwnedFd> {
    // A mount can only be made of a file in a file system that is mounted somewhere.
    let at = scaffold.place(&format!("memory-{number}"))?;
    let options = [("mode", "700")];
    // Where there is no `ramfs`, swapped pages are still better than a file in the store.
    let memory = new("ramfs", &options, INERT).or_else(|_| new("tmpfs", &options, INERT))?;
    attach(&memory, &at)?;
    write(file, &memory)?;
    let mount = clone_of(memory.as_fd(), Path::new("file"))?;
    set_attributes(mount.as_fd(), INERT | READ_ONLY)?;
    Ok(mount)
}

fn write(file: &MemoryFile, memory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = openat(memory, "file", flags, Mode::from_raw_mode(0o600))?;
    match fchown(&opened, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid))) {
        // With one id there is nobody else to give it to, and nobody else to keep it from.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    fchmod(&opened, Mode::from_raw_mode(file.mode))?;
    File::from(opened).write_all(file.content.reveal())
}
