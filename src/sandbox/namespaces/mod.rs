//! The backend `namespaces`: mounts, `pivot_root`, and process numbers of the step's own.
//!
//! The sandbox's own process stays outside the mount and process namespaces that the command sees:
//! `init` is the first process inside and builds the root (`root`, `overlay`, `kernel`, `dev`,
//! `binds`). When the command has ended, what was made only to be mounted on is tidied up.

mod binds;
mod dev;
pub(super) mod filesystem;
mod init;
mod kernel;
mod memory;
pub(super) mod overlay;
mod root;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::mountpoint;
use crate::sandbox::protocol::{Message, Order, Outcome, receive};
use crate::sys::namespace::unshare;
use crate::sys::process::{Fork, exit_now, fork, poll};

/// Carries out the order; `orders` closing means that the sandbox is to end.
pub(super) fn serve(order: &Order, orders: File) -> Result<Outcome, Failure> {
    make_namespaces(order)?;
    let (reports, reporting) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).to("open a pipe")?;
    match fork().to("start the first process inside")? {
        Fork::Child => {
            // What is closed by someone's death must not be held open by a copy in there.
            drop((orders, reports));
            let code = init::main(order, &File::from(reporting));
            exit_now(code)
        }
        Fork::Parent(first) => {
            drop(reporting);
            watch(order, first, &orders, &File::from(reports))
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
    mountpoint::remove(order.spec.root.upper(), &made).to("remove mount points from the layer")?;
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
