//! Every system call of x86-64, and what becomes of it: the table behind the filter.
//!
//! A call that takes a path, an identity or another process never reaches the kernel as it is. What
//! is not in the table is newer than it, and does not exist for a step: programs fall back.
//!
//! Numbers: the kernel's `arch/x86/entry/syscalls/syscall_64.tbl`.

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The kernel carries it out.
    Native,
    /// The supervisor answers it, or looks at it and lets the kernel go on.
    Ask,
    /// The same, unless Landlock keeps signals inside.
    AskUnlessScoped,
    /// It fails with `EPERM`, unless Landlock keeps signals inside.
    RefuseUnlessScoped,
    /// The same as `Ask` if the first argument, a process, is not 0.
    AskUnlessOwn,
    /// The tracer changes its arguments.
    Trace,
    /// It does nothing, with success.
    Skip,
    /// It fails with `EPERM`.
    Refuse,
    /// It fails with `ENOSYS`.
    Missing,
    /// It fails with `ENOSPC`.
    NoSpace,
    /// `clone`, by its flags.
    Clone,
    /// `socket`, by its family.
    Socket,
    /// `socketpair`, by its family and type.
    SocketPair,
    /// `getsockopt`, by its option.
    Options,
    /// `prctl`, by its option.
    Process,
    /// `fcntl`, by its command.
    Owner,
    /// `ioctl`, by its command.
    Terminal,
    /// Makes a file grow: `Ask` if a temporary file system of the step has only so much room.
    Grow,
    /// `personality`, by its argument.
    Personality,
}

/// Calls that are treated alike for one reason.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) how: How,
    /// Why.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and a test that all have one"))]
    pub(super) why: &'static str,
    /// Names and numbers.
    pub(super) calls: &'static [(&'static str, u32)],
}

/// What becomes of the call `number`.
pub(super) fn how(number: u32) -> How {
    let has = |group: &&Group| group.calls.iter().any(|(_, other)| *other == number);
    TABLE.iter().find(has).map_or(How::Missing, |group| group.how)
}

/// Whether a call may wait for the supervisor which would never wait in the kernel. (`connect` would:
/// a signal may interrupt it.)
pub(super) fn waits_only_here(number: u32) -> bool {
    use How::{Ask, AskUnlessOwn, AskUnlessScoped, Options, Process, Socket, SocketPair};

    let asks = matches!(
        how(number),
        Ask | AskUnlessScoped | AskUnlessOwn | Options | Process | Socket | SocketPair
    );
    asks && i64::from(number) != libc::SYS_connect
}

/// All calls that there were when this was written.
#[rustfmt::skip]
pub(super) const TABLE: &[Group] = &[
    Group {
        how: How::Ask,
        why: "a path, which is looked up in the step's own root",
        calls: &[
            ("open", 2), ("openat", 257), ("openat2", 437), ("creat", 85), ("stat", 4),
            ("lstat", 6), ("newfstatat", 262), ("statx", 332), ("access", 21), ("faccessat", 269),
            ("faccessat2", 439), ("readlink", 89), ("readlinkat", 267), ("mkdir", 83),
            ("mkdirat", 258), ("rmdir", 84), ("unlink", 87), ("unlinkat", 263), ("rename", 82),
            ("renameat", 264), ("renameat2", 316), ("link", 86), ("linkat", 265), ("symlink", 88),
            ("symlinkat", 266), ("chmod", 90), ("fchmodat", 268), ("fchmodat2", 452),
            ("chown", 92), ("lchown", 94), ("fchownat", 260), ("mknod", 133), ("mknodat", 259),
            ("utime", 132), ("utimes", 235), ("futimesat", 261), ("utimensat", 280),
            ("truncate", 76), ("statfs", 137), ("setxattr", 188), ("lsetxattr", 189),
            ("getxattr", 191), ("lgetxattr", 192), ("listxattr", 194), ("llistxattr", 195),
            ("removexattr", 197), ("lremovexattr", 198), ("chdir", 80), ("getcwd", 79),
        ],
    },
    Group {
        how: How::Ask,
        why: "a file whose owner, mode or attributes are recorded",
        calls: &[
            ("fstat", 5), ("fstatfs", 138), ("fchmod", 91), ("fchown", 93), ("fsetxattr", 190),
            ("fgetxattr", 193),
            ("flistxattr", 196), ("fremovexattr", 199), ("fchdir", 81),
        ],
    },
    Group {
        how: How::Ask,
        why: "identities are emulated",
        calls: &[
            ("getuid", 102), ("geteuid", 107), ("getgid", 104), ("getegid", 108),
            ("getresuid", 118), ("getresgid", 120), ("getgroups", 115), ("setgroups", 116),
            ("setuid", 105), ("setgid", 106), ("setreuid", 113), ("setregid", 114),
            ("setresuid", 117), ("setresgid", 119), ("setfsuid", 122), ("setfsgid", 123),
            ("capget", 125), ("capset", 126),
        ],
    },
    Group {
        how: How::Ask,
        why: "a setting of the process that only the supervisor applies, or the host's name",
        calls: &[
            ("umask", 95), ("uname", 63),
        ],
    },
    Group {
        how: How::Ask,
        why: "the address may be a path",
        calls: &[
            ("bind", 49), ("connect", 42), ("getsockname", 51), ("getpeername", 52),
        ],
    },
    Group {
        how: How::Ask,
        why: "another process, which must be one of the step's",
        calls: &[
            ("kill", 62), ("rt_sigqueueinfo", 129), ("rt_tgsigqueueinfo", 297),
            ("pidfd_open", 434), ("setpriority", 141), ("ioprio_set", 251),
        ],
    },
    Group {
        how: How::AskUnlessScoped,
        why: "another process, which must be one of the step's, unless Landlock keeps signals inside",
        calls: &[
            ("tkill", 200), ("tgkill", 234),
        ],
    },
    Group {
        how: How::RefuseUnlessScoped,
        why: "a descriptor may stand for a process outside, unless Landlock keeps signals inside",
        calls: &[
            ("pidfd_send_signal", 424),
        ],
    },
    Group {
        how: How::AskUnlessOwn,
        why: "another process, which must be one of the step's; 0 is the caller",
        calls: &[
            ("prlimit64", 302), ("sched_setaffinity", 203), ("sched_setattr", 314),
            ("sched_setparam", 142), ("sched_setscheduler", 144), ("get_robust_list", 274),
        ],
    },
    Group {
        how: How::Trace,
        why: "the program is looked up in the step's own root, and the kernel must be told another name",
        calls: &[
            ("execve", 59), ("execveat", 322),
        ],
    },
    Group {
        how: How::Skip,
        why: "what a step leaves unwritten dies with it anyway",
        calls: &[
            ("sync", 162), ("syncfs", 306), ("fsync", 74), ("fdatasync", 75), ("msync", 26),
            ("sync_file_range", 277),
        ],
    },
    Group {
        how: How::Socket,
        why: "names of sockets are paths: the supervisor makes those",
        calls: &[
            ("socket", 41),
        ],
    },
    Group {
        how: How::SocketPair,
        why: "a pair of datagram sockets could be sent elsewhere by path",
        calls: &[
            ("socketpair", 53),
        ],
    },
    Group {
        how: How::Options,
        why: "one option tells the peer's identity",
        calls: &[
            ("getsockopt", 55),
        ],
    },
    Group {
        how: How::Process,
        why: "some settings are emulated, or would shut the supervisor out",
        calls: &[
            ("prctl", 157),
        ],
    },
    Group {
        how: How::Clone,
        why: "neither namespaces nor processes that nobody traces",
        calls: &[
            ("clone", 56),
        ],
    },
    Group {
        how: How::Owner,
        why: "signals about a file may go to another process",
        calls: &[
            ("fcntl", 72),
        ],
    },
    Group {
        how: How::Terminal,
        why: "characters may be put into the terminal outside, or signals go to another process",
        calls: &[
            ("ioctl", 16),
        ],
    },
    Group {
        how: How::Personality,
        why: "some harmless ones",
        calls: &[
            ("personality", 135),
        ],
    },
    Group {
        how: How::Missing,
        why: "its arguments are in memory that a filter cannot read; programs fall back to clone",
        calls: &[
            ("clone3", 435),
        ],
    },
    Group {
        how: How::Missing,
        why: "takes a path, is new, and programs know how to do without",
        calls: &[
            ("getxattrat", 464), ("setxattrat", 463), ("listxattrat", 465), ("removexattrat", 466),
            ("open_tree_attr", 467), ("file_getattr", 468), ("file_setattr", 469),
            ("name_to_handle_at", 303), ("statmount", 457), ("listmount", 458),
        ],
    },
    Group {
        how: How::Missing,
        why: "would go around the filter or be of no use in it",
        calls: &[
            ("io_uring_setup", 425), ("io_uring_enter", 426), ("io_uring_register", 427),
            ("landlock_create_ruleset", 444), ("landlock_add_rule", 445),
            ("landlock_restrict_self", 446), ("uretprobe", 335), ("uprobe", 336),
        ],
    },
    Group {
        how: How::NoSpace,
        why: "paths cannot be watched; programs then look themselves, as at a used-up limit",
        calls: &[
            ("inotify_add_watch", 254),
        ],
    },
    Group {
        how: How::Refuse,
        why: "mounts and roots: the step has the one that the supervisor answers for",
        calls: &[
            ("mount", 165), ("umount2", 166), ("pivot_root", 155), ("chroot", 161),
            ("open_tree", 428), ("move_mount", 429), ("fsopen", 430), ("fsconfig", 431),
            ("fsmount", 432), ("fspick", 433), ("mount_setattr", 442), ("unshare", 272),
            ("setns", 308), ("swapon", 167), ("swapoff", 168), ("acct", 163), ("quotactl", 179),
            ("quotactl_fd", 443), ("uselib", 134),
        ],
    },
    Group {
        how: How::Refuse,
        why: "a file by a handle, without a path",
        calls: &[
            ("open_by_handle_at", 304), ("fanotify_init", 300), ("fanotify_mark", 301),
            ("lookup_dcookie", 212),
        ],
    },
    Group {
        how: How::Refuse,
        why: "the memory or descriptors of another process",
        calls: &[
            ("ptrace", 101), ("process_vm_readv", 310), ("process_vm_writev", 311),
            ("process_madvise", 440), ("process_mrelease", 448), ("pidfd_getfd", 438),
            ("kcmp", 312), ("move_pages", 279), ("migrate_pages", 256),
        ],
    },
    Group {
        how: How::Refuse,
        why: "the machine's own affairs: Docker's profile does not allow them either",
        calls: &[
            ("_sysctl", 156), ("adjtimex", 159), ("clock_adjtime", 305), ("clock_settime", 227),
            ("settimeofday", 164), ("create_module", 174), ("delete_module", 176),
            ("init_module", 175), ("finit_module", 313), ("get_kernel_syms", 177),
            ("query_module", 178), ("kexec_load", 246), ("kexec_file_load", 320), ("reboot", 169),
            ("sethostname", 170), ("setdomainname", 171), ("iopl", 172), ("ioperm", 173),
            ("syslog", 103), ("vhangup", 153), ("nfsservctl", 180), ("bpf", 321),
            ("perf_event_open", 298), ("userfaultfd", 323), ("add_key", 248), ("request_key", 249),
            ("keyctl", 250), ("afs_syscall", 183), ("security", 185), ("tuxcall", 184),
            ("getpmsg", 181), ("putpmsg", 182), ("vserver", 236), ("sysfs", 139), ("ustat", 136),
            ("get_mempolicy", 239), ("set_mempolicy", 238), ("set_mempolicy_home_node", 450),
            ("mbind", 237), ("lsm_get_self_attr", 459), ("lsm_set_self_attr", 460),
            ("lsm_list_modules", 461),
        ],
    },
    Group {
        how: How::Grow,
        why: "they may fill what has only so much room",
        calls: &[
            ("copy_file_range", 326), ("fallocate", 285), ("ftruncate", 77), ("pwrite64", 18),
            ("pwritev", 296), ("pwritev2", 328), ("sendfile", 40), ("splice", 275), ("write", 1),
            ("writev", 20),
        ],
    },
    Group {
        how: How::Native,
        why: "signals and time, of the caller itself",
        calls: &[
            ("alarm", 37), ("clock_getres", 229), ("clock_gettime", 228), ("clock_nanosleep", 230),
            ("getitimer", 36), ("gettimeofday", 96), ("nanosleep", 35), ("pause", 34),
            ("rt_sigaction", 13), ("rt_sigpending", 127), ("rt_sigprocmask", 14),
            ("rt_sigreturn", 15), ("rt_sigsuspend", 130), ("rt_sigtimedwait", 128),
            ("setitimer", 38), ("sigaltstack", 131), ("time", 201), ("timer_create", 222),
            ("timer_delete", 226), ("timer_getoverrun", 225), ("timer_gettime", 224),
            ("timer_settime", 223), ("timerfd_create", 283), ("timerfd_gettime", 287),
            ("timerfd_settime", 286), ("times", 100), ("restart_syscall", 219), ("signalfd", 282),
            ("signalfd4", 289),
        ],
    },
    Group {
        how: How::Native,
        why: "memory of the caller itself",
        calls: &[
            ("brk", 12), ("mmap", 9), ("munmap", 11), ("mremap", 25), ("mprotect", 10),
            ("madvise", 28), ("mincore", 27), ("mlock", 149), ("mlock2", 325), ("mlockall", 151),
            ("munlock", 150), ("munlockall", 152), ("mseal", 462), ("remap_file_pages", 216),
            ("pkey_alloc", 330), ("pkey_free", 331), ("pkey_mprotect", 329),
            ("map_shadow_stack", 453), ("memfd_create", 319), ("memfd_secret", 447),
            ("membarrier", 324), ("modify_ldt", 154), ("cachestat", 451),
        ],
    },
    Group {
        how: How::Native,
        why: "descriptors that it has: the supervisor gave those that are files",
        calls: &[
            ("close", 3), ("close_range", 436), ("dup", 32), ("dup2", 33), ("dup3", 292),
            ("epoll_create", 213), ("epoll_create1", 291), ("epoll_ctl", 233),
            ("epoll_ctl_old", 214), ("epoll_pwait", 281), ("epoll_pwait2", 441),
            ("epoll_wait", 232), ("epoll_wait_old", 215), ("eventfd", 284), ("eventfd2", 290),
            ("fadvise64", 221), ("flock", 73),
            ("getdents", 78), ("getdents64", 217), ("inotify_init", 253),
            ("inotify_init1", 294), ("inotify_rm_watch", 255), ("io_cancel", 210),
            ("io_destroy", 207), ("io_getevents", 208), ("io_pgetevents", 333), ("io_setup", 206),
            ("io_submit", 209), ("lseek", 8), ("pipe", 22), ("pipe2", 293), ("poll", 7),
            ("ppoll", 271), ("pread64", 17), ("preadv", 295), ("preadv2", 327), ("pselect6", 270),
            ("read", 0), ("readahead", 187),
            ("readv", 19), ("select", 23),
            ("tee", 276), ("vmsplice", 278),
        ],
    },
    Group {
        how: How::Native,
        why: "sockets that it has; none can be sent elsewhere by path",
        calls: &[
            ("accept", 43), ("accept4", 288), ("listen", 50), ("recvfrom", 45), ("recvmmsg", 299),
            ("recvmsg", 47), ("sendmmsg", 307), ("sendmsg", 46), ("sendto", 44),
            ("setsockopt", 54), ("shutdown", 48),
        ],
    },
    Group {
        how: How::Native,
        why: "processes and threads: new ones are traced, and numbers say nothing",
        calls: &[
            ("exit", 60), ("exit_group", 231), ("fork", 57), ("vfork", 58), ("wait4", 61),
            ("waitid", 247), ("getpid", 39), ("gettid", 186), ("getppid", 110), ("getpgid", 121),
            ("getpgrp", 111), ("getsid", 124), ("setpgid", 109), ("setsid", 112),
            ("set_tid_address", 218), ("set_robust_list", 273), ("rseq", 334), ("arch_prctl", 158),
            ("get_thread_area", 211), ("set_thread_area", 205), ("getcpu", 309), ("getrusage", 98),
            ("getrlimit", 97), ("setrlimit", 160), ("getpriority", 140), ("ioprio_get", 252),
            ("sched_get_priority_max", 146), ("sched_get_priority_min", 147),
            ("sched_getaffinity", 204), ("sched_getattr", 315), ("sched_getparam", 143),
            ("sched_getscheduler", 145), ("sched_rr_get_interval", 148), ("sched_yield", 24),
            ("futex", 202), ("futex_wait", 455), ("futex_waitv", 449), ("futex_wake", 454),
            ("futex_requeue", 456), ("sysinfo", 99), ("getrandom", 318),
        ],
    },
    Group {
        how: How::Native,
        why: "can only take more away",
        calls: &[
            ("seccomp", 317),
        ],
    },
    Group {
        how: How::Native,
        why: "queues and shared memory by key or queue name, in a namespace of their own kind",
        calls: &[
            ("mq_getsetattr", 245), ("mq_notify", 244), ("mq_open", 240), ("mq_timedreceive", 243),
            ("mq_timedsend", 242), ("mq_unlink", 241), ("msgctl", 71), ("msgget", 68),
            ("msgrcv", 70), ("msgsnd", 69), ("semctl", 66), ("semget", 64), ("semop", 65),
            ("semtimedop", 220), ("shmat", 30), ("shmctl", 31), ("shmdt", 67), ("shmget", 29),
        ],
    },];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sandbox::syscalls;

    fn by_number() -> BTreeMap<u32, (&'static str, How)> {
        let mut all = BTreeMap::new();
        for group in TABLE {
            assert!(!group.why.is_empty());
            for (name, number) in group.calls {
                let before = all.insert(*number, (*name, group.how));
                assert_eq!(before, None, "{name} ({number}) is there twice");
            }
        }
        all
    }

    /// The numbers from 337 to 423 were never given to a call.
    #[test]
    fn every_call_up_to_the_newest_is_classified_once() {
        let all = by_number();
        for number in (0..=336).chain(424..=syscalls::LAST_KNOWN) {
            assert!(all.contains_key(&number), "nothing is said of call {number}");
        }
        for number in (337..424).chain([syscalls::LAST_KNOWN + 1, 1000]) {
            assert!(!all.contains_key(&number));
            assert_eq!(how(number), How::Missing);
        }
    }

    #[test]
    fn the_kernel_carries_out_nothing_that_dockers_profile_refuses() {
        let allowed = syscalls::allowed();
        for (number, (name, how)) in by_number() {
            if matches!(how, How::Native | How::Grow) {
                assert!(allowed.contains(&number), "{name}");
            }
        }
    }

    #[test]
    fn no_call_with_a_path_is_carried_out_by_the_kernel() {
        for (name, how) in by_number().into_values() {
            let words =
                ["open", "stat", "chown", "chmod", "link", "dir", "xattr", "mknod", "mount"];
            // These take descriptors that the step has.
            let harmless = ["getdents", "getdents64", "cachestat"].contains(&name);
            if words.iter().any(|word| name.contains(word)) && !harmless && !name.starts_with("mq_")
            {
                assert_ne!(how, How::Native, "{name}");
            }
        }
    }
}
