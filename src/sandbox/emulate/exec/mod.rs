//! `execve`: which program it is in the step's root, whether the caller may run it, and what the kernel
//! must be told so that it runs that.
//!
//! The tracer changes the call's arguments before the kernel sees them: the path becomes the real name
//! of the program ([`programs`]), and for a script the arguments become those of its interpreter
//! ([`script`]). Arguments and environment are otherwise the caller's own, in its own memory. When the
//! new program is there, [`stack`] tells it who it is.

mod elf;
pub(super) mod programs;
mod script;
pub(super) mod stack;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sandbox::emulate::access::{EXECUTE, permits};
use crate::sandbox::emulate::call::{Call, HERE};
use crate::sandbox::emulate::mounts::host_path;
use crate::sandbox::emulate::records::{Inode, Owner, inode};
use crate::sandbox::emulate::resolve::{Found, Walked};
use crate::sandbox::emulate::world::World;

/// How many interpreters may follow each other.
const MAX_SCRIPTS: usize = 5;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
/// On disk: whether the one user that there is may run it.
const REAL_EXECUTE: u32 = 0o100;

/// What the kernel is to be told.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The name outside.
    pub(super) host: Vec<u8>,
    /// What that name must turn out to be.
    pub(super) file: Inode,
    /// The step's name.
    pub(super) name: Vec<u8>,
    /// What replaces the first argument, if it is a script.
    pub(super) arguments: Option<Vec<Vec<u8>>>,
    /// Whose rights it gives.
    pub(super) setuid: Option<u32>,
    pub(super) setgid: Option<u32>,
}

/// A program or script that may be run.
struct Candidate {
    found: Found,
    owner: Owner,
    name: Vec<u8>,
    file: File,
}

/// Finds out what an `execve` or `execveat` is about. `from` is the descriptor of the latter, `path` the
/// path, and `flags` its flags.
pub(super) fn prepare(
    call: &Call<'_>,
    from: i32,
    path: &[u8],
    flags: u32,
) -> Result<Prepared, Errno> {
    let world = call.world;
    let mut candidate = first(call, from, path, flags)?;
    // What a script finds as its own name.
    let mut named = match path {
        b"" => format!("/dev/fd/{from}").into_bytes(),
        _ if path.starts_with(b"/") || from == HERE => path.to_vec(),
        _ => [format!("/dev/fd/{from}/").as_bytes(), path].concat(),
    };
    let mut arguments: Option<Vec<Vec<u8>>> = None;
    for _ in 0..=MAX_SCRIPTS {
        let start = candidate.start()?;
        let Some(script) = script::parse(&start)? else {
            return finish(world, call, &candidate, &named, arguments);
        };
        let before = arguments.take().unwrap_or_else(|| vec![Vec::new()]);
        let mut after = vec![script.interpreter.clone()];
        after.extend(script.argument);
        after.push(std::mem::take(&mut named));
        after.extend(before.into_iter().skip(1));
        arguments = Some(after);
        named.extend_from_slice(&script.interpreter);
        let Walked::Found(found) = world.find(call, HERE, &script.interpreter, true)? else {
            return Err(Errno::ACCESS);
        };
        candidate = Candidate::new(call, found)?;
    }
    Err(Errno::LOOP)
}

fn first(call: &Call<'_>, from: i32, path: &[u8], flags: u32) -> Result<Candidate, Errno> {
    let has = |flag: i32| flags & flag.unsigned_abs() != 0;
    let found = if path.is_empty() && has(libc::AT_EMPTY_PATH) && from != HERE {
        call.world.descriptor_of(call, from)?
    } else {
        let follow = !has(libc::AT_SYMLINK_NOFOLLOW);
        match call.world.find(call, from, path, follow)? {
            Walked::Found(found) if found.kind() == FileType::Symlink => return Err(Errno::LOOP),
            Walked::Found(found) => found,
            _ => return Err(Errno::ACCESS),
        }
    };
    Candidate::new(call, found)
}

impl Candidate {
    fn new(call: &Call<'_>, found: Found) -> Result<Self, Errno> {
        let owner = call.world.records.owner(&found.stat, || found.path());
        if found.kind() != FileType::RegularFile || owner.is_device() {
            return Err(Errno::ACCESS);
        }
        permits(&call.process.credentials(), &owner, EXECUTE)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&*found.path(), flags, Mode::empty())?);
        let place = call.world.place_of_file(&found.fd);
        let name = match place {
            Some(place) => place,
            None => host_path(found.fd.as_fd()).map_err(|_| Errno::ACCESS)?,
        };
        Ok(Self { found, owner, name, file })
    }

    /// The first bytes.
    fn start(&self) -> Result<Vec<u8>, Errno> {
        let mut start = vec![0; script::LINE];
        let count = self.file.read_at(&mut start, 0).map_err(|_| Errno::IO)?;
        start.truncate(count);
        Ok(start)
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(|_| Errno::NOEXEC)?;
        Ok(bytes)
    }

    /// Whether the kernel can run the file itself.
    fn can_run_itself(&self, world: &World, host: &[u8]) -> bool {
        let in_tree = world.mounts.locate(host).is_some_and(|(mount, _)| mount == 0);
        in_tree && self.found.stat.st_mode & REAL_EXECUTE != 0 && self.found.stat.st_nlink > 0
    }

    /// The name outside of something that needs no interpreter.
    fn host(&self, world: &World) -> Result<Vec<u8>, Errno> {
        let host = host_path(self.found.fd.as_fd()).map_err(|_| Errno::ACCESS)?;
        if self.can_run_itself(world, &host) {
            return Ok(host);
        }
        world.programs.copy(&self.file, &self.found.stat, &self.name, None)
    }
}

fn finish(
    world: &World,
    call: &Call<'_>,
    candidate: &Candidate,
    called: &[u8],
    arguments: Option<Vec<Vec<u8>>>,
) -> Result<Prepared, Errno> {
    let program = elf::parse(|offset, length| candidate.read(offset, length))?;
    let host = match program.interpreter {
        None => candidate.host(world)?,
        Some(interpreter) => {
            let length = usize::try_from(interpreter.length).map_err(|_| Errno::NOEXEC)?;
            let mut name = candidate.read(interpreter.offset, length)?;
            if name.pop() != Some(0) {
                return Err(Errno::NOEXEC);
            }
            let Walked::Found(found) = world.find(call, HERE, &name, true)? else {
                return Err(Errno::ACCESS);
            };
            let loader = Candidate::new(call, found)?.host(world)?;
            let (file, stat) = (&candidate.file, &candidate.found.stat);
            world.programs.copy(file, stat, &candidate.name, Some((interpreter, &loader)))?
        }
    };
    let host = world.programs.alias(&host, called)?;
    let mode = candidate.owner.mode;
    let setgid = mode & SETGID != 0 && mode & GROUP_EXECUTE != 0;
    Ok(Prepared {
        file: inode(&rustix::fs::stat(&*host)?),
        host,
        name: candidate.name.clone(),
        arguments,
        setuid: (mode & SETUID != 0).then_some(candidate.owner.uid),
        setgid: setgid.then_some(candidate.owner.gid),
    })
}

/// Whether a thread runs the file that it was to run.
pub(super) fn is_running(world: &World, pid: rustix::process::Pid, file: Inode) -> bool {
    let path = format!("{}/exe", pid.as_raw_pid());
    let stat = rustix::fs::statat(&world.proc, path, rustix::fs::AtFlags::empty());
    stat.is_ok_and(|stat| inode(&stat) == file)
}
