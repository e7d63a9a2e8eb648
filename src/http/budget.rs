//! How long a client may keep its user waiting in all (`--registry-timeout`).
//!
//! The clock runs while at least one exchange, or one wait before the next try, is under way: what
//! the user's own commands take meanwhile does not count.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The time that is left for waiting.
#[derive(Debug)]
pub(crate) struct Budget {
    /// `None` is for ever.
    limit: Option<Duration>,
    clock: Mutex<Clock>,
}

#[derive(Debug)]
struct Clock {
    /// How many are waiting just now.
    waiting: u32,
    /// When the first of them began.
    since: Instant,
    /// What was spent before that.
    spent: Duration,
}

/// All the time has been spent: so much there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent(pub(crate) Duration);

impl Budget {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let clock = Clock { waiting: 0, since: Instant::now(), spent: Duration::ZERO };
        Self { limit, clock: Mutex::new(clock) }
    }

    /// Awaits `future` for as long as there is time.
    pub(crate) async fn spend<T>(&self, future: impl Future<Output = T>) -> Result<T, Spent> {
        let Some(limit) = self.limit else { return Ok(future.await) };
        let turn = Turn::begin(self);
        let end = Instant::now() + limit.saturating_sub(turn.spent);
        tokio::time::timeout_at(end, future).await.map_err(|_| Spent(limit))
    }

    /// Waits for `pause`, or not at all if it would take more time than there is.
    pub(crate) async fn pause(&self, pause: Duration) -> Result<(), Spent> {
        if let Some(limit) = self.limit {
            let turn = Turn::begin(self);
            if limit.saturating_sub(turn.spent) < pause {
                return Err(Spent(limit));
            }
        }
        self.spend(tokio::time::sleep(pause)).await
    }

    fn with<T>(&self, act: impl FnOnce(&mut Clock) -> T) -> T {
        act(&mut self.clock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One that waits, for as long as this lives.
struct Turn<'a> {
    budget: &'a Budget,
    /// What had been spent when it began.
    spent: Duration,
}

impl<'a> Turn<'a> {
    fn begin(budget: &'a Budget) -> Self {
        let spent = budget.with(|clock| {
            if clock.waiting == 0 {
                clock.since = Instant::now();
            }
            clock.waiting += 1;
            clock.spent + clock.since.elapsed()
        });
        Self { budget, spent }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.budget.with(|clock| {
            clock.waiting -= 1;
            if clock.waiting == 0 {
                clock.spent += clock.since.elapsed();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// On a runtime whose clock jumps to the next timer when all wait.
    fn at_once(work: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(work);
    }

    #[test]
    fn only_waiting_counts_and_two_who_wait_count_once() {
        at_once(async {
            let budget = Budget::new(Some(10 * SECOND));
            let (one, other) = tokio::join!(budget.pause(6 * SECOND), budget.pause(4 * SECOND));
            assert_eq!((one, other), (Ok(()), Ok(())));
            tokio::time::sleep(100 * SECOND).await;
            assert_eq!(budget.spend(tokio::time::sleep(3 * SECOND)).await, Ok(()));
            let begun = Instant::now();
            let spent = Err(Spent(10 * SECOND));
            assert_eq!(budget.pause(2 * SECOND).await, spent, "it would not be over in time");
            assert_eq!(begun.elapsed(), Duration::ZERO);
            assert_eq!(budget.spend(std::future::pending::<()>()).await, spent);
            assert_eq!(begun.elapsed(), SECOND);
            assert_eq!(budget.spend(std::future::pending::<()>()).await, spent);
            assert_eq!(begun.elapsed(), SECOND);
        });
    }

    #[test]
    fn without_a_limit_there_is_always_time() {
        at_once(async {
            let budget = Budget::new(None);
            assert_eq!(budget.pause(1_000_000 * SECOND).await, Ok(()));
        });
    }
}
