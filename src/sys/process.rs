//! Starting processes and replacing this one: fork, exec, descriptors, signals.
//!
//! The sandbox's processes have one thread, which is what makes [`fork`] sound: its child may go
//! on to run ordinary code.
#![expect(unsafe_code, reason = "fork, execve, poll and signal dispositions have no safe form")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::time::Instant;

use rustix::process::Pid;

/// Which of the two processes this is after [`fork`].
pub(crate) enum Fork {
    /// The one that was there before, with the other's number.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Refuses to go on in a process that has more than one thread.
pub(crate) fn require_one_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        count => Err(io::Error::other(format!("this process has {count} threads, not one"))),
    }
}

/// Waits for a moment until this process has one thread: a thread that has ended and was joined is
/// still counted until the kernel has tidied up after it.
pub(crate) fn await_one_thread() -> io::Result<()> {
    for _ in 0..200 {
        if require_one_thread().is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    require_one_thread()
}

/// Doubles this process.
///
/// # Errors
///
/// Fails in a process with more than one thread: the child would hold locks that nobody opens.
pub(crate) fn fork() -> io::Result<Fork> {
    require_one_thread()?;
    // SAFETY: there is one thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid).expect("fork returns a process number"))),
    }
}

/// Ends this process at once: no destructors, no exit handlers. For the child of a [`fork`].
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces this program. Returns only if that failed.
pub(crate) fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all strings end in a zero byte, both lists end in a null pointer, and all of them
    // are borrowed by this function until the call returns.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Lets every signal do what it does by default, and blocks none.
///
/// A program starts with the dispositions of its parent, and Rust's runtime ignores `SIGPIPE`.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours. Signals that cannot be changed are
        // refused with an error, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a signal set is plain integers, for which all zeroes is a value; sigemptyset then
    // makes it the empty set, and it outlives both calls.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from 3 up to be closed by the next exec.
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    // SAFETY: the call takes three integers, and closes nothing now.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the process that `command` starts inherit `descriptors`, under the numbers they have.
///
/// They are inheritable in the new process only, so that no other one started by another thread
/// at this moment gets them too.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let hook = move || {
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the hook runs between fork and exec. It only makes system calls on descriptors that
    // it owns; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
}

/// Takes over the descriptor `number`, which this program was started with.
///
/// # Errors
///
/// Fails if there is no such descriptor.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the borrow lasts for the next call only, which fails if the descriptor is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, and came from the parent for us to own: the number is an
    // argument of this process, which is read once, before anything else is opened.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Waits until at least one of `descriptors` can be read or has been hung up; says which.
pub(crate) fn poll<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
) -> io::Result<[bool; N]> {
    poll_until(descriptors, None)
}

/// The same, but not beyond `deadline`: then it says that none of them can.
pub(crate) fn poll_until<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    // The kernel skips negative numbers.
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        let milliseconds = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that nobody comes back a moment before the deadline.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: `polled` is an array of N elements that outlives the call.
        let result = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
        if result >= 0 {
            return Ok(polled.map(|polled| polled.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Runs `work` in the child of a fork, and ends that child with its return value as exit code.
pub(crate) fn fork_with(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    match fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let code = work();
            exit_now(code)
        }
    }
}

/// Promises that neither this process nor what it executes will gain privileges from programs that are
/// setuid or have capabilities. Whoever has none may then filter system calls and restrict itself.
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Like [`fork_with`], but in a test, which has other threads: `work` must not wait for a lock that
/// one of them may hold.
#[cfg(test)]
pub(crate) fn fork_in_test(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the allocator's locks survive a fork in glibc and musl, and `work` takes no others.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => exit_now(work()),
        pid => Ok(Pid::from_raw(pid).expect("fork returns a process number")),
    }
}
