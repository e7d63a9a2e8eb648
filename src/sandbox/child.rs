//! The sandbox's own process: takes an order, and has it carried out by the backend it names.
//!
//! It is a fresh copy of this program, so nothing of the builder is in its memory. It ends the
//! sandbox when the builder ends or closes its pipe; if it is killed itself, the kernel ends the
//! sandbox.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::process::{Pid, Signal};

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Order, Outcome, receive, send};
use crate::sandbox::{Isolation, chroot, emulate, enter, namespaces};
use crate::sys::process::inherited;

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
    let outcome = serve(orders).unwrap_or_else(Outcome::from);
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
    match order.isolation {
        Isolation::Namespaces => namespaces::serve(&order, orders),
        Isolation::Chroot => chroot::serve(&order, orders),
        Isolation::Emulate => emulate::serve(&order, orders),
    }
}
