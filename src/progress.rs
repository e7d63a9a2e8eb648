//! How the library says what it is doing, without printing.

use std::{sync::Arc, time::Duration};

use crate::oci::Digest;

/// Names one piece of work for as long as a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Something that happened. The library only reports; the command line decides what to show.
#[derive(Debug, Clone)]
pub enum Event {
    /// A build has been planned: so many steps will run or be found in the cache.
    Planned {
        /// Steps of all stages that the target needs.
        steps: usize,
    },
    /// Work that a person would want to see began.
    Started {
        /// Its name in later events.
        task: TaskId,
        /// What it is, on one line: `[build 2/4] RUN pip install x`, `pull python:3.6-slim`.
        title: String,
    },
    /// The result of the task was found in the cache; `Finished` follows.
    Cached(TaskId),
    /// A command wrote to standard output or standard error.
    Output {
        /// Which task.
        task: TaskId,
        /// The bytes, as they came.
        bytes: Vec<u8>,
    },
    /// Bytes of a blob moved.
    Transfer {
        /// Which task.
        task: TaskId,
        /// Which blob.
        blob: Digest,
        /// How many bytes have moved so far.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// A remark on a task, such as `mounted from library/python`.
    Note {
        /// Which task.
        task: TaskId,
        /// The remark.
        text: String,
    },
    /// The work ended well.
    Finished {
        /// Which task.
        task: TaskId,
        /// How long it took.
        took: Duration,
    },
    /// The work failed; the error itself travels as an error.
    Failed(TaskId),
    /// Something a careful person would want to be told, in no way fatal.
    Warning(String),
}

/// Where events go: a terminal, a log, a JSON stream, or a `Vec` in a test.
pub trait Progress: Send + Sync {
    /// Takes note of `event`. Must not block for long: a step is waiting.
    fn report(&self, event: Event);
}

/// Events that nobody wants.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event) {}
}

/// A task under way. Reports `Started` when made, and `Finished` or `Failed` at its end.
///
/// Dropping it without [`finish`](Self::finish) means that the work failed.
pub struct Task {
    id: TaskId,
    progress: Arc<dyn Progress>,
    started: std::time::Instant,
    finished: bool,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.id.0)
    }
}

impl Task {
    /// Begins a task.
    pub fn start(progress: &Arc<dyn Progress>, title: impl Into<String>) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = TaskId(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        progress.report(Event::Started { task: id, title: title.into() });
        let started = std::time::Instant::now();
        Self { id, progress: Arc::clone(progress), started, finished: false }
    }

    /// Its name.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Says that the result was in the cache.
    pub fn cached(&self) {
        self.progress.report(Event::Cached(self.id));
    }

    /// Passes on what a command wrote.
    pub fn output(&self, bytes: &[u8]) {
        self.progress.report(Event::Output { task: self.id, bytes: bytes.to_vec() });
    }

    /// Says how far the transfer of a blob is.
    pub fn transfer(&self, blob: Digest, done: u64, total: u64) {
        self.reporter().transfer(blob, done, total);
    }

    /// Adds a remark.
    pub fn note(&self, text: impl Into<String>) {
        self.reporter().note(text);
    }

    /// Reports on this task from elsewhere.
    pub fn reporter(&self) -> Reporter {
        Reporter { task: self.id, progress: Arc::clone(&self.progress) }
    }

    /// The work ended well.
    pub fn finish(mut self) {
        self.finished = true;
        self.progress.report(Event::Finished { task: self.id, took: self.started.elapsed() });
    }
}

/// Reports on a task that somebody else begins and ends.
#[derive(Clone)]
pub struct Reporter {
    task: TaskId,
    progress: Arc<dyn Progress>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reporter({})", self.task.0)
    }
}

impl Reporter {
    /// Says how far the transfer of a blob is.
    pub fn transfer(&self, blob: Digest, done: u64, total: u64) {
        self.progress.report(Event::Transfer { task: self.task, blob, done, total });
    }

    /// Adds a remark.
    pub fn note(&self, text: impl Into<String>) {
        self.progress.report(Event::Note { task: self.task, text: text.into() });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            self.progress.report(Event::Failed(self.id));
        }
    }
}
