//! What has been learnt about a host: how it is spoken to, what it wants to see, and what it has
//! been shown so far.
//!
//! One grant for each set of scopes. Whoever needs one that another task is fetching waits for it
//! instead of fetching it again (rule B030).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use reqwest::header::HeaderValue;

use crate::registry::challenge::{BearerChallenge, Challenge};
use crate::registry::error::Login;

/// A value of `Authorization`, and until when it is used.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) header: HeaderValue,
    /// `None` for as long as the host takes it.
    pub(crate) until: Option<Instant>,
    /// The same, according to whoever issued it, who may be too strict.
    pub(crate) declared: Option<Instant>,
    pub(crate) login: Login,
}

impl Grant {
    /// Whether it is worth sending. With a large body nothing is risked: if the host refuses it, all
    /// of that is sent again (rule B031).
    pub(crate) fn is_fresh(&self, with_large_body: bool) -> bool {
        let until = if with_large_body { self.declared } else { self.until };
        until.is_none_or(|until| Instant::now() < until)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(…)")
    }
}

/// The grant for one set of scopes, locked while it is fetched.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Grant>>>;

/// What has been learnt about a host.
#[derive(Debug, Default)]
pub(crate) struct Host {
    scheme: tokio::sync::OnceCell<&'static str>,
    refuses_chunks: AtomicBool,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    challenge: Option<Challenge>,
    slots: BTreeMap<String, Slot>,
    login: Option<Login>,
}

impl Host {
    /// The scheme by which the host is spoken to, which `find_out` finds out once.
    pub(crate) async fn scheme<E>(
        &self,
        find_out: impl Future<Output = Result<&'static str, E>>,
    ) -> Result<&'static str, E> {
        self.scheme.get_or_try_init(|| find_out).await.copied()
    }

    /// The same, if it was found out before.
    pub(crate) fn known_scheme(&self) -> Option<&'static str> {
        self.scheme.get().copied()
    }

    /// Whether the host is known to take blobs whole only.
    pub(crate) fn refuses_chunks(&self) -> bool {
        self.refuses_chunks.load(Ordering::Relaxed)
    }

    /// Notes that the host takes blobs whole only.
    pub(crate) fn refuse_chunks(&self) {
        self.refuses_chunks.store(true, Ordering::Relaxed);
    }

    /// What the host wants to see, if it has ever said so.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        self.locked(|learnt| learnt.challenge.clone())
    }

    /// Notes what the host wants to see: of a challenge, the part that holds for all requests.
    pub(crate) fn set_challenge(&self, challenge: &Challenge) {
        let general = match challenge {
            Challenge::Basic => Challenge::Basic,
            Challenge::Bearer(bearer) => {
                Challenge::Bearer(BearerChallenge { scope: None, error: None, ..bearer.clone() })
            }
        };
        self.locked(|learnt| learnt.challenge = Some(general));
    }

    /// The place of the grant for one set of scopes.
    pub(crate) fn slot(&self, key: &str) -> Slot {
        self.locked(|learnt| Arc::clone(learnt.slots.entry(key.to_owned()).or_default()))
    }

    /// Whether the host was told who asks.
    pub(crate) fn login(&self) -> Login {
        self.locked(|learnt| learnt.login).unwrap_or(Login::Anonymous)
    }

    /// Notes whether the host was told who asks.
    pub(crate) fn set_login(&self, login: Login) {
        self.locked(|learnt| learnt.login = Some(login));
    }

    fn locked<T>(&self, act: impl FnOnce(&mut Learnt) -> T) -> T {
        // A panic while the lock was held left nothing half-done: each use is one assignment.
        act(&mut self.learnt.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
