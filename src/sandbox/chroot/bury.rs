//! Ending everything that a command has left running.
//!
//! This process is the reaper of all that descends from it: whoever's parent ends becomes its
//! child. So to kill its children until it has none leaves nothing, provided that nobody can start
//! new ones meanwhile; the supervisor's end sees to that, as the calls that would do it then fail.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) threads: u64,
}

/// Makes this process the reaper of its descendants.
pub(super) fn become_reaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Kills all descendants of this process, and waits for them.
pub(super) fn bury() -> io::Result<()> {
    let me = rustix::process::getpid().as_raw_pid();
    loop {
        for process in processes()?.filter(|process| process.parent == me) {
            if let Some(pid) = Pid::from_raw(process.pid) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if !await_some()? {
            return Ok(());
        }
    }
}

/// Waits for a child, and for all that have ended by then. Whether there was one.
fn await_some() -> io::Result<bool> {
    let mut options = WaitOptions::empty();
    loop {
        match wait(options) {
            Ok(Some(_)) => options = WaitOptions::NOHANG,
            Ok(None) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(options == WaitOptions::NOHANG),
            Err(error) => return Err(error.into()),
        }
    }
}

/// All processes that can be seen.
pub(super) fn processes() -> io::Result<impl Iterator<Item = Process>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        Process::parse(&fs::read(entry.path().join("stat")).ok()?)
    }))
}

impl Process {
    /// Reads `/proc/<pid>/stat`. The name of the program is in brackets, and may contain anything.
    fn parse(stat: &[u8]) -> Option<Self> {
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.trim().parse::<i64>().ok();
        let rest: Vec<&[u8]> = stat[close + 1..].split(|byte| *byte == b' ').skip(1).collect();
        Some(Self {
            pid: i32::try_from(number(&stat[..open])?).ok()?,
            parent: i32::try_from(number(rest.get(1)?)?).ok()?,
            threads: u64::try_from(number(rest.get(17)?)?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_look_like_anything() {
        let stat = b"42 (a) S 1 (b) R 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 99 1 1\n";
        let parsed = Process::parse(stat);
        assert_eq!(parsed, Some(Process { pid: 42, parent: 7, threads: 3 }));
        assert_eq!(Process::parse(b"nonsense"), None);
    }

    #[test]
    fn this_process_is_among_them() {
        let me = rustix::process::getpid().as_raw_pid();
        let found = processes().expect("/proc").find(|process| process.pid == me);
        let parent = rustix::process::getppid().expect("not the first").as_raw_pid();
        assert_eq!(found.expect("this one").parent, parent);
    }
}
