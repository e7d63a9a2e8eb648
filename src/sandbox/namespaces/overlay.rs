//! Overlayfs: layers stacked into one tree.
//!
//! Layers are given by descriptor, `/proc/self/fd/N`: with that the old interface takes some two
//! hundred of them in its one page of options (the new one takes five hundred by any name), and
//! `/proc/self/mountinfo` does not tell the step where the builder keeps its store.
//!
//! Manual: <https://docs.kernel.org/filesystems/overlayfs.html>.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::sandbox::namespaces::filesystem;

/// A small file system of our own for places to mount on, gone with the old root.
#[derive(Debug)]
pub(in crate::sandbox) struct Scaffold(OwnedFd);

impl Scaffold {
    /// Covers the directory `over`, for this mount namespace only.
    pub(in crate::sandbox) fn new(over: &OwnedFd) -> io::Result<Self> {
        let mount = filesystem::new("tmpfs", &[("mode", "700")], filesystem::INERT)?;
        filesystem::attach(&mount, over)?;
        Ok(Self(mount))
    }

    /// A new empty directory.
    pub(in crate::sandbox) fn place(&self, name: &str) -> io::Result<OwnedFd> {
        mkdirat(&self.0, name, Mode::from_raw_mode(0o755))?;
        self.open(name)
    }

    /// Mounts something on a new directory `name`, and returns what is there then.
    pub(in crate::sandbox) fn attach(&self, mount: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
        let at = self.place(name)?;
        filesystem::attach(mount, &at)?;
        self.open(name)
    }

    /// What is mounted at a directory of that name, or the directory.
    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        Ok(openat(&self.0, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// The layers of an overlay.
#[derive(Debug)]
pub(in crate::sandbox) struct Overlay<'a> {
    /// Bottom first; at least one, and two without `scratch`.
    pub(in crate::sandbox) lower: &'a [OwnedFd],
    /// The upper directory and overlayfs's own one.
    pub(in crate::sandbox) scratch: Option<(&'a OwnedFd, &'a OwnedFd)>,
    /// Whether overlayfs keeps its marks in `trusted.overlay.*`, or else in `user.overlay.*`.
    pub(in crate::sandbox) trusted_marks: bool,
    /// Whether devices in it can be opened: where ids are the machine's own, they are the machine's.
    pub(in crate::sandbox) devices: bool,
}

impl Overlay<'_> {
    /// Mounts it on a new directory `name` of the scaffold, and returns its root.
    ///
    /// It never syncs to disk: after a crash the upper directory is thrown away anyway.
    pub(in crate::sandbox) fn mount(&self, scaffold: &Scaffold, name: &str) -> io::Result<OwnedFd> {
        let at = scaffold.place(name)?;
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        match self.configure(&context) {
            Ok(()) => {
                let flags = FsMountFlags::FSMOUNT_CLOEXEC;
                let none = MountAttrFlags::MOUNT_ATTR_NODEV;
                let attributes = if self.devices { MountAttrFlags::empty() } else { none };
                let mount = fsmount(&context, flags, attributes)?;
                filesystem::attach(&mount, &at)?;
                Ok(mount)
            }
            // Kernels before 6.7 do not know `lowerdir+`.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.mount_by_string(&at)?;
                scaffold.open(name)
            }
            Err(error) => Err(error),
        }
    }

    fn configure(&self, context: &OwnedFd) -> io::Result<()> {
        fsconfig_set_string(context, "source", "overlay")?;
        for layer in self.lower.iter().rev() {
            fsconfig_set_string(context, "lowerdir+", by_descriptor(layer))?;
        }
        for (key, value) in self.options() {
            match value.as_str() {
                "" => fsconfig_set_flag(context, key)?,
                value => fsconfig_set_string(context, key, value)?,
            }
        }
        Ok(fsconfig_create(context)?)
    }

    fn mount_by_string(&self, at: &OwnedFd) -> io::Result<()> {
        let lower: Vec<String> = self.lower.iter().rev().map(by_descriptor).collect();
        let mut options = vec![format!("lowerdir={}", lower.join(":"))];
        for (key, value) in self.options() {
            options.push(if value.is_empty() { key.to_owned() } else { format!("{key}={value}") });
        }
        let options = CString::new(options.join(",")).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = if self.devices { MountFlags::empty() } else { MountFlags::NODEV };
        Ok(rustix::mount::mount("overlay", by_descriptor(at), "overlay", flags, &*options)?)
    }

    /// Whatever the machine's defaults are: nothing that a walk over the upper directory misses.
    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        if let Some((upper, work)) = self.scratch {
            options.push(("upperdir", by_descriptor(upper)));
            options.push(("workdir", by_descriptor(work)));
            options.push(("volatile", String::new()));
        }
        if self.trusted_marks {
            options.push(("redirect_dir", "nofollow".to_owned()));
            options.push(("metacopy", "off".to_owned()));
        } else {
            // It switches the two off by itself, and takes their being named as a conflict.
            options.push(("userxattr", String::new()));
        }
        options.push(("index", "off".to_owned()));
        options
    }
}

fn by_descriptor(descriptor: impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}
