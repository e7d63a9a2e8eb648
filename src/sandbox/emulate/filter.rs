//! The system call filter of an emulated step, as a program for the kernel: the table of
//! [`calls`](super::calls), and what depends on arguments.
//!
//! Numbers of x32 are unknown and do not exist: theirs mean other things.

use crate::sandbox::bpf::{
    self, AF_UNIX, ALLOW, AND, ASK, EAFNOSUPPORT, ENOSPC, ENOSYS, EPERM, IF_EQUAL, LOAD,
    PERSONALITIES, REFUSED_FAMILIES, RETURN, SKIP, TRACE, argument, branch, by_value, choose,
    if_any_bit, plain,
};
use crate::sandbox::emulate::calls::{How, how};
use crate::sys::seccomp::Instruction;

/// What the filter depends on beside the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// Whether Landlock keeps signals inside.
    pub(super) scoped: bool,
    /// Whether there are sockets to other machines.
    pub(super) network: bool,
    /// Whether a temporary file system has only so much room.
    pub(super) quotas: bool,
}

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`, and
/// `CLONE_UNTRACED`.
const REFUSED_CLONES: u32 = 0x7e82_0000;
/// `SOCK_DGRAM` and `SOCK_RAW`, which is the same for local sockets.
const DATAGRAMS: [u32; 2] = [2, 3];
const KIND_OF_SOCKET: u32 = 0xf;
const SOL_SOCKET: u32 = 1;
const SO_PEERCRED: u32 = 17;
/// Keeping capabilities, the bounding and ambient sets, "no new privileges".
const EMULATED_SETTINGS: [u32; 9] = [7, 8, 23, 24, 27, 28, 38, 39, 47];
/// `PR_SET_DUMPABLE` would shut the supervisor out, `PR_SET_PTRACER` let others in.
const SKIPPED_SETTINGS: [u32; 2] = [4, 0x5961_6d61];
/// `PR_SCHED_CORE` is about other processes.
const REFUSED_SETTINGS: [u32; 1] = [62];
/// `F_SETOWN`, `F_SETOWN_EX`.
const OWNER_COMMANDS: [u32; 2] = [8, 15];
/// `TIOCSTI`, `TIOCLINUX`.
const TERMINAL_INPUT: [u32; 2] = [0x5412, 0x541c];
/// `FIOSETOWN`, `SIOCSPGRP`.
const OWNER_REQUESTS: [u32; 2] = [0x8901, 0x8902];

/// The filter of a step.
pub(super) fn filter(surroundings: Surroundings) -> Vec<Instruction> {
    bpf::filter(how, |how| decide(how, surroundings))
}

/// Code that gives the verdict.
fn decide(how: How, Surroundings { scoped, network, quotas }: Surroundings) -> Vec<Instruction> {
    match how {
        How::Native => vec![plain(RETURN, ALLOW)],
        How::Ask => vec![plain(RETURN, ASK)],
        How::AskUnlessScoped => vec![plain(RETURN, if scoped { ALLOW } else { ASK })],
        How::RefuseUnlessScoped => vec![plain(RETURN, if scoped { ALLOW } else { EPERM })],
        How::Grow => vec![plain(RETURN, if quotas { ASK } else { ALLOW })],
        How::AskUnlessOwn => by_value(0, &[(0, ALLOW)], ASK),
        How::Trace => vec![plain(RETURN, TRACE)],
        How::Skip => vec![plain(RETURN, SKIP)],
        How::Refuse => vec![plain(RETURN, EPERM)],
        How::Missing => vec![plain(RETURN, ENOSYS)],
        How::NoSpace => vec![plain(RETURN, ENOSPC)],
        How::Clone => if_any_bit(0, REFUSED_CLONES, EPERM, ALLOW),
        How::Socket => {
            let refused = REFUSED_FAMILIES.map(|family| (family, EPERM));
            let others = if network { ALLOW } else { EAFNOSUPPORT };
            by_value(0, &[&[(AF_UNIX, ASK)], &refused[..]].concat(), others)
        }
        How::SocketPair => {
            let mut code = vec![
                plain(LOAD, argument(0)),
                branch(IF_EQUAL, AF_UNIX, 1, 0),
                plain(RETURN, ALLOW),
                plain(LOAD, argument(1)),
                plain(AND, KIND_OF_SOCKET),
            ];
            code.extend(choose(&DATAGRAMS.map(|kind| (kind, ASK)), ALLOW));
            code
        }
        How::Options => {
            let mut code = vec![
                plain(LOAD, argument(1)),
                branch(IF_EQUAL, SOL_SOCKET, 1, 0),
                plain(RETURN, ALLOW),
            ];
            code.extend(by_value(2, &[(SO_PEERCRED, ASK)], ALLOW));
            code
        }
        How::Process => {
            let mut values = EMULATED_SETTINGS.map(|option| (option, ASK)).to_vec();
            values.extend(SKIPPED_SETTINGS.map(|option| (option, SKIP)));
            values.extend(REFUSED_SETTINGS.map(|option| (option, EPERM)));
            by_value(0, &values, ALLOW)
        }
        How::Owner if scoped => vec![plain(RETURN, ALLOW)],
        How::Owner => by_value(1, &OWNER_COMMANDS.map(|command| (command, EPERM)), ALLOW),
        How::Terminal => {
            let mut values = TERMINAL_INPUT.map(|request| (request, EPERM)).to_vec();
            if !scoped {
                values.extend(OWNER_REQUESTS.map(|request| (request, EPERM)));
            }
            by_value(1, &values, ALLOW)
        }
        How::Personality => by_value(0, &PERSONALITIES.map(|value| (value, ALLOW)), EPERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::syscalls;

    fn run(surroundings: Surroundings, number: u32, arguments: &[u32]) -> u32 {
        bpf::run(&filter(surroundings), syscalls::ARCHITECTURE, number, arguments)
    }

    const BEST: Surroundings = Surroundings { scoped: true, network: true, quotas: false };
    const WORST: Surroundings = Surroundings { scoped: false, network: false, quotas: true };

    #[test]
    fn every_number_gets_the_verdict_of_the_table() {
        for number in 0..=syscalls::LAST_KNOWN + 5 {
            let expected = match how(number) {
                How::Native | How::Grow | How::AskUnlessScoped | How::RefuseUnlessScoped => ALLOW,
                How::Ask => ASK,
                How::Trace => TRACE,
                How::Skip => SKIP,
                How::Refuse => EPERM,
                How::Missing => ENOSYS,
                How::NoSpace => ENOSPC,
                _ => continue,
            };
            assert_eq!(run(BEST, number, &[]), expected, "call {number}");
        }
        assert_eq!(run(BEST, 0x4000_0000 + 59, &[]), ENOSYS);
    }

    #[test]
    fn arguments_decide() {
        let check = |call: i64, arguments: &[u32], best, worst| {
            let call = u32::try_from(call).expect("a small number");
            assert_eq!(run(BEST, call, arguments), best, "call {call} {arguments:?}");
            assert_eq!(run(WORST, call, arguments), worst, "call {call} {arguments:?}");
        };
        check(libc::SYS_clone, &[17], ALLOW, ALLOW);
        for flag in [0x80, 0x2_0000, 0x80_0000, 0x1000_0000] {
            // CLONE_NEWTIME is only for clone3: here its bit is part of the signal.
            let expected = if flag == 0x80 { ALLOW } else { EPERM };
            check(libc::SYS_clone, &[flag], expected, expected);
        }
        check(libc::SYS_socket, &[1, 1], ASK, ASK);
        check(libc::SYS_socket, &[2, 1], ALLOW, EAFNOSUPPORT);
        check(libc::SYS_socket, &[16, 3], ALLOW, EAFNOSUPPORT);
        check(libc::SYS_socket, &[40, 1], EPERM, EPERM);
        check(libc::SYS_socketpair, &[1, 0x8_0001], ALLOW, ALLOW);
        check(libc::SYS_socketpair, &[1, 0x8_0002], ASK, ASK);
        check(libc::SYS_getsockopt, &[5, 1, 17], ASK, ASK);
        check(libc::SYS_getsockopt, &[5, 6, 17], ALLOW, ALLOW);
        check(libc::SYS_prctl, &[38], ASK, ASK);
        check(libc::SYS_prctl, &[4], SKIP, SKIP);
        check(libc::SYS_prctl, &[15], ALLOW, ALLOW);
        check(libc::SYS_prlimit64, &[0], ALLOW, ALLOW);
        check(libc::SYS_prlimit64, &[1], ASK, ASK);
        check(libc::SYS_tgkill, &[1, 1], ALLOW, ASK);
        check(libc::SYS_write, &[1], ALLOW, ASK);
        check(libc::SYS_fcntl, &[1, 8], ALLOW, EPERM);
        check(libc::SYS_fcntl, &[1, 2], ALLOW, ALLOW);
        check(libc::SYS_ioctl, &[0, 0x5412], EPERM, EPERM);
        check(libc::SYS_ioctl, &[0, 0x5401], ALLOW, ALLOW);
        check(libc::SYS_personality, &[0x4_0000], EPERM, EPERM);
    }

    #[test]
    fn the_program_fits_into_the_kernels_limit() {
        assert!(filter(WORST).len() < 4096, "{}", filter(WORST).len());
    }
}
