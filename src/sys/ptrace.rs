//! Tracing other processes: their system calls, forks, execs and signals.
//!
//! Only the thread that seized a process may use these functions on it, and on what the process
//! starts, which is seized with it.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/ptrace.2.html>
#![expect(unsafe_code, reason = "rustix has no ptrace(2), and no wait for threads of others")]

use std::io;
use std::mem::MaybeUninit;

use rustix::io::Errno;
use rustix::process::Pid;

/// What a traced thread does that stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is at a system call for which its filter says "trace".
    Filtered,
    /// It has come to the end of a system call, after [`resume_to_end_of_call`].
    EndOfCall,
    /// It is starting another process or thread, whose number this is.
    Started(Pid),
    /// It has become another program. Before, it was the thread with this number.
    Executed(Pid),
    /// It is stopped like a whole process that was sent `SIGSTOP`.
    Halted,
    /// It has just been started, or was interrupted.
    New,
    /// This signal is about to be delivered.
    Signal(i32),
    /// It is gone, with this status.
    Exited(i32),
    /// It is gone, killed by this signal.
    Killed(i32),
}

/// The registers of a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers(libc::user_regs_struct);

impl Registers {
    /// The number of the system call.
    pub(crate) fn call(&self) -> u64 {
        self.0.orig_rax
    }

    /// An argument of the system call, from 0 to 4.
    pub(crate) fn argument(&self, index: usize) -> u64 {
        [self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8][index]
    }

    /// The stack pointer.
    pub(crate) fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// Makes the call another one, with these first three arguments.
    pub(crate) fn set_call(&mut self, number: u64, arguments: [u64; 3]) {
        self.0.orig_rax = number;
        self.0.rax = number;
        [self.0.rdi, self.0.rsi, self.0.rdx] = arguments;
    }

    /// Sets the arguments that follow: for calls with six.
    pub(crate) fn set_more(&mut self, arguments: [u64; 3]) {
        [self.0.r10, self.0.r8, self.0.r9] = arguments;
    }

    /// Lets the call not happen, and fail.
    pub(crate) fn refuse(&mut self, errno: Errno) {
        self.0.orig_rax = u64::MAX;
        self.0.rax = i64::from(-errno.raw_os_error()).cast_unsigned();
    }

    /// What the call has returned, at its end.
    pub(crate) fn result(&self) -> u64 {
        self.0.rax
    }

    /// Sets what the call has returned, at its end.
    pub(crate) fn set_result(&mut self, value: u64) {
        self.0.rax = value;
    }

    /// From the end of another call: makes the thread come to `self`'s call again.
    pub(crate) fn repeat(&self) -> Self {
        /// The length of the instruction `syscall`.
        const INSTRUCTION: u64 = 2;
        let mut again = *self;
        again.0.rip -= INSTRUCTION;
        again.0.rax = self.0.orig_rax;
        again
    }
}

/// Begins to trace a process and all that it will start. All of them are killed when the tracer ends.
pub(crate) fn seize(process: Pid) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, process, 0, u64::from(options.cast_unsigned())).map_err(Into::into)
}

/// Lets a stopped thread go on, and gives it a signal.
pub(crate) fn resume(thread: Pid, signal: Option<i32>) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, thread, 0, u64::from(signal.unwrap_or(0).unsigned_abs()))
}

/// Lets a thread go on that is at a system call, to be stopped at its end.
pub(crate) fn resume_to_end_of_call(thread: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, thread, 0, 0)
}

/// Leaves a thread in its halt, but hears of what wakes it.
pub(crate) fn leave_halted(thread: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, thread, 0, 0)
}

/// The registers of a stopped thread.
pub(crate) fn registers(thread: Pid) -> Result<Registers, Errno> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
    let target = registers.as_mut_ptr().expose_provenance() as u64;
    request(libc::PTRACE_GETREGS, thread, 0, target)?;
    // SAFETY: the call has succeeded, so the kernel has filled the struct, all of whose values are
    // plain integers.
    Ok(Registers(unsafe { registers.assume_init() }))
}

/// Sets the registers of a stopped thread.
pub(crate) fn set_registers(thread: Pid, registers: &Registers) -> Result<(), Errno> {
    let source = (&raw const registers.0).expose_provenance() as u64;
    request(libc::PTRACE_SETREGS, thread, 0, source)
}

/// Waits until some traced thread or child process stops or ends; says which. `None` if there are
/// none.
pub(crate) fn wait() -> io::Result<Option<(Pid, Event)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call, which writes an integer to it.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        let Some(pid) = Pid::from_raw(pid.max(0)) else {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        };
        // A thread that was killed at this moment has another status to come.
        if let Ok(Some(event)) = event(pid, status) {
            return Ok(Some((pid, event)));
        }
    }
}

fn event(pid: Pid, status: i32) -> Result<Option<Event>, Errno> {
    if libc::WIFEXITED(status) {
        return Ok(Some(Event::Exited(libc::WEXITSTATUS(status))));
    }
    if libc::WIFSIGNALED(status) {
        return Ok(Some(Event::Killed(libc::WTERMSIG(status))));
    }
    if !libc::WIFSTOPPED(status) {
        return Ok(None);
    }
    let signal = libc::WSTOPSIG(status);
    Ok(Some(match status >> 16 {
        libc::PTRACE_EVENT_SECCOMP => Event::Filtered,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            Event::Started(message(pid)?)
        }
        libc::PTRACE_EVENT_EXEC => Event::Executed(message(pid)?),
        libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Event::New,
        libc::PTRACE_EVENT_STOP => Event::Halted,
        0 if signal == libc::SIGTRAP | 0x80 => Event::EndOfCall,
        0 => Event::Signal(signal),
        _ => Event::New,
    }))
}

/// The process number that comes with an event.
fn message(thread: Pid) -> Result<Pid, Errno> {
    let mut number: libc::c_ulong = 0;
    let target = (&raw mut number).expose_provenance() as u64;
    request(libc::PTRACE_GETEVENTMSG, thread, 0, target)?;
    i32::try_from(number).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)
}

fn request(request: libc::c_uint, thread: Pid, address: u64, data: u64) -> Result<(), Errno> {
    // SAFETY: the callers above pass integers for `data`, or the address of a value that is as large
    // as the request demands and outlives the call.
    let result = unsafe { libc::ptrace(request, thread.as_raw_pid(), address, data) };
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
