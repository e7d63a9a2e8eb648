//! How many processes and threads a step may have. Root is not held by `RLIMIT_NPROC`, so they are
//! counted here: a new one is asked for, and refused when there are too many.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::sandbox::chroot::bury::{Process, processes};

/// As many as a step may have if nobody says.
pub(super) const MOST: u64 = 4096;
/// Counting all processes of the machine takes a while.
const REST: Duration = Duration::from_millis(50);

/// The number of processes and threads that descend from this process.
#[derive(Debug)]
pub(super) struct Census {
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At least as many as there are: nobody says when one ends.
    at_most: u64,
    full_at: Option<Instant>,
}

impl Census {
    pub(super) fn new(most: u64) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Whether there may be one more.
    pub(super) fn admits(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.at_most >= self.most {
            if state.full_at.is_some_and(|at| at.elapsed() < REST) {
                return false;
            }
            let me = rustix::process::getpid().as_raw_pid();
            let all: Vec<Process> = processes().map(Iterator::collect).unwrap_or_default();
            state.at_most = threads_below(me, &all);
            state.full_at = (state.at_most >= self.most).then(Instant::now);
            if state.full_at.is_some() {
                return false;
            }
        }
        state.at_most += 1;
        true
    }
}

/// How many threads the processes have that descend from `ancestor`.
fn threads_below(ancestor: i32, all: &[Process]) -> u64 {
    let parents: HashMap<i32, i32> = all.iter().map(|it| (it.pid, it.parent)).collect();
    let descends = |pid: i32| {
        let ancestors = std::iter::successors(parents.get(&pid), |pid| parents.get(pid));
        // What was read while it changed could go round in a circle.
        ancestors.take(all.len()).any(|pid| *pid == ancestor)
    };
    all.iter().filter(|it| descends(it.pid)).map(|it| it.threads).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_counted_with_their_threads() {
        let process = |pid, parent, threads| Process { pid, parent, threads };
        let all = [
            process(1, 0, 1),
            process(5, 1, 9),
            process(6, 5, 1),
            process(7, 6, 3),
            process(8, 1, 7),
            process(20, 21, 1),
            process(21, 20, 1),
        ];
        assert_eq!(threads_below(5, &all), 4);
        assert_eq!(threads_below(8, &all), 0);
    }

    #[test]
    fn those_that_have_ended_make_room() {
        let census = Census::new(3);
        // This test starts none, so each time the three are used up, a count finds that none is left;
        // other tests of this process may have some.
        let admitted = (0..30).filter(|_| census.admits()).count();
        assert!(admitted >= 3, "{admitted}");
        assert!(!Census::new(0).admits());
    }
}
