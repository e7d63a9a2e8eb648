//! Threads that answer a step's calls: one as long as it keeps up, more while it does not.
//!
//! A caller and a single thread that answers take turns on one processor. Each further thread that
//! waits for calls makes all of them slower, as the kernel gives calls to the threads in turn, and
//! wakes a thread elsewhere (4 us a call with one, 8 with two, 18 with eight, on Linux 6.18). So there
//! are more only while calls wait that nobody takes: because several processors make them, or because
//! an answer takes long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Pid;

use crate::sys::notify::{Listener, Notification};
use crate::sys::process::exit_now;

/// More threads than this do not answer faster.
const MOST: usize = 8;
/// A thread looks after so many answers whether there are too many calls for it.
const LOOK_AFTER: u32 = 16;
/// There may be if so many of them were not of the caller of the one before, and another waits. That
/// one waits means nothing: who has just been answered may have been quick.
const MANY_CALLERS: u32 = 4;
/// After so many looks in a row at which there were, there is one more thread.
const BUSY_LOOKS: u32 = 4;
/// After so many at which there were not, a thread goes, if it is not the last.
const QUIET_LOOKS: u32 = 8;
/// An answer that takes this long, while calls wait, takes long.
const LONG: Duration = Duration::from_millis(5);

/// Who knows the answers.
pub(super) trait Answers: Send + Sync + 'static {
    /// Where calls come from.
    fn listener(&self) -> &Listener;

    /// Answers one call.
    fn answer(&self, asked: Notification);
}

/// Answers calls in threads of its own, until nobody is left who could make any.
///
/// # Errors
///
/// Says why a thread could not be started.
pub(super) fn answer_from_now_on(answers: Arc<impl Answers>) -> io::Result<()> {
    let crew = Arc::new(Crew {
        answers,
        at_work: AtomicUsize::new(0),
        answering: AtomicUsize::new(0),
        answered: AtomicU64::new(0),
        usual: thread::available_parallelism().map_or(1, Into::into).clamp(2, MOST),
    });
    hire(&crew, 1)?;
    thread::Builder::new().spawn(move || watch(&crew))?;
    Ok(())
}

struct Crew<A> {
    answers: Arc<A>,
    /// How many threads there are, and how many of them have a call.
    at_work: AtomicUsize,
    answering: AtomicUsize,
    /// Counts the answers.
    answered: AtomicU64,
    /// How many threads there may be if no answer takes long.
    usual: usize,
}

/// Starts one more thread, if there are fewer than `most`.
fn hire<A: Answers>(crew: &Arc<Crew<A>>, most: usize) -> io::Result<()> {
    let more = |count: usize| (count < most).then_some(count + 1);
    if crew.at_work.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok() {
        let hired = Arc::clone(crew);
        thread::Builder::new().spawn(move || work(&hired)).inspect_err(|_| {
            crew.at_work.fetch_sub(1, Ordering::SeqCst);
        })?;
    }
    Ok(())
}

fn work<A: Answers>(crew: &Arc<Crew<A>>) {
    let _end = EndWithPanic;
    let listener = crew.answers.listener();
    let mut load = Load::default();
    while let Ok(Some(asked)) = listener.receive() {
        crew.answering.fetch_add(1, Ordering::SeqCst);
        crew.answers.answer(asked);
        crew.answering.fetch_sub(1, Ordering::SeqCst);
        crew.answered.fetch_add(1, Ordering::SeqCst);
        match load.after(asked.thread, || listener.is_asked()) {
            // For want of a thread it takes longer.
            Verdict::Hire => drop(hire(crew, crew.usual)),
            Verdict::Leave if leave(crew) => return,
            Verdict::Leave | Verdict::Stay => {}
        }
    }
}

/// How much one thread has had to do.
#[derive(Debug, Default)]
struct Load {
    answered: u32,
    callers: u32,
    last: Option<Pid>,
    busy: u32,
    quiet: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    Hire,
    Leave,
}

impl Load {
    /// What follows from one more answer.
    fn after(&mut self, caller: Pid, waits: impl FnOnce() -> bool) -> Verdict {
        self.answered += 1;
        self.callers += u32::from(self.last.replace(caller) != Some(caller));
        if !self.answered.is_multiple_of(LOOK_AFTER) {
            return Verdict::Stay;
        }
        if std::mem::take(&mut self.callers) >= MANY_CALLERS && waits() {
            (self.busy, self.quiet) = (self.busy + 1, 0);
            if self.busy.is_multiple_of(BUSY_LOOKS) { Verdict::Hire } else { Verdict::Stay }
        } else {
            (self.busy, self.quiet) = (0, self.quiet + 1);
            if self.quiet >= QUIET_LOOKS { Verdict::Leave } else { Verdict::Stay }
        }
    }
}

/// Whether this thread may go: one must stay.
fn leave<A>(crew: &Crew<A>) -> bool {
    let fewer = |count: usize| (count > 1).then(|| count - 1);
    crew.at_work.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
}

/// Sees to it that a call which takes long lets no others wait.
fn watch<A: Answers>(crew: &Arc<Crew<A>>) {
    let listener = crew.answers.listener();
    while listener.wait_until_asked().is_ok_and(|somebody| somebody) {
        let before = crew.answered.load(Ordering::SeqCst);
        thread::sleep(LONG);
        let all_busy = || {
            crew.answering.load(Ordering::SeqCst) >= crew.at_work.load(Ordering::SeqCst)
                && crew.answered.load(Ordering::SeqCst) == before
        };
        if all_busy() && listener.is_asked() {
            let _ = hire(crew, MOST);
        }
    }
}

/// Ends this process if its thread panics: nobody else would answer the calls that it had taken on.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            exit_now(101);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_callers_who_wait_need_more_threads_and_one_needs_one() {
        let pid = |number: u32| {
            let number = i32::try_from(number).expect("small");
            Pid::from_raw(number).expect("not 0")
        };
        let verdicts = |callers: u32, waits: bool| {
            let mut load = Load::default();
            let after = |call| load.after(pid(1 + call % callers), || waits);
            let verdicts: Vec<Verdict> = (0..1000).map(after).collect();
            (verdicts.contains(&Verdict::Hire), verdicts.contains(&Verdict::Leave))
        };
        assert_eq!(verdicts(1, true), (false, true));
        assert_eq!(verdicts(3, false), (false, true));
        assert_eq!(verdicts(3, true), (true, false));
    }
}
