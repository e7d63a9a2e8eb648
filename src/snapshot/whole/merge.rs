//! Putting a stack of layers together in one directory, as a copy, on all cores.

use std::num::NonZero;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode};

use crate::layer::Sidecar;
use crate::oci::ImagePath;
use crate::snapshot::SnapshotError;
use crate::snapshot::View;
use crate::snapshot::whole::duplicate::{At, Duplicator};
use crate::sys::beneath;

/// Copies everything that `view` shows in the directory `top` into the empty directory `root`. Gives
/// the records of what cannot carry its own.
pub(super) fn merge(
    view: &View,
    top: &ImagePath,
    root: BorrowedFd<'_>,
    duplicator: &Duplicator,
) -> Result<Sidecar, SnapshotError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let merger = Merger { view, top, root, duplicator, work: Work::new(top) };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| merger.take_part());
        }
    });
    let done = merger.work.into_inner();
    match done.failed {
        Some(error) => Err(error),
        None => Ok(done.records),
    }
}

struct Merger<'a> {
    view: &'a View,
    top: &'a ImagePath,
    root: BorrowedFd<'a>,
    duplicator: &'a Duplicator,
    work: Work,
}

/// Directories that wait to be filled.
struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<ImagePath>,
    /// How many threads may still find more.
    busy: usize,
    failed: Option<SnapshotError>,
    records: Sidecar,
}

impl Work {
    fn new(top: &ImagePath) -> Self {
        let waiting = vec![top.clone()];
        let state = State { waiting, busy: 0, failed: None, records: Sidecar::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_inner(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; `None` when all is done, or something has failed.
    fn next(&self) -> Option<ImagePath> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(path) = state.waiting.pop() {
                state.busy += 1;
                return Some(path);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Merger<'_> {
    fn take_part(&self) {
        while let Some(path) = self.work.next() {
            let filled = self.fill(&path);
            let mut state = self.work.lock();
            state.busy -= 1;
            match filled {
                Ok(below) => state.waiting.extend(below),
                Err(error) => state.failed = Some(error),
            }
            self.work.changed.notify_all();
        }
    }

    /// Where something is in the copy.
    fn in_copy(&self, path: &ImagePath) -> ImagePath {
        let top = if self.top.is_root() { 0 } else { self.top.as_bytes().len() };
        ImagePath::new(&path.as_bytes()[top..])
    }

    /// Copies what is in one directory; gives the directories in it, which are made and empty.
    fn fill(&self, path: &ImagePath) -> Result<Vec<ImagePath>, SnapshotError> {
        let merge = |source| SnapshotError::Merge { source };
        let to = beneath::open_directory(self.root, self.in_copy(path).relative())
            .map_err(SnapshotError::tree("open the copy of", path))?;
        let Some(topmost) = self.view.topmost(path).map_err(merge)? else { return Ok(Vec::new()) };
        let mut sources = Sources { view: self.view, path, open: Vec::new() };
        let mut below = Vec::new();
        for (name, index) in self.view.entries(path).map_err(merge)? {
            let (from, child) = (sources.get(index)?, path.join(&name));
            let copied = self.copy(from.as_fd(), &to, &name);
            match copied.map_err(SnapshotError::tree("copy", &child))? {
                FileType::Directory => below.push(child),
                FileType::RegularFile => {}
                _ => {
                    if let Some(record) = self.view.layers()[index].record(&child) {
                        self.work.lock().records.insert(child, record);
                    }
                }
            }
        }
        let from = sources.get(topmost)?;
        rustix::fs::statat(from, "", AtFlags::EMPTY_PATH)
            .map_err(std::io::Error::from)
            .and_then(|stat| self.duplicator.metadata(from, &stat, &to))
            .map_err(SnapshotError::tree("copy", path))?;
        Ok(below)
    }

    fn copy(&self, from: BorrowedFd<'_>, to: &OwnedFd, name: &[u8]) -> std::io::Result<FileType> {
        let (from, to) = (At::new(&from, name), At::new(to, name));
        let stat = from.stat()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => rustix::fs::mkdirat(to.directory, to.name, Mode::RWXU)?,
            _ => self.duplicator.file(from, &stat, to)?,
        }
        Ok(kind)
    }
}

/// One directory in each of the layers that have a part in it, opened when it is needed.
struct Sources<'a> {
    view: &'a View,
    path: &'a ImagePath,
    open: Vec<(usize, OwnedFd)>,
}

impl Sources<'_> {
    fn get(&mut self, index: usize) -> Result<&OwnedFd, SnapshotError> {
        let known = self.open.iter().position(|(other, _)| *other == index);
        if known.is_none() {
            let root = self.view.layers()[index].root();
            let opened = beneath::open_directory(root, self.path.relative())
                .map_err(SnapshotError::tree("open", self.path))?;
            self.open.push((index, opened));
        }
        Ok(&self.open[known.unwrap_or(self.open.len() - 1)].1)
    }
}
