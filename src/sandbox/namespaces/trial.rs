//! Whether overlayfs can keep changes in a directory, found out by letting it.
//!
//! It refuses file systems that cannot do what it needs: another overlay, as a container's own root
//! mostly is, and many that come over a network.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use crate::sandbox::namespaces::filesystem::host_directory;
use crate::sandbox::namespaces::overlay::{Overlay, Scaffold};
use crate::sys::beneath;
use crate::sys::namespace::unshare;
use crate::sys::process::fork_with;

/// Whether an overlay can be mounted whose changes go below `directory`, an existing directory of
/// ours. Uses the name `trial` in it.
///
/// Where it cannot be tried, because this process has started threads, it is taken to work.
pub(in crate::sandbox) fn can_stack(directory: &Path, trusted_marks: bool) -> bool {
    let trial = directory.join("trial");
    let made = ["upper", "work", "scaffold"].iter().try_for_each(|name| {
        DirBuilder::new().recursive(true).mode(0o700).create(trial.join(name))
    });
    let works = made.is_ok()
        && fork_with(|| i32::from(try_to_stack(&trial, trusted_marks).is_err())).is_ok_and(
            |child| match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
                Ok(Some((_, status))) => status.exit_status() == Some(0),
                _ => false,
            },
        );
    if let Ok(directory) = beneath::open_root(directory) {
        let _ = beneath::remove_tree(directory, b"trial");
    }
    works
}

/// Runs in a process of its own, which ends with its mounts.
fn try_to_stack(trial: &Path, trusted_marks: bool) -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    fs::write(trial.join("upper/probe"), "")?;
    fs::remove_file(trial.join("upper/probe"))?;
    let (upper, work) =
        (host_directory(&trial.join("upper"))?, host_directory(&trial.join("work"))?);
    let scaffold = Scaffold::new(&host_directory(&trial.join("scaffold"))?)?;
    let lower = [scaffold.place("empty")?];
    let scratch = Some((&upper, &work));
    let mount = Overlay { lower: &lower, scratch, trusted_marks, devices: false };
    let mount = mount.mount(&scaffold, "root")?;
    // Where a file cannot be made, the mount was of no use: it may have become read-only.
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(mount.as_fd(), "probe", FileType::RegularFile, mode, 0)?)
}
