//! The first process inside: builds the root, starts the command, buries the dead.
//!
//! When the command's main process ends so does this one, and the kernel then kills whatever else
//! is left in the process namespace.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::namespaces::root::Root;
use crate::sandbox::protocol::{Message, Order, Outcome, send};
use crate::sandbox::{limits, step};
use crate::sys::landlock::keep_to_oneself;
use crate::sys::namespace::loopback_up;
use crate::sys::process::fork_with;

/// Runs the order and reports on `reports`. Returns this process's exit code.
pub(in crate::sandbox) fn main(order: &Order, reports: &File) -> i32 {
    let outcome = run(order, reports).unwrap_or_else(Outcome::from);
    match send(reports, &Message::Ended(outcome)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn run(order: &Order, reports: &File) -> Result<Outcome, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .to("tie the sandbox to its parent")?;
    if !order.spec.host_network {
        loopback_up().to("bring up the loopback interface")?;
    }
    rustix::system::sethostname(order.spec.hostname.as_bytes()).to("set the host name")?;
    limits::set_usual().to("set the resource limits")?;
    let mut root = Root::build(order)?;
    // If the parent died before it was tied to, nobody reads this, and sending it fails.
    let made = std::mem::take(&mut root.made);
    send(reports, &Message::Made(made)).to("report to the sandbox's own process")?;
    root.enter()?;
    step::make_directory(&order.spec.cwd)?;
    prepare_streams(order).to("prepare the standard streams")?;

    if !order.spec.insecure {
        // The network may be the machine's, and with it such sockets.
        keep_to_oneself().to("keep the step from abstract sockets outside")?;
    }
    let (failure, failed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    let command = fork_with(|| step::main(order, &failed)).to("start the command's process")?;
    drop(failed);
    let not_started = not_started(failure).to("hear from the command's process")?;
    let status = reap(command).to("wait for the command")?;
    Ok(match (not_started, status.exit_status(), status.terminating_signal()) {
        (Some(outcome), _, _) => outcome,
        (None, Some(code), _) => Outcome::Exited(code),
        (None, None, Some(signal)) => Outcome::Signaled(signal),
        (None, None, None) => Outcome::Lost,
    })
}

/// Empty input if the command has none, and output that the command's user may open again as
/// `/dev/stdout`.
fn prepare_streams(order: &Order) -> io::Result<()> {
    if !order.spec.interactive {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
    }
    let user = &order.spec.user;
    for stream in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
        // A pipe of another namespace's user stays as it is; the streams themselves work anyway.
        let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
    }
    Ok(())
}

/// What the command's process says before it becomes the command; it closes the pipe when it does.
fn not_started(failure: OwnedFd) -> io::Result<Option<Outcome>> {
    let mut said = Vec::new();
    File::from(failure).read_to_end(&mut said)?;
    if said.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&said)?)) }
}

/// Waits for `command`, and for every orphan that is handed to the first process meanwhile.
fn reap(command: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
