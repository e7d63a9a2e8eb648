//! The system call filter of an emulated step, as a program for the kernel: the table of
//! [`calls`](super::calls), and what depends on arguments.
//!
//! A binary search over the numbers. A program for another architecture is killed, and numbers of
//! x32 are unknown and do not exist: theirs mean other things.

use crate::sandbox::emulate::calls::{How, how};
use crate::sandbox::syscalls;
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
/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and "tell me".
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// `AF_ALG` and `AF_VSOCK`: kernel cryptography, and the host of a virtual machine.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
const AF_UNIX: u32 = 1;
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

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ASK: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
/// With no error: the call returns 0.
const SKIP: u32 = 0x0005_0000;
const EPERM: u32 = SKIP + libc::EPERM.unsigned_abs();
const ENOSYS: u32 = SKIP + libc::ENOSYS.unsigned_abs();
const ENOSPC: u32 = SKIP + libc::ENOSPC.unsigned_abs();
const EAFNOSUPPORT: u32 = SKIP + libc::EAFNOSUPPORT.unsigned_abs();

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

/// The filter of a step.
pub(super) fn filter(surroundings: Surroundings) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, OFFSET_ARCHITECTURE),
        branch(IF_EQUAL, syscalls::ARCHITECTURE, 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD, OFFSET_NUMBER),
    ];
    program.extend(search(&segments(), surroundings));
    program
}

/// Runs of numbers that are treated alike, each by its first number, ascending from 0.
fn segments() -> Vec<(u32, How)> {
    let mut segments: Vec<(u32, How)> = Vec::new();
    for number in 0..=syscalls::LAST_KNOWN + 1 {
        let how = how(number);
        if segments.last().is_none_or(|(_, last)| *last != how) {
            segments.push((number, how));
        }
    }
    segments
}

/// Code that finds the segment of the loaded number and gives its verdict.
fn search(segments: &[(u32, How)], surroundings: Surroundings) -> Vec<Instruction> {
    match segments {
        [] => vec![plain(RETURN, ENOSYS)],
        [(_, how)] => decide(*how, surroundings),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let (below, above) = (search(low, surroundings), search(high, surroundings));
            // A conditional jump reaches 255 instructions, a plain one as far as needed.
            let skip = u32::try_from(below.len()).expect("a filter has a few hundred instructions");
            let mut code = vec![branch(IF_AT_LEAST, high[0].0, 0, 1), plain(JUMP, skip)];
            code.extend(below);
            code.extend(above);
            code
        }
    }
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
        How::Clone => vec![
            plain(LOAD, argument_low(0)),
            branch(IF_ANY_BIT, REFUSED_CLONES, 0, 1),
            plain(RETURN, EPERM),
            plain(RETURN, ALLOW),
        ],
        How::Socket => {
            let refused = REFUSED_FAMILIES.map(|family| (family, EPERM));
            let others = if network { ALLOW } else { EAFNOSUPPORT };
            by_value(0, &[&[(AF_UNIX, ASK)], &refused[..]].concat(), others)
        }
        How::SocketPair => {
            let mut code = vec![
                plain(LOAD, argument_low(0)),
                branch(IF_EQUAL, AF_UNIX, 1, 0),
                plain(RETURN, ALLOW),
                plain(LOAD, argument_low(1)),
                plain(AND, KIND_OF_SOCKET),
            ];
            code.extend(choose(&DATAGRAMS.map(|kind| (kind, ASK)), ALLOW));
            code
        }
        How::Options => {
            let mut code = vec![
                plain(LOAD, argument_low(1)),
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

/// Code that looks up the low half of an argument. The kernel reads these as 32 bits, and so does
/// this.
fn by_value(index: u32, verdicts: &[(u32, u32)], otherwise: u32) -> Vec<Instruction> {
    let mut code = vec![plain(LOAD, argument_low(index))];
    code.extend(choose(verdicts, otherwise));
    code
}

/// Code that looks up the loaded value.
fn choose(verdicts: &[(u32, u32)], otherwise: u32) -> Vec<Instruction> {
    let one =
        |(value, verdict): &(u32, u32)| [branch(IF_EQUAL, *value, 0, 1), plain(RETURN, *verdict)];
    verdicts.iter().flat_map(one).chain([plain(RETURN, otherwise)]).collect()
}

/// Where the low half of an argument is in `seccomp_data`, on a little-endian machine.
const fn argument_low(index: u32) -> u32 {
    16 + 8 * index
}

const fn plain(code: u16, operand: u32) -> Instruction {
    branch(code, operand, 0, 0)
}

const fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter would answer.
    fn run(surroundings: Surroundings, number: u32, arguments: &[u32]) -> u32 {
        let (program, mut at, mut loaded) = (filter(surroundings), 0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let taken = match code {
                LOAD => {
                    loaded = match operand {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCHITECTURE => syscalls::ARCHITECTURE,
                        other => {
                            arguments.get((other as usize - 16) / 8).copied().unwrap_or_default()
                        }
                    };
                    continue;
                }
                AND => {
                    loaded &= operand;
                    continue;
                }
                RETURN => return operand,
                JUMP => {
                    at += operand as usize;
                    continue;
                }
                IF_EQUAL => loaded == operand,
                IF_AT_LEAST => loaded >= operand,
                IF_ANY_BIT => loaded & operand != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if taken { jump_true } else { jump_false });
        }
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
