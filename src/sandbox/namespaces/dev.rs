//! `/dev` in a step: the few devices that every program expects, and no other.
//!
//! Devices are bound from the host: a user namespace cannot make working ones.
//!
//! Spec: <https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#default-devices>.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{MountPoints, Shape};
use crate::sandbox::namespaces::filesystem::{INERT, attach, clone_of_host, find, new};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
/// The group `tty`, to which terminals belong.
const GROUP_OF_TERMINALS: (&str, &str) = ("gid", "5");

/// Mounts `/dev` and what is in it; `/dev/shm` may grow to `shm_size` bytes.
pub(in crate::sandbox) fn mount(points: &mut MountPoints, shm_size: u64) -> Result<(), Failure> {
    let at = points.get(Path::new("/dev"), Shape::Directory).to("make `/dev`")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("mode", "755"), ("size", "65536k")];
    let dev = new("tmpfs", &options, attributes).to("mount `/dev`")?;
    attach(&dev, &at).to("mount `/dev`")?;
    for name in DEVICES {
        bind_device(&dev, name).to(format!("show `/dev/{name}`"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).to(format!("make the link `/dev/{name}`"))?;
    }
    attach_new(&dev, "pts", terminals()).to("mount `/dev/pts`")?;
    let shared = new("tmpfs", &[("mode", "1777"), ("size", &shm_size.to_string())], INERT);
    attach_new(&dev, "shm", shared).to("mount `/dev/shm`")?;
    // A kernel may have been built without message queues; hardly a program uses them.
    if let Ok(queues) = new("mqueue", &[], INERT) {
        attach_new(&dev, "mqueue", Ok(queues)).to("mount `/dev/mqueue`")?;
    }
    Ok(())
}

fn bind_device(dev: &OwnedFd, name: &str) -> io::Result<()> {
    let device = clone_of_host(&Path::new("/dev").join(name))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(dev, name, flags, Mode::from_raw_mode(0o644))?);
    attach(&device, find(dev, Path::new(name))?)
}

/// The step's own pseudo-terminals.
fn terminals() -> io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("ptmxmode", "0666"), ("mode", "0620"), GROUP_OF_TERMINALS];
    // Without a range of ids there is no such group.
    new("devpts", &options, attributes).or_else(|_| new("devpts", &options[..2], attributes))
}

fn attach_new(dev: &OwnedFd, name: &str, mount: io::Result<OwnedFd>) -> io::Result<()> {
    let mount = mount?;
    mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    attach(&mount, find(dev, Path::new(name))?)
}
