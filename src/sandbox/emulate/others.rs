//! Calls about other processes: there are only the step's own, and among them users are told apart.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgid, kill_process};

use crate::sandbox::emulate::call::{Answered, Call, Reply};
use crate::sandbox::emulate::credentials::cap;
use crate::sandbox::emulate::process::Process;

const GROUP_OF_PRIORITIES: u32 = 1;
const GROUP_OF_INPUT_OUTPUT: u32 = 2;

/// `kill(process, signal)`.
pub(super) fn kill(call: &Call<'_>) -> Answered {
    match call.int(0) {
        // The caller's own group, which is within the step's session.
        0 => Ok(Reply::Continue),
        -1 => kill_all(call),
        group if group < 0 => {
            let members = members(call, group.checked_neg().ok_or(Errno::SRCH)?);
            if members.is_empty() {
                return Err(Errno::SRCH);
            }
            if members.iter().any(|member| may_signal(call, member)) {
                Ok(Reply::Continue)
            } else {
                Err(Errno::PERM)
            }
        }
        _ => signal(call, 0),
    }
}

/// A signal to the process or thread that the argument `index` is.
pub(super) fn signal(call: &Call<'_>, index: usize) -> Answered {
    let process = process(call, index)?;
    if may_signal(call, &process) { Ok(Reply::Continue) } else { Err(Errno::PERM) }
}

/// A call that may go on if the argument `index` is a process or thread of the step's.
pub(super) fn known(call: &Call<'_>, index: usize) -> Answered {
    process(call, index).map(|_| Reply::Continue)
}

/// `setpriority(which, who, …)` and `ioprio_set`, whose kinds are one higher.
pub(super) fn priority(call: &Call<'_>, is_io: bool) -> Answered {
    let group = if is_io { GROUP_OF_INPUT_OUTPUT } else { GROUP_OF_PRIORITIES };
    match (call.bits(0), call.int(1)) {
        // All processes of the real user: those outside too.
        (which, _) if which > group => Err(Errno::PERM),
        (_, 0) => Ok(Reply::Continue),
        (which, who) if which == group => {
            if members(call, who).is_empty() {
                Err(Errno::SRCH)
            } else {
                Ok(Reply::Continue)
            }
        }
        _ => known(call, 1),
    }
}

fn process(call: &Call<'_>, index: usize) -> Result<std::sync::Arc<Process>, Errno> {
    let pid = Some(call.int(index)).filter(|pid| *pid > 0).and_then(Pid::from_raw);
    pid.and_then(|pid| call.world.processes.of(pid)).ok_or(Errno::SRCH)
}

/// The step's processes in a group.
fn members(call: &Call<'_>, group: i32) -> Vec<std::sync::Arc<Process>> {
    let all = call.world.processes.numbers().into_iter();
    let in_group = |pid: &Pid| getpgid(Some(*pid)).is_ok_and(|found| found.as_raw_pid() == group);
    all.filter(in_group).filter_map(|pid| call.world.processes.get(pid)).collect()
}

fn may_signal(call: &Call<'_>, target: &Process) -> bool {
    let (who, whose) = (call.process.credentials(), target.credentials());
    let same = |id| [whose.users.real, whose.users.saved].contains(&id);
    target.pid == call.process.pid
        || who.can(cap::KILL)
        || same(who.users.real)
        || same(who.users.effective)
}

fn kill_all(call: &Call<'_>) -> Answered {
    let number = call.int(1);
    let signal = match number {
        0 => None,
        _ => Some(Signal::from_named_raw(number).ok_or(Errno::INVAL)?),
    };
    let mut result = Err(Errno::SRCH);
    for pid in call.world.processes.numbers() {
        let Some(target) = call.world.processes.get(pid) else { continue };
        if pid == call.process.pid || !may_signal(call, &target) {
            continue;
        }
        result = match signal {
            Some(signal) => kill_process(pid, signal).map(|()| Reply::DONE),
            None => Ok(Reply::DONE),
        };
    }
    result
}
