//! Trials of answering a process's system calls in its place.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::sandbox::enter::exit_code;
use crate::sandbox::seccomp;
use crate::sys::landlock::{self, Ruleset};
use crate::sys::notify::{Answer, Listener, install, receive_descriptor, send_descriptor};
use crate::sys::process::{fork_with, poll_until, set_no_new_privileges};
#[cfg(target_arch = "x86_64")]
use crate::sys::{ptrace, remote};

/// The call that is asked about: harmless, and made by nobody else.
const ASKED: libc::c_long = libc::SYS_getpriority;
/// What it is told, once; the wrapper gives 20 less that.
const TOLD: i64 = 7;
/// As long as a process may take to make its first call.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has a process ask about a call twice: answers it by a value, and then by a descriptor.
pub(super) fn notify() -> io::Result<()> {
    let kind = (AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None)?;
    let call = u32::try_from(ASKED).map_err(|_| io::ErrorKind::InvalidInput)?;
    let pid = fork_with(|| {
        let asks = || -> io::Result<bool> {
            set_no_new_privileges()?;
            let listener = install(&seccomp::filter(&[(call, seccomp::Verdict::Ask)]))?;
            send_descriptor(&theirs, &listener)?;
            let ask = || rustix::process::getpriority_process(None);
            let first = i64::from(ask()?);
            let descriptor = crate::sys::process::inherited(20 - ask()?)?;
            let mut byte = [1];
            Ok(first == 20 - TOLD && rustix::io::read(descriptor, &mut byte)? == 0)
        };
        match asks() {
            Ok(true) => 0,
            Ok(false) => libc::EIO,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        }
    })?;
    drop(theirs);
    let answered = receive_descriptor(&ours).and_then(|listener| match listener {
        Some(listener) => answer(&Listener::from_descriptor(listener)),
        // It could not install the filter, and says why by its exit code.
        None => Ok(()),
    });
    match (exit_code(pid)?, answered) {
        (Some(0), answered) => answered,
        (Some(errno), _) => Err(io::Error::from_raw_os_error(errno)),
        (None, _) => Err(io::Error::other("the process that was answered was killed")),
    }
}

/// What traces is written for one kind of machine.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn trace() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Seizes a process, and reads its memory.
#[cfg(target_arch = "x86_64")]
pub(super) fn trace() -> io::Result<()> {
    const TEXT: &std::ffi::CStr = c"what is read of the other process";
    let (waits, goes_on) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pid = fork_with(|| {
        // Until the other end is closed.
        let mut byte = [0];
        let _ = rustix::io::read(&waits, &mut byte);
        0
    })?;
    let tried = ptrace::seize(pid).and_then(|()| {
        // It is a copy of this process, so the text is at the same address in both.
        let address = TEXT.as_ptr().expose_provenance() as u64;
        let read = remote::read_string(pid, address, 64)?;
        let is_the_same = read == TEXT.to_bytes();
        if is_the_same { Ok(()) } else { Err(io::Error::other("what was read is something else")) }
    });
    rustix::process::kill_process(pid, Signal::KILL)?;
    drop(goes_on);
    exit_code(pid)?;
    tried
}

/// Gives up everything that Landlock can take, in a process of its own; says which version it is.
pub(super) fn landlock() -> io::Result<Option<u64>> {
    let version = landlock::version();
    // It says no more than that it is not there: asking again says why.
    let version = version.ok_or_else(io::Error::last_os_error)?;
    let pid = fork_with(|| {
        let given_up =
            set_no_new_privileges().and_then(|()| Ruleset::new(version)).and_then(Ruleset::enforce);
        match given_up {
            Ok(()) if std::fs::File::open("/").is_err() => 0,
            Ok(()) => libc::EIO,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        }
    })?;
    match exit_code(pid)? {
        Some(0) => Ok(u64::try_from(version).ok()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the process that tried it was killed")),
    }
}

fn answer(listener: &Listener) -> io::Result<()> {
    let next = || {
        let ready = poll_until([Some(listener.as_fd())], Some(Instant::now() + PATIENCE))?;
        let asked = if ready[0] { listener.receive()? } else { None };
        asked.ok_or_else(|| io::Error::other("no call arrived"))
    };
    listener.answer(next()?.id, Answer::Value(TOLD))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let asked = next()?;
    match listener.answer_with(asked.id, &null, true) {
        Ok(()) => Ok(()),
        Err(errno) => {
            listener.answer(asked.id, Answer::Error(Errno::IO))?;
            Err(errno.into())
        }
    }
}
