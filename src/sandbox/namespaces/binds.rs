//! What a spec asks to be mounted: host files, other stages' layers, temporary file systems, files
//! in memory.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::mount::MountAttrFlags;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint::{MountPoints, Shape};
use crate::sandbox::namespaces::filesystem::{
    READ_ONLY, attach, clone_of, clone_of_host, find, new,
};
use crate::sandbox::namespaces::overlay::{Overlay, Scaffold};
use crate::sandbox::namespaces::{memory, root};
use crate::sandbox::protocol::Order;
use crate::sandbox::{Bind, MemoryFile, TreeBind};
use crate::sys::mount::set_attributes;

/// One thing to mount.
enum Wanted<'a> {
    Bind(&'a Bind),
    Tree(&'a TreeBind),
    Temporary(&'a Path, u64),
    Memory(&'a MemoryFile),
}

impl Wanted<'_> {
    fn target(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.target,
            Self::Tree(tree) => &tree.target,
            Self::Temporary(target, _) => target,
            Self::Memory(file) => &file.target,
        }
    }
}

/// Mounts them all, outer before inner, and otherwise in the order of the spec.
pub(in crate::sandbox) fn mount(
    points: &mut MountPoints,
    order: &Order,
    scaffold: &Scaffold,
) -> Result<(), Failure> {
    let spec = &order.spec;
    let mut wanted: Vec<Wanted<'_>> = spec
        .tmpfs
        .iter()
        .map(|(target, size)| Wanted::Temporary(target, *size))
        .chain(spec.trees.iter().map(Wanted::Tree))
        .chain(spec.binds.iter().map(Wanted::Bind))
        .chain(spec.memory_files.iter().map(Wanted::Memory))
        .collect();
    wanted.sort_by_key(|wanted| wanted.target().components().count());
    for (number, wanted) in wanted.iter().enumerate() {
        let mount = match wanted {
            Wanted::Bind(bind) => bound(bind)?,
            Wanted::Tree(tree) => stacked(tree, order.trusted_marks, scaffold, number)?,
            Wanted::Temporary(target, size) => {
                temporary(*size).to(format!("make a tmpfs for `{}`", target.display()))?
            }
            Wanted::Memory(file) => memory::mount(file, scaffold, number)
                .to(format!("make a file in memory for `{}`", file.target.display()))?,
        };
        let action = || format!("mount on `{}`", wanted.target().display());
        let shape = shape_of(&mount).to(action())?;
        let at = points.get(wanted.target(), shape).to(action())?;
        attach(&mount, &at).to(action())?;
    }
    Ok(())
}

fn bound(bind: &Bind) -> Result<OwnedFd, Failure> {
    let action = || format!("show the host's `{}`", bind.source.display());
    let mount = clone_of_host(&bind.source).to(action())?;
    // A cache may hold what an earlier step made.
    let no_devices = MountAttrFlags::MOUNT_ATTR_NODEV;
    let attributes = if bind.writable { no_devices } else { no_devices | READ_ONLY };
    set_attributes(mount.as_fd(), attributes).to(action())?;
    Ok(mount)
}

fn stacked(
    tree: &TreeBind,
    trusted_marks: bool,
    scaffold: &Scaffold,
    number: usize,
) -> Result<OwnedFd, Failure> {
    let action = || format!("show `{}` on `{}`", tree.path.display(), tree.target.display());
    let mut lower = root::open_layers(&tree.lower)?;
    let scratch = match &tree.scratch {
        Some((upper, work)) => Some((root::open_layer(upper)?, root::open_layer(work)?)),
        None => None,
    };
    // Overlayfs wants two layers where there is nothing to write to.
    let needed = if scratch.is_some() { 1 } else { 2 };
    while lower.len() < needed {
        let name = format!("empty-{number}-{}", lower.len());
        lower.insert(0, scaffold.place(&name).to(action())?);
    }
    let overlay = Overlay {
        lower: &lower,
        scratch: scratch.as_ref().map(|(upper, work)| (upper, work)),
        trusted_marks,
        devices: false,
    };
    let whole = overlay.mount(scaffold, &format!("tree-{number}")).to(action())?;
    let part = find(&whole, &tree.path).to(action())?;
    let mount = clone_of(part.as_fd(), Path::new("")).to(action())?;
    if scratch.is_none() {
        set_attributes(mount.as_fd(), READ_ONLY).to(action())?;
    }
    Ok(mount)
}

fn temporary(size: u64) -> io::Result<OwnedFd> {
    let limit = size.to_string();
    let mut options = vec![("mode", "1777")];
    if size > 0 {
        options.push(("size", &limit));
    }
    // Programs may run from there: a compiler's test programs do.
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    new("tmpfs", &options, attributes)
}

fn shape_of(mount: &OwnedFd) -> io::Result<Shape> {
    Ok(match FileType::from_raw_mode(fstat(mount)?.st_mode) {
        FileType::Directory => Shape::Directory,
        _ => Shape::File,
    })
}
