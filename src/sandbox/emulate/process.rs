//! The step's processes: who they are, where they stand, and that there are no others.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use rustix::process::Pid;

use crate::sandbox::emulate::credentials::Credentials;
use crate::sandbox::emulate::start_point::Base;

/// One process; its threads share it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// The directory in `/proc` that lists its descriptors, once it is known.
    pub(super) descriptors: OnceLock<OwnedFd>,
    state: Mutex<State>,
}

/// What the supervisor knows of a process.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) credentials: Arc<Credentials>,
    /// The working directory.
    pub(super) directory: Arc<Base>,
    pub(super) umask: u32,
    /// The program, as the step names it.
    pub(super) program: Arc<[u8]>,
}

impl Process {
    pub(super) fn new(pid: Pid, state: State) -> Self {
        Self { pid, descriptors: OnceLock::new(), state: Mutex::new(state) }
    }

    /// Who it is now.
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.with(|state| Arc::clone(&state.credentials))
    }

    /// Where it stands now.
    pub(super) fn directory(&self) -> Arc<Base> {
        self.with(|state| Arc::clone(&state.directory))
    }

    /// Its program, as the step names it.
    pub(super) fn program(&self) -> Arc<[u8]> {
        self.with(|state| Arc::clone(&state.program))
    }

    /// Reads or changes what is known of it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Becomes somebody else, or stays as it is where that fails.
    pub(super) fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Credentials) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|state| {
            let mut new = Credentials::clone(&state.credentials);
            let result = change(&mut new)?;
            state.credentials = Arc::new(new);
            Ok(result)
        })
    }
}

/// All processes of the step, by the numbers of their threads.
#[derive(Debug, Default)]
pub(super) struct Processes(RwLock<HashMap<Pid, Arc<Process>>>);

impl Processes {
    /// The process that a thread belongs to; `None` if it is not one of the step's.
    pub(super) fn of(&self, thread: Pid) -> Option<Arc<Process>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&thread).cloned()
    }

    /// The process with this number, which must be one of the step's.
    pub(super) fn get(&self, pid: Pid) -> Option<Arc<Process>> {
        self.of(pid).filter(|process| process.pid == pid)
    }

    /// The process numbers, ascending.
    pub(super) fn numbers(&self) -> Vec<Pid> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut numbers: Vec<Pid> = table.values().map(|process| process.pid).collect();
        numbers.sort_unstable_by_key(|pid| pid.as_raw_pid());
        numbers.dedup();
        numbers
    }

    /// A thread that has been started.
    pub(super) fn insert(&self, thread: Pid, process: Arc<Process>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(thread, process);
    }

    /// A thread that has ended.
    pub(super) fn remove(&self, thread: Pid) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&thread);
    }
}
