//! The sandbox's own process: makes the namespaces, watches the first process inside, tidies up.
//!
//! It is a fresh copy of this program, so nothing of the builder is in its memory. It stays
//! outside the mount and process namespaces that the command sees. It ends the sandbox when the
//! builder ends or closes its pipe; if it is killed itself, the kernel ends the sandbox.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint;
use crate::sandbox::protocol::{Message, Order, Outcome, receive, send};
use crate::sandbox::{enter, init};
use crate::sys::namespace::unshare;
use crate::sys::process::{Fork, exit_now, fork, inherited, poll};

/// The first argument that makes this program a sandbox: `main` then calls [`child_main`].
pub const CHILD_ARGUMENT: &str = "sandbox-init";

/// What the program does when its first argument is [`CHILD_ARGUMENT`], instead of all else.
///
/// It takes its orders from a pipe whose number is the second argument, and answers on the one
/// whose number is the third.
pub fn child_main() -> ExitCode {
    let mut numbers = std::env::args().skip(2).map_while(|word| word.parse().ok());
    let mut next = || inherited(numbers.next()?).ok();
    let (Some(orders), Some(answers)) = (next(), next()) else {
        return ExitCode::FAILURE;
    };
    let answers = File::from(answers);
    let outcome = serve(orders).unwrap_or_else(|failure| Outcome::Failed {
        action: failure.action,
        errno: failure.source.raw_os_error().unwrap_or(libc::EIO),
    });
    match send(&answers, &outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(orders: OwnedFd) -> Result<Outcome, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .to("tie the sandbox to the builder")?;
    rustix::process::setsid().to("start a session")?;
    enter::set_umask();
    let orders = File::from(orders);
    let order: Option<Order> = receive(&orders).to("read the order")?;
    let Some(order) = order else { return Ok(Outcome::Lost) };
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(order.builder) {
        // It died before it was tied to.
        return Ok(Outcome::Lost);
    }
    make_namespaces(&order)?;

    let (reports, reporting) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    match fork().to("start the first process inside")? {
        Fork::Child => {
            // What is closed by someone's death must not be held open by a copy in there.
            drop((orders, reports));
            let code = init::main(&order, &File::from(reporting));
            exit_now(code)
        }
        Fork::Parent(first) => {
            drop(reporting);
            watch(&order, first, &orders, &File::from(reports))
        }
    }
}

/// Everything but the mount namespace, which the first process makes for itself: what it leaves
/// behind can then be tidied up from here.
fn make_namespaces(order: &Order) -> Result<(), Failure> {
    let mut wanted = UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if !order.spec.host_network {
        wanted |= UnshareFlags::NEWNET;
    }
    unshare(wanted).to("make namespaces")?;
    // Kernels without control groups cannot, and nothing needs it.
    let _ = unshare(UnshareFlags::NEWCGROUP);
    Ok(())
}

/// Waits until the first process has ended, and with it all others inside.
fn watch(order: &Order, first: Pid, orders: &File, reports: &File) -> Result<Outcome, Failure> {
    let (mut made, mut outcome) = (Vec::new(), Outcome::Lost);
    let mut cancelled = false;
    loop {
        let control = if cancelled { None } else { Some(orders.as_fd()) };
        let ready = poll([Some(reports.as_fd()), control]).to("wait for the sandbox")?;
        if ready[1] {
            // The builder sends nothing after its order, so this is its end or its wish.
            cancelled = true;
            rustix::process::kill_process(first, Signal::KILL).to("end the sandbox")?;
        }
        if ready[0] {
            match receive(reports) {
                Ok(Some(Message::Made(places))) => made = places,
                Ok(Some(Message::Ended(how))) => outcome = how,
                // It has ended, or was killed in the middle of a message.
                Ok(None) | Err(_) => break,
            }
        }
    }
    wait_for(first).to("wait for the sandbox")?;
    mountpoint::remove(&order.spec.root.upper, &made).to("remove mount points from the layer")?;
    Ok(outcome)
}

fn wait_for(first: Pid) -> io::Result<()> {
    loop {
        match rustix::process::waitpid(Some(first), WaitOptions::empty()) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
