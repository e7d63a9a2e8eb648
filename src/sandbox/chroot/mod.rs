//! The backend `chroot`: for uid 0 in an ordinary container, where nothing can be mounted.
//!
//! The step works in a private directory with `chroot`, which is a matter of names, and behind
//! Landlock, which is the wall ([`wall`]). `/proc`, `/dev` and what is only in memory are answered by
//! a supervisor ([`supervisor`], [`answer`]); everything else that is shown is put into the tree for
//! as long as the command runs ([`surroundings`], [`swap`]).
//!
//! Three processes: the sandbox's own watches, and tidies up when nothing runs any more; the
//! supervisor, its child, starts the command and answers; the command and what it starts descend from
//! both, so that what it leaves behind is found and ended, whichever of them is killed. When the
//! supervisor has ended, no process of the step can start another one: the call for that is one of
//! those that are asked about, and nobody answers.

mod answer;
mod bury;
mod caller;
mod calls;
mod census;
mod inside;
mod mirror;
mod proc;
mod served;
mod supervisor;
mod surroundings;
mod swap;
pub(super) mod wall;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::pipe::PipeFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior};
use rustix::thread::UnshareFlags;

use crate::sandbox::chroot::wall::Wall;
use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Message, Order, Outcome, receive};
use crate::sandbox::{RootFs, Spec};
use crate::sys::namespace::{loopback_up, unshare};
use crate::sys::process::{Fork, exit_now, fork, poll};

/// Carries out the order; `orders` closing means that the sandbox is to end.
pub(super) fn serve(order: &Order, orders: File) -> Result<Outcome, Failure> {
    let RootFs::Directory(tree) = &order.spec.root else {
        return refuse("stack layers without mounting them");
    };
    if order.spec.insecure {
        return refuse("give a step all privileges, of which there are none here");
    }
    let wall = Wall::of_kernel();
    if wall == Wall::None && !order.without_wall {
        return refuse(
            "keep a step in its root directory: this kernel has no Landlock, and \
             `--insecure-isolation` was not given",
        );
    }
    // What is put into the tree must be taken out again even if the builder dies: its end is seen at
    // the other end of its pipe.
    rustix::process::set_parent_process_death_signal(None).to("outlive the builder")?;
    // Root in a step is the same user, and may trace whoever lets it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).to("keep this process to itself")?;
    bury::become_reaper().to("become the reaper of the step's processes")?;
    let mut order = Order { spec: order.spec.clone(), ..*order };
    leave_network(&mut order.spec);
    let (surroundings, inside) = surroundings::prepare(&order.spec, tree, wall < Wall::All)?;
    let outcome = watch(&order, inside, orders);
    let buried = bury::bury().to("end what the command has left running");
    let removed = surroundings.remove().to("take out of the root what was put into it");
    outcome.and_then(|outcome| buried.and(removed).map(|()| outcome))
}

fn refuse(action: &str) -> Result<Outcome, Failure> {
    let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    Err(Failure { action: action.to_owned(), source })
}

/// A network of its own, where that can be had; otherwise a filter and Landlock see to it that the
/// step has none.
fn leave_network(spec: &mut Spec) {
    if !spec.host_network && unshare(UnshareFlags::NEWNET).is_ok() && loopback_up().is_ok() {
        spec.host_network = true;
    }
}

/// Starts the supervisor, and waits until it has ended.
fn watch(order: &Order, inside: inside::Inside, orders: File) -> Result<Outcome, Failure> {
    let (reports, reporting) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    let supervisor = match fork().to("start the supervisor")? {
        Fork::Child => {
            // What is closed by someone's death must not be held open by a copy in there.
            drop((orders, reports));
            let code = supervisor::main(order, inside, &File::from(reporting));
            exit_now(code)
        }
        Fork::Parent(supervisor) => supervisor,
    };
    drop((reporting, inside));
    let outcome = hear(supervisor, &orders, &File::from(reports));
    // It has nothing more to say, and must not answer any more.
    let _ = rustix::process::kill_process(supervisor, Signal::KILL);
    outcome
}

/// Waits for what the supervisor has to say, or for the builder to call it off.
fn hear(supervisor: Pid, orders: &File, reports: &File) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::Lost;
    let mut cancelled = false;
    loop {
        let control = if cancelled { None } else { Some(orders.as_fd()) };
        let ready = poll([Some(reports.as_fd()), control]).to("wait for the sandbox")?;
        if ready[1] {
            // The builder sends nothing after its order, so this is its end or its wish.
            cancelled = true;
            rustix::process::kill_process(supervisor, Signal::KILL).to("end the sandbox")?;
        }
        if ready[0] {
            match receive(reports) {
                Ok(Some(Message::Ended(how))) => outcome = how,
                Ok(Some(Message::Made(_))) => {}
                // It has ended, or was killed in the middle of a message.
                Ok(None) | Err(_) => return Ok(outcome),
            }
        }
    }
}
