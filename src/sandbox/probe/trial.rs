//! Trying things in a process that is thrown away afterwards.
//!
//! Several trials share a process, as far as it gets: one that dies or hangs takes only itself
//! along, and those after it are tried in a process of their own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use rustix::process::{Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::sandbox::probe::technique::{Technique, Verdict};
use crate::sandbox::protocol::{receive, send};
use crate::sys::process::{fork_with, poll_until};

/// As long as one trial may take. They take less than a millisecond each, and a few where a helper
/// program is run; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something to try.
pub(super) struct Trial<'a> {
    pub(super) technique: Technique,
    pub(super) attempt: &'a dyn Fn() -> Verdict,
}

/// What the process that tries sends after each trial.
#[derive(Debug, Serialize, Deserialize)]
struct Report(Verdict);

/// Tries everything in turn, each in the state that those before it left. If one of the first
/// `base` trials fails, none after it is tried.
pub(super) fn run(trials: &[Trial<'_>], base: usize) -> io::Result<Vec<(Technique, Verdict)>> {
    let mut verdicts = Vec::new();
    while verdicts.len() < trials.len() {
        let rest = run_from(verdicts.len(), trials, base)?;
        let has_base = verdicts.iter().chain(&rest).take(base).all(Verdict::works);
        verdicts.extend(rest);
        if !has_base {
            verdicts.resize(trials.len(), Verdict::Untried);
        }
    }
    Ok(trials.iter().map(|trial| trial.technique).zip(verdicts).collect())
}

/// Tries what is left from `first` on, after doing the base again; at least one verdict.
fn run_from(first: usize, trials: &[Trial<'_>], base: usize) -> io::Result<Vec<Verdict>> {
    let (reports, reporting) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pid = fork_with(|| {
        let reporting = File::from(reporting);
        for (index, trial) in trials.iter().enumerate() {
            if index >= base && index < first {
                continue;
            }
            let verdict = (trial.attempt)();
            let works = verdict.works();
            if index >= first && send(&reporting, &Report(verdict)).is_err() {
                return 1;
            }
            if index < base && !works {
                break;
            }
        }
        0
    })?;
    // Our copy of `reporting` went with the closure, so the pipe ends with that process.
    let reports = File::from(reports);
    let mut verdicts = Vec::new();
    while first + verdicts.len() < trials.len() {
        let ready = poll_until([Some(reports.as_fd())], Some(Instant::now() + PATIENCE))?;
        if !ready[0] {
            rustix::process::kill_process(pid, Signal::KILL)?;
            break;
        }
        match receive::<Report>(&reports) {
            Ok(Some(Report(verdict))) => verdicts.push(verdict),
            Ok(None) | Err(_) => break,
        }
    }
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitpid(Some(pid), WaitOptions::empty())
    {}
    let base_failed = first < base && verdicts.last().is_some_and(|verdict| !verdict.works());
    if first + verdicts.len() < trials.len() && !(base_failed && first + verdicts.len() <= base) {
        verdicts.push(Verdict::Died);
    }
    Ok(verdicts)
}
