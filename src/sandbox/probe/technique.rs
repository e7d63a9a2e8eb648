//! The pieces that a way to isolate steps is made of, and how trying one of them ends.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Something that a place allows or refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Mounting as the user that this is, which takes `CAP_SYS_ADMIN`.
    Privilege,
    /// A user namespace in which this user is root, and alone.
    UserNamespace,
    /// A user namespace with the ids of `/etc/subuid`, by `newuidmap`.
    LentIds,
    /// A user namespace with all the ids that there are here, by writing its map.
    OwnIds,
    /// A mount namespace, and a file system mounted in it.
    Mount,
    /// Overlayfs on the store, with its marks in `user.overlay.*`.
    OverlayUser,
    /// Overlayfs on the store, with its marks in `trusted.overlay.*`.
    OverlayTrusted,
    /// Leaving the old root directory behind.
    PivotRoot,
    /// A `/proc` of the step's own processes.
    FreshProc,
    /// A network namespace, for `RUN --network=none`.
    NetworkNamespace,
    /// `chroot`.
    Chroot,
    /// Giving a file to another user.
    Chown,
    /// Making a device that works.
    Mknod,
    /// Answering a process's system calls: seccomp notification, with descriptors handed in.
    Notify,
    /// Following a process with ptrace, and reading its memory.
    Trace,
    /// Landlock; its number is the version of its interface.
    Landlock,
    /// Looking a path up inside a directory.
    OpenInRoot,
    /// Extended attributes `user.*` on the store.
    UserAttributes,
    /// Running a program that lies in the store.
    RunFromStore,
    /// Running a program from memory, as the sandbox's own process is.
    RunFromMemory,
}

impl Technique {
    /// All of them, in the order in which people read about them.
    pub const ALL: [Self; 20] = [
        Self::RunFromMemory,
        Self::Privilege,
        Self::UserNamespace,
        Self::LentIds,
        Self::OwnIds,
        Self::Mount,
        Self::OverlayUser,
        Self::OverlayTrusted,
        Self::PivotRoot,
        Self::FreshProc,
        Self::NetworkNamespace,
        Self::Chroot,
        Self::Chown,
        Self::Mknod,
        Self::Notify,
        Self::Trace,
        Self::Landlock,
        Self::OpenInRoot,
        Self::UserAttributes,
        Self::RunFromStore,
    ];

    /// Its name in reports: the same in text and JSON, and for good.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privilege => "privilege",
            Self::UserNamespace => "user-namespace",
            Self::LentIds => "lent-ids",
            Self::OwnIds => "own-ids",
            Self::Mount => "mount",
            Self::OverlayUser => "overlay-user",
            Self::OverlayTrusted => "overlay-trusted",
            Self::PivotRoot => "pivot-root",
            Self::FreshProc => "fresh-proc",
            Self::NetworkNamespace => "network-namespace",
            Self::Chroot => "chroot",
            Self::Chown => "chown",
            Self::Mknod => "mknod",
            Self::Notify => "seccomp-notify",
            Self::Trace => "ptrace",
            Self::Landlock => "landlock",
            Self::OpenInRoot => "openat2",
            Self::UserAttributes => "user-xattrs",
            Self::RunFromStore => "run-from-store",
            Self::RunFromMemory => "run-from-memory",
        }
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How trying a technique ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was not tried: nobody needs to know, or what it builds upon failed.
    #[default]
    Untried,
    /// It works; with a number where there is one to tell, such as how many ids.
    Works(Option<u64>),
    /// It failed.
    Refused {
        /// The kernel's error number.
        errno: i32,
        /// The words of a helper program, or its name if it is not installed.
        said: Option<String>,
    },
    /// The process that tried it was killed, or hung.
    Died,
}

impl Verdict {
    /// Whether it is known to work.
    pub fn works(&self) -> bool {
        matches!(self, Self::Works(_))
    }

    /// The number that goes with it.
    pub fn number(&self) -> Option<u64> {
        if let Self::Works(number) = self { *number } else { None }
    }

    /// The kernel's error number, if it was refused.
    pub fn errno(&self) -> Option<i32> {
        if let Self::Refused { errno, .. } = self { Some(*errno) } else { None }
    }
}

impl From<io::Result<()>> for Verdict {
    fn from(result: io::Result<()>) -> Self {
        Self::from(result.map(|()| None))
    }
}

impl From<io::Result<Option<u64>>> for Verdict {
    fn from(result: io::Result<Option<u64>>) -> Self {
        match result {
            Ok(number) => Self::Works(number),
            Err(error) => {
                // An error of ours that the kernel has no number for.
                let said = error.raw_os_error().is_none().then(|| error.to_string());
                Self::Refused { errno: error.raw_os_error().unwrap_or(libc::EIO), said }
            }
        }
    }
}

/// The kernel's name for an error number that a trial may end with.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EIO => "EIO",
        libc::E2BIG => "E2BIG",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::EXDEV => "EXDEV",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ENOSYS => "ENOSYS",
        libc::ENOTEMPTY => "ENOTEMPTY",
        libc::ELOOP => "ELOOP",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EUSERS => "EUSERS",
        libc::EDQUOT => "EDQUOT",
        libc::ESRCH => "ESRCH",
        libc::ENXIO => "ENXIO",
        other => return format!("error {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_ones_that_json_has_and_each_is_there_once() {
        let mut names: Vec<&str> = Technique::ALL.iter().map(|it| it.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Technique::ALL.len());
        let all: std::collections::BTreeSet<_> = Technique::ALL.into_iter().collect();
        assert_eq!(all.len(), Technique::ALL.len());
    }

    #[test]
    fn an_error_becomes_its_number_and_words_that_have_none_are_kept() {
        let refused = |error: io::Error| Verdict::from(Err::<(), _>(error));
        let eperm = refused(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(eperm, Verdict::Refused { errno: libc::EPERM, said: None });
        let said = refused(io::Error::other("it came back"));
        assert_eq!(
            said,
            Verdict::Refused { errno: libc::EIO, said: Some("it came back".to_owned()) }
        );
    }
}
