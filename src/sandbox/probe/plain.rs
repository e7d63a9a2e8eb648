//! Trials of what the backends without namespaces are made of.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Gid, MemfdFlags, Mode, OFlags, ResolveFlags, Uid, XattrFlags, makedev,
    memfd_create, mknodat, openat2,
};
use rustix::io::Errno;

use crate::sandbox::enter::exit_code;
use crate::sandbox::probe::technique::{Technique, Verdict};
use crate::sandbox::probe::trial::{Trial, run};
use crate::sandbox::probe::watch;
use crate::sys::process::{execve, fork_with};

/// A user and group that is neither this one nor root.
const SOMEBODY: u32 = 33;

/// Tries `wanted`, on the file system of `place` where it is about files.
pub(super) fn try_plain(
    place: &Path,
    wanted: &[Technique],
) -> io::Result<Vec<(Technique, Verdict)>> {
    let attempts: Vec<(Technique, Box<dyn Fn() -> Verdict + '_>)> = wanted
        .iter()
        .map(|technique| {
            let technique = *technique;
            let attempt: Box<dyn Fn() -> Verdict> = Box::new(move || attempt(technique, place));
            (technique, attempt)
        })
        .collect();
    let trials: Vec<Trial<'_>> = attempts
        .iter()
        .map(|(technique, attempt)| Trial { technique: *technique, attempt: &**attempt })
        .collect();
    run(&trials, 0)
}

fn attempt(technique: Technique, place: &Path) -> Verdict {
    match technique {
        // In a process of its own: it cannot be undone.
        Technique::Chroot => apart(|| Ok(rustix::process::chroot(place)?)),
        Technique::Chown => give_away(place).into(),
        Technique::Mknod => make_device(place).into(),
        Technique::Landlock => watch::landlock().into(),
        Technique::Notify => watch::notify().into(),
        Technique::Trace => watch::trace().into(),
        Technique::OpenInRoot => open_in_root(place).into(),
        Technique::UserAttributes => set_attribute(place).into(),
        Technique::RunFromStore => run_from(place).into(),
        Technique::RunFromMemory => run_from_memory().into(),
        _ => Verdict::Untried,
    }
}

/// Does it in another process.
fn apart(work: impl FnOnce() -> io::Result<()>) -> Verdict {
    let pid = fork_with(|| match work() {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    });
    match pid.and_then(exit_code) {
        Ok(Some(0)) => Verdict::Works(None),
        Ok(Some(errno)) => Verdict::Refused { errno, said: None },
        Ok(None) => Verdict::Died,
        Err(error) => Err::<(), _>(error).into(),
    }
}

/// A new file in `place`.
fn new_file(place: &Path, name: &str) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(place.join(name))
}

fn give_away(place: &Path) -> io::Result<()> {
    let file = new_file(place, "given")?;
    let (uid, gid) = (Uid::from_raw(SOMEBODY), Gid::from_raw(SOMEBODY));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

fn make_device(place: &Path) -> io::Result<()> {
    let path = place.join("null");
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(1, 3))?;
    File::open(path).map(drop)
}

fn open_in_root(place: &Path) -> io::Result<()> {
    new_file(place, "inside")?;
    let root = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat2(root, "/inside", flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    Ok(())
}

fn set_attribute(place: &Path) -> io::Result<()> {
    let file = new_file(place, "attributed")?;
    Ok(rustix::fs::fsetxattr(file, "user.coracle.probe", b"1", XattrFlags::empty())?)
}

fn run_from(place: &Path) -> io::Result<()> {
    let path = place.join("program");
    let mut file = new_file(place, "program")?;
    file.write_all(&smallest_program())?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    // A program that is open for writing cannot be run.
    drop(file);
    execute(path.as_os_str().as_encoded_bytes())
}

fn run_from_memory() -> io::Result<()> {
    let memory = match memfd_create("coracle", MemfdFlags::EXEC) {
        // Kernels before 6.3 do not know the flag, and need none.
        Err(Errno::INVAL) => memfd_create("coracle", MemfdFlags::empty()),
        other => other,
    }?;
    let mut memory = File::from(memory);
    memory.write_all(&smallest_program())?;
    execute(format!("/proc/self/fd/{}", memory.as_raw_fd()).as_bytes())
}

/// Runs a program to its end in a process of its own.
fn execute(path: &[u8]) -> io::Result<()> {
    let path = CString::new(path)?;
    let pid = fork_with(|| {
        let error = execve(&path, std::slice::from_ref(&path), &[]);
        error.raw_os_error().unwrap_or(libc::EIO)
    })?;
    match exit_code(pid)? {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the program was killed")),
    }
}

/// A program that ends at once, well: an ELF header, one segment, and `exit(0)`.
fn smallest_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    #[cfg(target_arch = "x86_64")]
    // xor edi, edi; mov eax, 60; syscall
    let (machine, code) = (62_u16, [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    #[cfg(target_arch = "aarch64")]
    // mov x0, 0; mov x8, 93; svc 0
    let (machine, code) =
        (183_u16, [0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]);
    let length = u64::from(HEADERS) + code.len() as u64;
    let mut program = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |program: &mut Vec<u8>, value: u16| program.extend(value.to_le_bytes());
    let word = |program: &mut Vec<u8>, value: u32| program.extend(value.to_le_bytes());
    let long = |program: &mut Vec<u8>, value: u64| program.extend(value.to_le_bytes());
    // An executable of that machine.
    half(&mut program, 2);
    half(&mut program, machine);
    word(&mut program, 1);
    // Where it starts, and where its segments and sections are listed.
    long(&mut program, BASE + u64::from(HEADERS));
    long(&mut program, 64);
    long(&mut program, 0);
    word(&mut program, 0);
    // Sizes and counts of the headers: one segment, no sections.
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut program, value);
    }
    // The segment: the whole file, to be read and executed.
    word(&mut program, 1);
    word(&mut program, 5);
    for value in [0, BASE, BASE, length, length, 0x1000] {
        long(&mut program, value);
    }
    program.extend(code);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_program_is_one() {
        let directory = tempfile::tempdir().expect("writable");
        let path = directory.path().join("program");
        fs::write(&path, smallest_program()).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        let status = std::process::Command::new(&path).status().expect("it starts");
        assert!(status.success(), "{status}");
    }
}
