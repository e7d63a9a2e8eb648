//! Which system calls of a step the supervisor answers, and where their arguments are.
//!
//! A call is asked about only if its path may name something that is not in the tree. To let it go on is
//! always safe, as Landlock stands behind it: what is at stake is whether `/proc`, `/dev` and the
//! like are seen, and not what can be reached.

use std::collections::BTreeSet;

use crate::sandbox::seccomp::Verdict;
use crate::sandbox::syscalls;

/// Where a path is among the arguments, and the descriptor at which it begins if it is relative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathAt {
    pub(super) path: usize,
    pub(super) directory: Option<usize>,
}

/// What a call wants, with the places of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Open {
        at: PathAt,
        flags: usize,
    },
    /// With the flags in a struct.
    OpenHow {
        at: PathAt,
        how: usize,
    },
    Stat {
        at: PathAt,
        buffer: usize,
        follows: Follows,
    },
    Statx {
        at: PathAt,
        flags: usize,
        buffer: usize,
    },
    Access {
        at: PathAt,
        mode: usize,
    },
    ReadLink {
        at: PathAt,
        buffer: usize,
        size: usize,
    },
    StatFs {
        at: PathAt,
        buffer: usize,
    },
    Execute {
        at: PathAt,
    },
    /// It changes what the path names, in one way or another.
    Change(&'static [PathAt]),
    /// It writes to a descriptor as many bytes as this argument says.
    Write {
        descriptor: usize,
        length: usize,
    },
    /// The same, in as many parts as the third argument says, which the second points to.
    WriteParts,
    /// It says what happens when a child ends, in a struct that the second argument points to.
    WhenChildEnds,
    /// It makes a thread or process.
    Fork,
    HostName,
    /// It does something to the process whose number is this argument.
    ToProcess(usize),
    /// It does something to processes: to the one whose number is the second argument where the first
    /// is this, or else to a group's or a user's.
    ToProcesses {
        process: u64,
    },
}

/// Whether a call follows the last link of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    Yes,
    No,
    /// As the flags in this argument say.
    Flags(usize),
}

/// What is asked about in some steps only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Paths that begin at a descriptor, too: something is at a place in the tree that only looks as if
    /// it were there.
    Relative,
    /// Changes, as something in the tree may not be changed.
    Changes,
    /// File systems, as something in the tree is to look like another one.
    FileSystems,
    /// Writes, as one of those may hold only so much.
    Quotas,
    /// Signals to other processes: the kernel does not judge them.
    Signals,
    /// Families of sockets: only those may be used that lead nowhere. Nobody has to ask.
    Sockets,
}

/// What is asked about in a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked(BTreeSet<Topic>);

impl Asked {
    /// Those topics whose condition holds.
    pub(super) fn about(topics: impl IntoIterator<Item = (Topic, bool)>) -> Self {
        Self(topics.into_iter().filter(|(_, holds)| *holds).map(|(topic, _)| topic).collect())
    }

    /// The same, and one topic more.
    pub(super) fn and(mut self, topic: Topic) -> Self {
        self.0.insert(topic);
        self
    }

    pub(super) fn has(&self, topic: Topic) -> bool {
        self.0.contains(&topic)
    }
}

const fn here(path: usize) -> PathAt {
    PathAt { path, directory: None }
}

const fn at(directory: usize) -> PathAt {
    PathAt { path: directory + 1, directory: Some(directory) }
}

const fn stat(at: PathAt, buffer: usize, follows: Follows) -> Call {
    Call::Stat { at, buffer, follows }
}

/// Calls that look at files.
const LOOKS: &[(&str, Call)] = &[
    ("open", Call::Open { at: here(0), flags: 1 }),
    ("openat", Call::Open { at: at(0), flags: 2 }),
    ("openat2", Call::OpenHow { at: at(0), how: 2 }),
    ("stat", stat(here(0), 1, Follows::Yes)),
    ("lstat", stat(here(0), 1, Follows::No)),
    ("newfstatat", stat(at(0), 2, Follows::Flags(3))),
    ("statx", Call::Statx { at: at(0), flags: 2, buffer: 4 }),
    ("access", Call::Access { at: here(0), mode: 1 }),
    ("faccessat", Call::Access { at: at(0), mode: 2 }),
    ("faccessat2", Call::Access { at: at(0), mode: 2 }),
    ("readlink", Call::ReadLink { at: here(0), buffer: 1, size: 2 }),
    ("readlinkat", Call::ReadLink { at: at(0), buffer: 2, size: 3 }),
    ("execve", Call::Execute { at: here(0) }),
];

/// Calls that change files.
const CHANGES: &[(&str, Call)] = &[
    ("creat", Call::Change(&[here(0)])),
    ("mkdir", Call::Change(&[here(0)])),
    ("mkdirat", Call::Change(&[at(0)])),
    ("rmdir", Call::Change(&[here(0)])),
    ("unlink", Call::Change(&[here(0)])),
    ("unlinkat", Call::Change(&[at(0)])),
    ("rename", Call::Change(&[here(0), here(1)])),
    ("renameat", Call::Change(&[at(0), at(2)])),
    ("renameat2", Call::Change(&[at(0), at(2)])),
    ("link", Call::Change(&[here(1)])),
    ("linkat", Call::Change(&[at(2)])),
    ("symlink", Call::Change(&[here(1)])),
    ("symlinkat", Call::Change(&[at(1)])),
    ("mknod", Call::Change(&[here(0)])),
    ("mknodat", Call::Change(&[at(0)])),
    ("truncate", Call::Change(&[here(0)])),
    ("chmod", Call::Change(&[here(0)])),
    ("fchmodat", Call::Change(&[at(0)])),
    ("fchmodat2", Call::Change(&[at(0)])),
    ("chown", Call::Change(&[here(0)])),
    ("lchown", Call::Change(&[here(0)])),
    ("fchownat", Call::Change(&[at(0)])),
    ("utime", Call::Change(&[here(0)])),
    ("utimes", Call::Change(&[here(0)])),
    ("futimesat", Call::Change(&[at(0)])),
    ("utimensat", Call::Change(&[at(0)])),
    ("setxattr", Call::Change(&[here(0)])),
    ("lsetxattr", Call::Change(&[here(0)])),
    ("removexattr", Call::Change(&[here(0)])),
    ("lremovexattr", Call::Change(&[here(0)])),
];

/// Calls that make files grow.
const WRITES: &[(&str, Call)] = &[
    ("copy_file_range", Call::Write { descriptor: 2, length: 4 }),
    ("fallocate", Call::Write { descriptor: 0, length: 3 }),
    ("ftruncate", Call::Write { descriptor: 0, length: 1 }),
    ("pwrite64", Call::Write { descriptor: 0, length: 2 }),
    ("pwritev", Call::WriteParts),
    ("pwritev2", Call::WriteParts),
    ("sendfile", Call::Write { descriptor: 0, length: 3 }),
    ("splice", Call::Write { descriptor: 2, length: 4 }),
    ("write", Call::Write { descriptor: 0, length: 2 }),
    ("writev", Call::WriteParts),
];

/// Calls that reach other processes, other than by signals: the builder is one of them.
const TO_PROCESSES: &[(&str, Call)] = &[
    ("prlimit64", Call::ToProcess(0)),
    ("sched_setaffinity", Call::ToProcess(0)),
    ("sched_setattr", Call::ToProcess(0)),
    ("sched_setparam", Call::ToProcess(0)),
    ("sched_setscheduler", Call::ToProcess(0)),
    ("ioprio_set", Call::ToProcesses { process: 1 }),
    ("setpriority", Call::ToProcesses { process: 0 }),
];

/// Calls that signal processes.
const SIGNALS: &[(&str, Call)] = &[
    ("kill", Call::ToProcess(0)),
    ("pidfd_open", Call::ToProcess(0)),
    ("rt_sigqueueinfo", Call::ToProcess(0)),
    ("rt_tgsigqueueinfo", Call::ToProcess(0)),
    ("tgkill", Call::ToProcess(0)),
    ("tkill", Call::ToProcess(0)),
];

/// Nobody needs a tree on a disk that is thrown away after a crash.
const SYNCS: [&str; 5] = ["fdatasync", "fsync", "sync", "sync_file_range", "syncfs"];

/// What the filter says, beside what it says in every step.
pub(super) fn verdicts(asked: &Asked) -> Vec<(u32, Verdict)> {
    let mut verdicts = Vec::new();
    let mut set = |name: &str, verdict| {
        verdicts.extend(syscalls::number(name).map(|number| (number, verdict)));
    };
    for name in SYNCS {
        set(name, Verdict::Skip);
    }
    // Root without a mount namespace could climb out of its root with it; Landlock would let it look
    // at files' metadata there, and change it.
    set("chroot", Verdict::Refuse);
    for (name, call) in all(asked) {
        set(name, verdict(call, asked.has(Topic::Relative)));
    }
    set("rt_sigaction", Verdict::AskIf(libc::SIGCHLD.cast_unsigned()));
    set("vfork", Verdict::Ask);
    set("fork", Verdict::Ask);
    set("uname", Verdict::Ask);
    verdicts.push((syscalls::special::CLONE, Verdict::AskClone));
    if asked.has(Topic::Sockets) {
        verdicts.push((syscalls::special::SOCKET, Verdict::UnixSocket));
    }
    verdicts
}

fn verdict(call: Call, relative: bool) -> Verdict {
    match call {
        Call::Stat { follows: Follows::Flags(flags), .. } | Call::Statx { flags, .. } => {
            let flags = u32::try_from(flags).expect("a call has six arguments");
            if relative {
                Verdict::AskUnlessEmpty(flags)
            } else {
                Verdict::AskOfPathUnlessEmpty(flags)
            }
        }
        Call::ToProcess(0) => Verdict::AskUnlessZero(0),
        Call::Open { at, .. }
        | Call::OpenHow { at, .. }
        | Call::Access { at, .. }
        | Call::ReadLink { at, .. }
            if !relative && at.directory.is_some() =>
        {
            Verdict::AskOfPath
        }
        _ => Verdict::Ask,
    }
}

fn all(asked: &Asked) -> impl Iterator<Item = (&'static str, Call)> {
    const STATFS: &[(&str, Call)] = &[("statfs", Call::StatFs { at: here(0), buffer: 1 })];
    let only_if =
        |topic, calls: &'static [(&str, Call)]| if asked.has(topic) { calls } else { &[] };
    let calls = [
        LOOKS,
        TO_PROCESSES,
        only_if(Topic::Changes, CHANGES),
        only_if(Topic::Quotas, WRITES),
        only_if(Topic::Signals, SIGNALS),
        only_if(Topic::FileSystems, STATFS),
    ];
    calls.into_iter().flatten().copied()
}

/// What the call of this number wants.
pub(super) fn find(number: u32) -> Option<Call> {
    let everything = Asked(BTreeSet::from([
        Topic::Relative,
        Topic::Changes,
        Topic::FileSystems,
        Topic::Quotas,
        Topic::Signals,
    ]));
    let is_it = |name| syscalls::number(name) == Some(number);
    if number == syscalls::special::CLONE || is_it("fork") || is_it("vfork") {
        return Some(Call::Fork);
    }
    if is_it("rt_sigaction") {
        return Some(Call::WhenChildEnds);
    }
    if is_it("uname") {
        return Some(Call::HostName);
    }
    all(&everything).find(|(name, _)| is_it(name)).map(|(_, call)| call)
}

/// All of them by number: to look one up must not take long.
pub(super) fn table() -> Vec<Option<Call>> {
    (0..=syscalls::LAST_KNOWN).map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_about_is_known() {
        let topics = [
            Topic::Relative,
            Topic::Changes,
            Topic::FileSystems,
            Topic::Quotas,
            Topic::Signals,
            Topic::Sockets,
        ];
        for asked in [Asked::default(), Asked::about(topics.map(|topic| (topic, true)))] {
            for (number, verdict) in verdicts(&asked) {
                if !matches!(verdict, Verdict::Skip | Verdict::Refuse | Verdict::UnixSocket) {
                    assert!(find(number).is_some(), "{number}");
                }
            }
        }
    }

    #[test]
    fn every_name_is_a_call_of_some_architecture() {
        let known = |name: &str| syscalls::allowed_names().any(|other| other == name);
        let all =
            [LOOKS, CHANGES, WRITES, TO_PROCESSES, SIGNALS].into_iter().flatten().map(|it| it.0);
        for name in all.chain(SYNCS) {
            assert!(known(name), "{name}");
        }
    }
}
