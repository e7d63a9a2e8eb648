//! What the kernel is really told to run: the file itself where that can be, or a copy of it that
//! wants its interpreter by the name outside. A copy is made once for each file and content.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, Stat, openat, symlinkat};
use rustix::io::Errno;

use crate::sandbox::emulate::exec::elf::Interpreter;
use crate::sandbox::emulate::mounts::{host_path, rest};
use crate::sandbox::emulate::records::{Inode, inode};
use crate::sandbox::emulate::scratch::make;

/// A file with a content: its inode, and when that was last changed.
type Version = (Inode, i64, i64);

/// The copies.
#[derive(Debug)]
pub(in crate::sandbox::emulate) struct Programs {
    directory: OwnedFd,
    host: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    made: HashMap<Version, Vec<u8>>,
    /// The step's name for each copy.
    names: HashMap<Vec<u8>, Vec<u8>>,
    /// Other last names for what is run, for which the kernel then calls the process.
    aliases: HashMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
}

fn version(stat: &Stat) -> Version {
    #[allow(clippy::cast_possible_wrap, clippy::useless_conversion, reason = "differs by target")]
    let nanoseconds = stat.st_ctime_nsec as i64;
    (inode(stat), stat.st_ctime, nanoseconds)
}

impl Programs {
    /// Keeps copies in an empty directory.
    pub(in crate::sandbox::emulate) fn new(directory: OwnedFd) -> io::Result<Self> {
        let host = host_path(directory.as_fd())?;
        Ok(Self { directory, host, state: Mutex::default() })
    }

    /// The directory with the copies.
    pub(in crate::sandbox::emulate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The step's name for a copy of ours.
    pub(in crate::sandbox::emulate) fn name_of(&self, host: &[u8]) -> Option<Vec<u8>> {
        rest(host, &self.host)?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).names.get(host).cloned()
    }

    /// A copy of a program, by its name outside. The step calls it `name`.
    ///
    /// With `interpreter`, the copy wants the one with that name outside.
    pub(super) fn copy(
        &self,
        program: &File,
        stat: &Stat,
        name: &[u8],
        interpreter: Option<(Interpreter, &[u8])>,
    ) -> Result<Vec<u8>, Errno> {
        // Held while a copy is made, so that none is run before it is finished.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(stat);
        if let Some(made) = state.made.get(&version) {
            return Ok(made.clone());
        }
        let number = state.made.len().to_string();
        let directory =
            make(&self.directory, number.as_bytes(), 0o700).map_err(|error| errno(&error))?;
        let base = base(name);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let copy = openat(&directory, OsStr::from_bytes(base), flags, Mode::RWXU)?;
        write(program, &File::from(copy), interpreter).map_err(|error| errno(&error))?;
        let host = [&*self.host, b"/", number.as_bytes(), b"/", base].concat();
        state.names.insert(host.clone(), name.to_vec());
        state.made.insert(version, host.clone());
        Ok(host)
    }

    /// A name outside for what is at `host`, whose last part is that of `called`.
    pub(super) fn alias(&self, host: &[u8], called: &[u8]) -> Result<Vec<u8>, Errno> {
        let called = base(called);
        if base(host) == called {
            return Ok(host.to_vec());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_vec(), called.to_vec());
        if let Some(alias) = state.aliases.get(&key) {
            return Ok(alias.clone());
        }
        let number = format!("alias-{}", state.aliases.len());
        let directory =
            make(&self.directory, number.as_bytes(), 0o700).map_err(|error| errno(&error))?;
        symlinkat(OsStr::from_bytes(host), &directory, OsStr::from_bytes(called))?;
        let alias = [&*self.host, b"/", number.as_bytes(), b"/", called].concat();
        state.aliases.insert(key, alias.clone());
        Ok(alias)
    }
}

/// The last name in a path.
fn base(path: &[u8]) -> &[u8] {
    let last = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
    last.filter(|name| !matches!(*name, b"." | b"..")).unwrap_or(b"program")
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn write(
    mut program: &File,
    mut copy: &File,
    interpreter: Option<(Interpreter, &[u8])>,
) -> io::Result<()> {
    let length = io::copy(&mut program, &mut copy)?;
    if let Some((interpreter, name)) = interpreter {
        let name = [name, b"\0"].concat();
        copy.write_all_at(&name, length)?;
        for (at, bytes) in interpreter.moved_to(length, name.len() as u64) {
            copy.write_all_at(&bytes, at)?;
        }
    }
    copy.set_permissions(Permissions::from_mode(0o700))
}
