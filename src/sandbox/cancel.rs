//! A flag that ends running steps.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::pipe::PipeFlags;

/// A flag that ends running steps, and that stays set. Clones are the same flag.
///
/// Setting it is safe from any thread, and twice does no harm.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    set: AtomicBool,
    /// Becomes readable, for good, when the flag is set: nobody reads from it.
    seen: OwnedFd,
    tell: OwnedFd,
}

impl Cancel {
    /// A flag that is not set.
    ///
    /// # Errors
    ///
    /// Fails if this process may open no more descriptors.
    pub fn new() -> io::Result<Self> {
        let (seen, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Flag { set: AtomicBool::new(false), seen, tell })))
    }

    /// Ends what runs, and lets nothing new start.
    pub fn cancel(&self) {
        if !self.0.set.swap(true, Ordering::SeqCst) {
            // An empty pipe has room for a byte, and we hold the other end.
            let _ = rustix::io::write(&self.0.tell, b"x");
        }
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Readable when the flag is set.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.seen.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_seen_by_its_clones_and_by_poll() {
        let flag = Cancel::new().expect("a pipe");
        let clone = flag.clone();
        assert!(!clone.is_cancelled());
        flag.cancel();
        flag.cancel();
        assert!(clone.is_cancelled());
        let ready = crate::sys::process::poll([Some(clone.descriptor())]).expect("poll");
        assert_eq!(ready, [true]);
    }
}
