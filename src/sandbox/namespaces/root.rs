//! The root directory of a step: its layers, and everything that is mounted into them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::thread::UnshareFlags;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{Made, MountPoints};
use crate::sandbox::namespaces::filesystem::{clone_of_host, find, host_directory};
use crate::sandbox::namespaces::overlay::{Overlay, Scaffold};
use crate::sandbox::namespaces::{binds, dev, kernel};
use crate::sandbox::protocol::Order;
use crate::sandbox::{OverlayDirs, RootFs, WholeTree};
use crate::sys::mount::set_attributes;
use crate::sys::namespace::unshare;

/// A root that is ready to be entered.
#[derive(Debug)]
pub(in crate::sandbox) struct Root {
    directory: OwnedFd,
    /// What had to be made in it to mount things on.
    pub(in crate::sandbox) made: Vec<Made>,
}

impl Root {
    /// Builds the root in a mount namespace of its own, which this process enters.
    pub(in crate::sandbox) fn build(order: &Order) -> Result<Self, Failure> {
        unshare(UnshareFlags::NEWNS).to("make a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).to("make the mounts private")?;

        let (scaffold, directory) = tree(order)?;
        let mut points = MountPoints::new(directory.try_clone().to("copy a descriptor")?);
        kernel::mount_proc(&mut points, order.spec.insecure)?;
        kernel::mount_sys(&mut points, &order.spec)?;
        dev::mount(&mut points, order.spec.shm_size)?;
        binds::mount(&mut points, order, &scaffold)?;
        Ok(Self { directory, made: points.into_made() })
    }

    /// Makes it `/`, and lets go of what `/` was before.
    pub(in crate::sandbox) fn enter(&self) -> Result<(), Failure> {
        fchdir(&self.directory).to("enter the root directory")?;
        // Both names may be the same: the old root is then mounted over the new one, and comes
        // off again.
        pivot_root(".", ".").to("change the root directory")?;
        unmount(".", UnmountFlags::DETACH).to("let go of the old root directory")?;
        chdir("/").to("enter the root directory")
    }
}

/// Finds or stacks the tree. Afterwards the scaffold covers the name of the directory that receives
/// the changes, for this mount namespace.
fn tree(order: &Order) -> Result<(Scaffold, OwnedFd), Failure> {
    match &order.spec.root {
        RootFs::Overlay(dirs) => layers(dirs, order),
        RootFs::Directory(WholeTree { directory, .. }) => {
            let opened = open_layer(directory)?;
            let mount = clone_of_host(directory).to("mount the root directory")?;
            if !order.spec.insecure {
                set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_NODEV)
                    .to("forbid devices in the root directory")?;
            }
            let scaffold = Scaffold::new(&opened).to("mount a scaffold")?;
            let directory = scaffold.attach(&mount, "root").to("mount the root directory")?;
            Ok((scaffold, directory))
        }
    }
}

fn layers(root: &OverlayDirs, order: &Order) -> Result<(Scaffold, OwnedFd), Failure> {
    let upper = open_layer(&root.upper)?;
    let work = open_layer(&root.work)?;
    let mut lower = open_layers(&root.lower)?;
    let scaffold = Scaffold::new(&upper).to("mount a scaffold")?;
    if lower.is_empty() {
        lower.push(scaffold.place("empty").to("make an empty layer")?);
    }
    let (scratch, trusted_marks) = (Some((&upper, &work)), order.trusted_marks);
    let overlay = Overlay { lower: &lower, scratch, trusted_marks, devices: order.spec.insecure };
    let directory = overlay.mount(&scaffold, "root").to(format!(
        "mount {} layers as an overlay on `{}`",
        lower.len(),
        root.upper.display()
    ))?;
    let directory = find(&directory, Path::new(".")).to("open the root directory")?;
    Ok((scaffold, directory))
}

/// Opens layers, bottom first.
pub(in crate::sandbox) fn open_layers(
    layers: &[std::path::PathBuf],
) -> Result<Vec<OwnedFd>, Failure> {
    layers.iter().map(|layer| open_layer(layer)).collect()
}

/// Opens the directory of one layer.
pub(in crate::sandbox) fn open_layer(layer: &Path) -> Result<OwnedFd, Failure> {
    host_directory(layer).to(format!("open the layer `{}`", layer.display()))
}
