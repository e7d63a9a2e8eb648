//! The first process of a step: gives itself up to its supervisor, then becomes the command.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;

use crate::sandbox::emulate::filter::{self, Surroundings};
use crate::sandbox::emulate::world::World;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Order, Outcome};
use crate::sandbox::{limits, step};
use crate::sys::landlock::{self, EXECUTE, READ_FILE, Ruleset};
use crate::sys::notify;
use crate::sys::process::{close_on_exec_from_3, reset_signals, set_no_new_privileges};

/// Becomes the command; returns only if that failed, having said why on `failed`.
pub(super) fn main(order: &Order, world: &World, supervisor: &OwnedFd, failed: &OwnedFd) -> i32 {
    let outcome = match give_up(order, world, supervisor) {
        Ok(()) => {
            let program = order.spec.args.first().cloned().unwrap_or_default();
            let errno = step::execute(&order.spec).raw_os_error().unwrap_or(libc::EINVAL);
            Outcome::NotStarted { program, errno }
        }
        Err(failure) => Outcome::from(failure),
    };
    if let (Ok(said), Ok(pipe)) = (serde_json::to_vec(&outcome), failed.try_clone()) {
        let _ = File::from(pipe).write_all(&said);
    }
    127
}

fn give_up(order: &Order, world: &World, supervisor: &OwnedFd) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .to("tie the step to its supervisor")?;
    // A session of its own, or `kill 0` would reach the supervisor.
    rustix::process::setsid().to("start a session")?;
    if !order.spec.interactive {
        empty_input().to("prepare the standard input")?;
    }
    limits::set_usual().to("set the resource limits")?;
    order.spec.limits.iter().try_for_each(limits::set)?;
    reset_signals().to("reset the signals")?;
    close_on_exec_from_3().to("close the builder's files")?;
    await_word(supervisor).to("wait to be traced")?;
    set_no_new_privileges().to("give up new privileges")?;
    let version = landlock::version();
    if let Some(version) = version {
        wall_in(world, version).to("give up access to the machine's files")?;
    }
    let scoped = landlock::is_scoped(version);
    let network = order.spec.host_network;
    let quotas = world.mounts.iter().any(|mount| mount.quota.is_some());
    let surroundings = Surroundings { scoped, network, quotas };
    let listener =
        notify::install(&filter::filter(surroundings)).to("install the system call filter")?;
    notify::send_descriptor(supervisor, &listener).to("hand over to the supervisor")?;
    drop(listener);
    await_word(supervisor).to("wait for the supervisor")
}

fn empty_input() -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    Ok(rustix::stdio::dup2_stdin(&null)?)
}

/// The second wall: the kernel itself opens nothing for the step but programs.
fn wall_in(world: &World, version: i32) -> io::Result<()> {
    let rules = Ruleset::new(version)?;
    rules.allow(world.mounts.tree(), EXECUTE | READ_FILE)?;
    rules.allow(world.programs.directory(), EXECUTE | READ_FILE)?;
    rules.enforce()
}

/// Waits for a byte.
fn await_word(supervisor: &OwnedFd) -> io::Result<()> {
    match rustix::io::read(supervisor, &mut [0])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
