//! Who makes a call: of which process and user, and what is in its memory.

use std::cell::RefCell;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};

use crate::sys::credentials::act_as;
use crate::sys::remote;

/// The longest path of the kernel.
const LONGEST_PATH: usize = 4096;

/// As whom files are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

thread_local! {
    /// As whom this thread acts.
    static ACTING: RefCell<Identity> = const {
        RefCell::new(Identity { uid: 0, gid: 0, groups: Vec::new() })
    };
}

impl Identity {
    /// The effective one of a process or thread, as its `status` tells.
    pub(super) fn of(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, saved and that for files. A program that differs in them is rare.
        let last = |line: &str| line.split_whitespace().nth(3)?.parse().ok();
        let groups = field("Groups:").unwrap_or_default();
        Some(Self {
            uid: last(field("Uid:")?)?,
            gid: last(field("Gid:")?)?,
            groups: groups.split_whitespace().filter_map(|gid| gid.parse().ok()).collect(),
        })
    }

    /// Lets this thread act as this user from now on.
    pub(super) fn assume(&self) -> io::Result<()> {
        ACTING.with_borrow_mut(|acting| {
            if acting != self {
                let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
                act_as(Uid::from_raw(self.uid), Gid::from_raw(self.gid), &groups)?;
                acting.clone_from(self);
            }
            Ok(())
        })
    }

    /// Whether somebody who is this may do to a file what these bits (4 read, 2 write, 1 execute) say.
    pub(super) fn may(&self, bits: u32, mode: u32, uid: u32, gid: u32) -> bool {
        let of = |shift: u32| mode >> shift & bits == bits;
        if self.uid == 0 {
            // Root may do all, but execute only what somebody may execute.
            return bits & 1 == 0 || mode & 0o111 != 0;
        }
        if self.uid == uid {
            of(6)
        } else if self.gid == gid || self.groups.contains(&gid) {
            of(3)
        } else {
            of(0)
        }
    }
}

/// The thread that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) Pid);

impl Caller {
    /// What `/proc` tells of the thread.
    pub(super) fn status(self) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/status", self.0.as_raw_pid()))
    }

    /// As whom it acts.
    pub(super) fn identity(self) -> io::Result<Identity> {
        Identity::of(&self.status()?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The process that the thread belongs to.
    pub(super) fn process(self) -> io::Result<i32> {
        let status = self.status()?;
        let field = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        let number = field.and_then(|field| field.trim().parse().ok());
        number.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// A path in its memory.
    ///
    /// # Errors
    ///
    /// `EPERM` for a process whose memory is nobody else's business: one that has changed its user and
    /// not executed anything since.
    pub(super) fn path(self, address: u64) -> Result<Vec<u8>, Errno> {
        self.with_memory(|| remote::read_string(self.0, address, LONGEST_PATH))
    }

    /// A number of four bytes and its successors in its memory.
    pub(super) fn read(self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.with_memory(|| remote::read(self.0, address, buffer))
    }

    /// Writes into its memory.
    pub(super) fn write(self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.with_memory(|| remote::write(self.0, address, bytes))
    }

    /// Does it as whoever this thread acts as, which is most often right, or else as the caller.
    fn with_memory<T>(self, mut access: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        match access() {
            Err(Errno::PERM) => {
                let as_caller = self.identity().and_then(|identity| identity.assume());
                as_caller.map_err(|_| Errno::PERM)?;
                access()
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_somebody_is_and_what_they_may() {
        let status = "Name:\tx\nTgid:\t7\nUid:\t0\t33\t0\t34\nGid:\t1\t2\t3\t4\nGroups:\t5 6 \n";
        let identity = Identity::of(status).expect("valid");
        assert_eq!(identity, Identity { uid: 34, gid: 4, groups: vec![5, 6] });
        assert!(identity.may(4, 0o400, 34, 0) && !identity.may(4, 0o040, 34, 4));
        assert!(identity.may(4, 0o040, 0, 6) && !identity.may(4, 0o404, 0, 6));
        assert!(identity.may(4, 0o004, 0, 0) && !identity.may(2, 0o004, 0, 0));
        let root = Identity { uid: 0, gid: 0, groups: Vec::new() };
        assert!(root.may(6, 0, 34, 4) && !root.may(1, 0o666, 0, 0) && root.may(1, 0o010, 0, 0));
        assert_eq!(Identity::of("Uid:\t0\n"), None);
    }
}
