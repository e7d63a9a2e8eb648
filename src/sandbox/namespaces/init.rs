//! The first process inside: builds the root, starts the command, buries the dead.
//!
//! When the command's main process ends so does this one, and the kernel then kills whatever else
//! is left in the process namespace.

use std::fs::File;

use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::namespaces::root::Root;
use crate::sandbox::protocol::{Message, Order, Outcome, send};
use crate::sandbox::step::{self, Confinement};
use crate::sandbox::{caps, limits, seccomp, start};
use crate::sys;
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
    start::prepare_streams(order, None).to("prepare the standard streams")?;

    let (failure, failed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    let confinement =
        Confinement { kept: caps::kept(order.spec.insecure), confine: &|| confine(order) };
    let command = fork_with(|| step::main(order, &failed, &confinement));
    let command = command.to("start the command's process")?;
    drop(failed);
    let not_started = start::not_started(failure).to("hear from the command's process")?;
    let status = start::reap(command).to("wait for the command")?;
    Ok(not_started.unwrap_or_else(|| start::outcome(status)))
}

/// Fewer capabilities and system calls for whatever the command's process will become.
fn confine(order: &Order) -> Result<(), Failure> {
    if order.spec.insecure {
        return Ok(());
    }
    // The network may be the machine's, and with it such sockets.
    keep_to_oneself().to("keep the step from abstract sockets outside")?;
    caps::limit(caps::DOCKERS).to("limit the capabilities")?;
    // Before the user changes: without "no new privileges" the kernel wants `CAP_SYS_ADMIN`.
    sys::seccomp::install(&seccomp::filter(&[])).to("install the system call filter")
}
