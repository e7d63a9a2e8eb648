//! Files of `/proc` whose content the step must not see as it is: it would tell the real user, the
//! tracer, and where the tree is.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{
    MemfdFlags, Mode, OFlags, ResolveFlags, fstat, major, memfd_create, minor, openat2,
};
use rustix::io::Errno;

use crate::sandbox::emulate::mounts::Shown;
use crate::sandbox::emulate::process::State;
use crate::sandbox::emulate::procfs::{Node, names, owner, relative, translate};
use crate::sandbox::emulate::resolve::own_path;
use crate::sandbox::emulate::world::World;

/// The content of a file, if it is not the real one.
pub(super) fn of(world: &World, node: &Node, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    if node.path == b"/sys/kernel/hostname" {
        return Ok(Some(format!("{}\n", world.hostname).into_bytes()));
    }
    let Some(process) = owner(world, node) else { return Ok(None) };
    // Of a process or of one of its threads, not deeper.
    if ![2, 4].contains(&names(&node.path)?.len()) {
        return Ok(None);
    }
    Ok(Some(match name {
        "mounts" => mounts(world),
        "mountinfo" => mount_info(world)?,
        "status" => {
            let state = process.with(|state| state.clone());
            status(&read(world, node)?, &state).into_bytes()
        }
        "maps" | "smaps" | "smaps_rollup" | "numa_maps" => maps(world, &read(world, node)?),
        _ => return Ok(None),
    }))
}

/// A file in memory with this content.
pub(super) fn file(name: &str, content: &[u8]) -> Result<OwnedFd, Errno> {
    let memory = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    (&memory).write_all(content).map_err(|_| Errno::NOMEM)?;
    let path = own_path(memory.as_fd());
    rustix::fs::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn read(world: &World, node: &Node) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(&world.proc, relative(node), flags, Mode::empty(), inside)?;
    let mut content = Vec::new();
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    File::from(file).read_to_end(&mut content).map_err(errno)?;
    Ok(content)
}

/// `status` with the emulated identity, and without a tracer.
fn status(real: &[u8], state: &State) -> String {
    let who = &state.credentials;
    let mut text = String::new();
    for line in String::from_utf8_lossy(real).lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let ids = match name {
            "Uid" => Some(who.users),
            "Gid" => Some(who.groups),
            _ => None,
        };
        let set = match name {
            "CapInh" => Some(who.capabilities.inheritable),
            "CapPrm" => Some(who.capabilities.permitted),
            "CapEff" => Some(who.capabilities.effective),
            "CapBnd" => Some(who.capabilities.bounding),
            "CapAmb" => Some(who.capabilities.ambient),
            _ => None,
        };
        let new = match (name, ids, set) {
            (_, Some(ids), _) => {
                format!("\t{}\t{}\t{}\t{}", ids.real, ids.effective, ids.saved, ids.files)
            }
            (_, _, Some(set)) => format!("\t{set:016x}"),
            ("Groups", ..) => {
                let groups = who.supplementary.iter().map(|group| format!("{group} "));
                format!("\t{}", groups.collect::<String>())
            }
            ("TracerPid", ..) => "\t0".to_owned(),
            ("NoNewPrivs", ..) => format!("\t{}", u8::from(who.no_new_privileges)),
            ("Umask", ..) => format!("\t{:04o}", state.umask),
            _ => value.to_owned(),
        };
        let colon = if line.contains(':') { ":" } else { "" };
        let _ = writeln!(text, "{name}{colon}{new}");
    }
    text
}

/// Memory maps with the step's names of files.
fn maps(world: &World, real: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(real.len());
    for line in real.split_inclusive(|byte| *byte == b'\n') {
        match line.iter().position(|byte| *byte == b'/') {
            Some(start) => {
                let end = line.len() - usize::from(line.ends_with(b"\n"));
                text.extend_from_slice(&line[..start]);
                text.extend(translate(world, &line[start..end]));
                text.extend_from_slice(&line[end..]);
            }
            None => text.extend_from_slice(line),
        }
    }
    text
}

/// Place, kind and source of what is shown.
fn shown(world: &World) -> impl Iterator<Item = (String, &'static str, &'static str)> {
    world.mounts.iter().map(|mount| {
        let access = if mount.writable { "rw" } else { "ro" };
        let place = match &*mount.place {
            b"" => "/".to_owned(),
            place => String::from_utf8_lossy(place).replace(' ', "\\040"),
        };
        let kind = match (&mount.shown, &*mount.place) {
            (Shown::Processes, _) => "proc",
            (_, b"/sys") => "sysfs",
            _ if mount.temporary.is_some() => "tmpfs",
            _ => "overlay",
        };
        (place, kind, access)
    })
}

fn mounts(world: &World) -> Vec<u8> {
    let line = |(place, kind, access)| format!("{kind} {place} {kind} {access},relatime 0 0\n");
    shown(world).map(line).collect::<String>().into_bytes()
}

fn mount_info(world: &World) -> Result<Vec<u8>, Errno> {
    let device = fstat(world.mounts.tree())?.st_dev;
    let (major, minor) = (major(device), minor(device));
    let mut text = String::new();
    for (index, (place, kind, access)) in shown(world).enumerate() {
        let parent = if index == 0 { 1 } else { 2 };
        let number = index + 2;
        let _ = writeln!(
            text,
            "{number} {parent} {major}:{minor} / {place} {access},relatime - {kind} {kind} {access}"
        );
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sandbox::User;
    use crate::sandbox::emulate::credentials::Credentials;
    use crate::sandbox::emulate::start_point::Base;

    #[test]
    fn the_status_of_a_process_shows_the_emulated_user_and_no_tracer() {
        let user = User { uid: 33, gid: 34, groups: vec![5], home: String::new() };
        let state = State {
            credentials: Arc::new(Credentials::of_user(&user)),
            directory: Arc::new(Base::Processes(Vec::new())),
            umask: 0o27,
            program: Arc::from(&b"/bin/sh"[..]),
        };
        let real = b"Name:\tsh\nUmask:\t0000\nTracerPid:\t77\nUid:\t1000\t1000\t1000\t1000\n\
            Groups:\t1000 \nCapEff:\t000001ffffffffff\nNoNewPrivs:\t1\nThreads:\t1\n";
        let expected = "Name:\tsh\nUmask:\t0027\nTracerPid:\t0\nUid:\t33\t33\t33\t33\n\
            Groups:\t34 5 \nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nThreads:\t1\n";
        assert_eq!(status(real, &state), expected);
    }
}
