//! What every backend does around the command's process: before it starts, and until it has ended.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::sandbox::protocol::{Order, Outcome};

/// Empty input if the command has none, from `null` if that is given, and output that the command's user may open again as
/// `/dev/stdout`.
pub(super) fn prepare_streams(order: &Order, null: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if !order.spec.interactive {
        if let Some(null) = null {
            rustix::stdio::dup2_stdin(null)?;
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::stdio::dup2_stdin(rustix::fs::open("/dev/null", flags, Mode::empty())?)?;
        }
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
pub(super) fn not_started(failure: OwnedFd) -> io::Result<Option<Outcome>> {
    let mut said = Vec::new();
    File::from(failure).read_to_end(&mut said)?;
    if said.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&said)?)) }
}

/// Waits for `command`, and for every orphan that is handed to the first process meanwhile.
pub(super) fn reap(command: Pid) -> io::Result<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the end of the command's process means.
pub(super) fn outcome(status: WaitStatus) -> Outcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signaled(signal),
        (None, None) => Outcome::Lost,
    }
}
