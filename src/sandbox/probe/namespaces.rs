//! Trials of what the backend `namespaces` is made of, on the way that it would take here.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::sandbox::enter;
use crate::sandbox::namespaces::filesystem::{INERT, host_directory, new};
use crate::sandbox::namespaces::overlay::{Overlay, Scaffold};
use crate::sandbox::probe::technique::{Technique, Verdict};
use crate::sandbox::probe::trial::{Trial, run};
use crate::sys::namespace::unshare;
use crate::sys::process::fork_with;

/// How the mount namespace is come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As this user, who has the privilege.
    Direct,
    /// As root of a user namespace.
    UserNamespace,
}

/// Tries the way in, and then what a step needs there, on the file system of `place`. `all`
/// includes what a step can do without.
pub(super) fn try_way(way: Way, place: &Path, all: bool) -> io::Result<Vec<(Technique, Verdict)>> {
    let entrance = match way {
        Way::Direct => Technique::Privilege,
        Way::UserNamespace => Technique::UserNamespace,
    };
    let come_in = || Verdict::from(come_in(way));
    let mount = || match way {
        // That was the way in.
        Way::Direct => Verdict::Works(None),
        Way::UserNamespace => mount_something().into(),
    };
    let overlay_user = || Verdict::from(stack(place, "user", false));
    let overlay_trusted = || Verdict::from(stack(place, "trusted", true));
    let fresh_proc = || Verdict::from(fresh_proc());
    let network = || Verdict::from(unshare(UnshareFlags::NEWNET));
    let pivot = || Verdict::from(pivot(place));
    let mut trials = vec![
        Trial { technique: entrance, attempt: &come_in },
        Trial { technique: Technique::Mount, attempt: &mount },
        Trial { technique: Technique::OverlayUser, attempt: &overlay_user },
    ];
    // Real root marks in `trusted.*`; nobody else may.
    if all || way == Way::Direct {
        trials.push(Trial { technique: Technique::OverlayTrusted, attempt: &overlay_trusted });
    }
    if all {
        trials.push(Trial { technique: Technique::FreshProc, attempt: &fresh_proc });
        trials.push(Trial { technique: Technique::NetworkNamespace, attempt: &network });
    }
    trials.push(Trial { technique: Technique::PivotRoot, attempt: &pivot });
    run(&trials, 2)
}

/// Tries whether a user namespace can be made at all.
pub(super) fn try_user_namespace() -> io::Result<Vec<(Technique, Verdict)>> {
    let come_in = || Verdict::from(come_in(Way::UserNamespace));
    run(&[Trial { technique: Technique::UserNamespace, attempt: &come_in }], 1)
}

/// Tries to get more ids than one.
pub(super) fn try_ids(uid: u32, name: Option<&str>) -> io::Result<(Technique, Verdict)> {
    let technique = if uid == 0 { Technique::OwnIds } else { Technique::LentIds };
    let attempt = || enter::try_maps(uid, name);
    let found = run(&[Trial { technique, attempt: &attempt }], 1)?;
    let verdict = found.into_iter().map(|(_, verdict)| verdict).next();
    Ok((technique, verdict.unwrap_or_default()))
}

fn come_in(way: Way) -> io::Result<()> {
    if way == Way::Direct {
        return mount_something();
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(UnshareFlags::NEWUSER)?;
    enter::write_single(uid, gid)
}

fn mount_something() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    new("tmpfs", &[], MountAttrFlags::empty()).map(drop)
}

/// Stacks a layer, and does in it what leaves marks: removes a file, and replaces a directory.
fn stack(place: &Path, name: &str, trusted_marks: bool) -> io::Result<()> {
    let directory = |kind: &str| -> io::Result<PathBuf> {
        let path = place.join(format!("{name}-{kind}"));
        fs::create_dir(&path)?;
        Ok(path)
    };
    let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
    fs::create_dir(lower.join("replaced"))?;
    fs::write(lower.join("replaced/old"), "")?;
    let (upper, work) = (host_directory(&upper)?, host_directory(&work)?);
    let lower = [host_directory(&lower)?];
    let scaffold = Scaffold::new(&upper)?;
    let overlay =
        Overlay { lower: &lower, scratch: Some((&upper, &work)), trusted_marks, devices: false };
    let root = overlay.mount(&scaffold, "root")?;
    unlinkat(&root, "replaced/old", AtFlags::empty())?;
    unlinkat(&root, "replaced", AtFlags::REMOVEDIR)?;
    mkdirat(&root, "replaced", Mode::RWXU)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&root, "replaced/new", flags, Mode::RWXU)?;
    match rustix::fs::statat(&root, "replaced/old", AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(io::Error::other("what was removed shows through")),
    }
}

/// Mounts `/proc` in a process of its own process namespace.
fn fresh_proc() -> io::Result<()> {
    let pid = fork_with(|| match new("proc", &[], INERT) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    })?;
    match enter::exit_code(pid)? {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the process that tried it was killed")),
    }
}

/// Leaves the root directory. Nothing can be tried after this.
fn pivot(place: &Path) -> io::Result<()> {
    let over: OwnedFd = host_directory(place)?;
    let scaffold = Scaffold::new(&over)?;
    let mount = new("tmpfs", &[], MountAttrFlags::empty())?;
    let root = scaffold.attach(&mount, "root")?;
    fchdir(&root)?;
    pivot_root(".", ".")?;
    Ok(unmount(".", UnmountFlags::DETACH)?)
}
