//! When changes begin.
//!
//! A file's change time (ctime) is set by the kernel whenever the file or its metadata changes, and
//! nobody can set it to anything else. Its clock is coarse, though: it ticks every few milliseconds.
//! So before a command may begin, the clock must have ticked once since the tree was made.

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, statx};

/// A point of the clock that stamps changes: seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, u32);

impl Moment {
    /// When the file was last changed in any way.
    pub(super) fn of_change(stat: &Statx) -> Self {
        Self(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
    }

    /// When the file was made; the beginning of time where the file system does not say.
    pub(super) fn of_birth(stat: &Statx) -> Self {
        if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME) {
            Self(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)
        } else {
            Self(0, 0)
        }
    }

    /// As bytes, for a file of ours.
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.0.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.1.to_ne_bytes());
        bytes
    }
}

/// Waits until the clock has ticked, and gives the new time: what was changed before this call has an
/// earlier one, and what is changed afterwards has this or a later one. Uses the name `clock` in
/// `directory`.
pub(super) fn tick(directory: impl AsFd) -> io::Result<Moment> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let probe = rustix::fs::openat(directory, "clock", flags, Mode::RUSR | Mode::WUSR)?;
    let touch = || -> io::Result<Moment> {
        rustix::fs::fchmod(&probe, Mode::RUSR | Mode::WUSR)?;
        let stat = statx(&probe, "", AtFlags::EMPTY_PATH, StatxFlags::CTIME)?;
        Ok(Moment::of_change(&stat))
    };
    let before = touch()?;
    loop {
        let now = touch()?;
        if now > before {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_after_a_tick_is_later_than_what_was_before() {
        let directory = tempfile::tempdir().expect("writable");
        let root = crate::sys::beneath::open_root(directory.path()).expect("open");
        let look = |name: &str| {
            std::fs::write(directory.path().join(name), "x").expect("writable");
            let stat = statx(&root, name, AtFlags::empty(), StatxFlags::CTIME).expect("there");
            Moment::of_change(&stat)
        };
        for number in 0..20 {
            let before = look(&format!("before-{number}"));
            let tick = tick(&root).expect("the clock ticks");
            assert!(before < tick);
            assert!(look(&format!("after-{number}")) >= tick);
        }
    }
}
