//! Where paths led a moment ago: many programs look at the same few files over and over, such as
//! `/etc/localtime` for each time that they print.
//!
//! Only the way is remembered, until any name in the step's files changes: what is at its end is looked
//! at anew each time. All names are made and removed by the supervisor, which calls
//! [`forget`](Known::forget) when it has done so, and before the step hears of it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sys::notify::Notification;

/// How many paths are remembered at a time.
const MOST: usize = 128;

/// Ways that are remembered.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Counts changes.
    change: AtomicU64,
    ways: Mutex<Ways>,
}

#[derive(Debug, Default)]
struct Ways {
    /// After which change they were found.
    change: u64,
    /// By path, and by whether a link at the end was followed.
    ends: HashMap<(Vec<u8>, bool), End>,
}

/// Where a path leads: to a file, open as a path only, or to nothing.
pub(super) type End = Option<Arc<OwnedFd>>;

/// Up to which change something was true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Known {
    /// To be asked before a path is looked up that will be remembered.
    pub(super) fn now(&self) -> Moment {
        Moment(self.change.load(Ordering::SeqCst))
    }

    /// Where a path leads, if that is known.
    pub(super) fn find(&self, path: &[u8], follow: bool) -> Option<End> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if ways.ends.is_empty() || Moment(ways.change) != self.now() {
            return None;
        }
        ways.ends.get(&(path.to_vec(), follow)).cloned()
    }

    /// Remembers where a path has led since `moment`.
    pub(super) fn remember(&self, moment: Moment, path: &[u8], follow: bool, end: End) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if Moment(ways.change) != moment || ways.ends.len() >= MOST {
            ways.ends.clear();
            ways.change = moment.0;
        }
        ways.ends.insert((path.to_vec(), follow), end);
    }

    /// To be called when names have changed.
    pub(super) fn forget(&self) {
        self.change.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether a call can make, move or remove a name.
pub(super) fn changes_names(asked: &Notification) -> bool {
    let creates =
        |flags: usize| asked.arguments[flags] & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
    match i64::from(asked.call) {
        libc::SYS_open => creates(1),
        libc::SYS_openat => creates(2),
        libc::SYS_openat2
        | libc::SYS_creat
        | libc::SYS_mkdir
        | libc::SYS_mkdirat
        | libc::SYS_mknod
        | libc::SYS_mknodat
        | libc::SYS_symlink
        | libc::SYS_symlinkat
        | libc::SYS_link
        | libc::SYS_linkat
        | libc::SYS_unlink
        | libc::SYS_rmdir
        | libc::SYS_unlinkat
        | libc::SYS_rename
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_bind => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_known_until_names_change() {
        let file = || Some(Arc::new(OwnedFd::from(tempfile::tempfile().expect("writable"))));
        let known = Known::default();
        assert!(known.find(b"/a", true).is_none());
        known.remember(known.now(), b"/a", true, file());
        assert!(known.find(b"/a", true).is_some() && known.find(b"/a", false).is_none());
        known.forget();
        assert!(known.find(b"/a", true).is_none());
        // What was found before a change, and is told of after it, is not believed.
        let before = known.now();
        known.forget();
        known.remember(before, b"/a", true, file());
        assert!(known.find(b"/a", true).is_none());
        for number in 0..=MOST {
            known.remember(known.now(), number.to_string().as_bytes(), true, file());
        }
        assert_eq!(known.ways.lock().expect("whole").ends.len(), 1);
    }
}
