//! The process that starts the command, and answers its calls until it has ended.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, chdir, chroot, fchdir};
use rustix::thread::CapabilitySet;

use crate::sandbox::answering::{Answers, answer_from_now_on};
use crate::sandbox::caps;
use crate::sandbox::chroot::answer::Question;
use crate::sandbox::chroot::bury::become_reaper;
use crate::sandbox::chroot::calls::{Topic, verdicts};
use crate::sandbox::chroot::inside::Inside;
use crate::sandbox::chroot::wall;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Message, Order, Outcome, send};
use crate::sandbox::step::{self, Confinement};
use crate::sandbox::{limits, seccomp, start};
use crate::sys::notify::{self, Listener, Notification};
use crate::sys::process::{fork_with, set_no_new_privileges};

/// What root may do in a step of Docker's, without what would reach others here: the network of the
/// pod is the builder's, devices work, and a second `chroot` would let it climb out of the first.
pub(in crate::sandbox) const KEPT: CapabilitySet = caps::DOCKERS
    .difference(CapabilitySet::MKNOD)
    .difference(CapabilitySet::NET_RAW)
    .difference(CapabilitySet::SETPCAP)
    .difference(CapabilitySet::SYS_CHROOT);

/// Runs the order and reports on `reports`. Returns this process's exit code.
pub(super) fn main(order: &Order, inside: Inside, reports: &File) -> i32 {
    let outcome = run(order, inside).unwrap_or_else(Outcome::from);
    match send(reports, &Message::Ended(outcome)) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn run(order: &Order, inside: Inside) -> Result<Outcome, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .to("tie the sandbox to its parent")?;
    become_reaper().to("become the reaper of the step's processes")?;
    limits::set_usual().to("set the resource limits")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).to("open `/dev/null`")?;
    start::prepare_streams(order, Some(null.as_fd())).to("prepare the standard streams")?;

    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .to("make a pair of sockets")?;
    let (failure, failed) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    let command = fork_with(|| command(order, &inside, &theirs, &failed));
    let command = command.to("start the command's process")?;
    drop((theirs, failed));
    let listener = notify::receive_descriptor(ours).to("hear from the command's process")?;
    if let Some(listener) = listener {
        let listener = Listener::from_descriptor(listener);
        listener.take_turns();
        answer_from_now_on(Arc::new(Desk { inside, listener })).to("start a thread")?;
    }
    let not_started = start::not_started(failure).to("hear from the command's process")?;
    let status = start::reap(command).to("wait for the command")?;
    Ok(not_started.unwrap_or_else(|| start::outcome(status)))
}

/// What is inside, and where calls come from.
struct Desk {
    inside: Inside,
    listener: Listener,
}

impl Answers for Desk {
    fn listener(&self) -> &Listener {
        &self.listener
    }

    fn answer(&self, notification: Notification) {
        let Self { inside, listener } = self;
        // Whatever goes wrong with one call is that call's trouble, and a caller that hears nothing is
        // killed in the end.
        let _ = Question { inside, listener, notification }.answer();
    }
}

/// Runs in the command's process, which becomes the command.
fn command(order: &Order, inside: &Inside, to_supervisor: &OwnedFd, failed: &OwnedFd) -> i32 {
    if let Err(failure) = enter(inside, &order.spec.cwd) {
        step::tell(failed, &Outcome::from(failure));
        return 127;
    }
    let network = order.spec.host_network;
    let confine = || confine(inside, network, to_supervisor);
    step::main(order, failed, &Confinement { kept: KEPT, confine: &confine })
}

fn enter(inside: &Inside, cwd: &str) -> Result<(), Failure> {
    fchdir(&inside.root).to("enter the root directory")?;
    chroot(".").to("change the root directory")?;
    chdir("/").to("enter the root directory")?;
    step::make_directory(cwd)
}

/// Puts up the wall, and the filter that asks.
fn confine(inside: &Inside, network: bool, to_supervisor: &OwnedFd) -> Result<(), Failure> {
    let asked = inside.asked.clone();
    let asked = if network { asked } else { asked.and(Topic::Sockets) };
    wall::build(inside.root.as_fd(), network).to("keep the step in its root directory")?;
    caps::limit(KEPT).to("limit the capabilities")?;
    set_no_new_privileges().to("set \"no new privileges\"")?;
    let filter = seccomp::filter(&verdicts(&asked));
    let listener = notify::install(&filter).to("install the system call filter")?;
    notify::send_descriptor(to_supervisor, &listener).to("hand the filter to its supervisor")
}
