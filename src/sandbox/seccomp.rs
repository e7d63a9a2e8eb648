//! The system call filter of a step, as a program for the kernel.
//!
//! An allow-list: [`syscalls`](crate::sandbox::syscalls) is the table. Refused calls fail with
//! `EPERM`, as in Docker; calls that are newer than the table and `clone3`, whose arguments a
//! filter cannot read, fail with `ENOSYS`, which programs know how to live with. A program for
//! another architecture (i386, x32) is killed or told `ENOSYS`: its numbers mean other things.
//!
//! Where a supervisor answers calls, some of the allowed ones are asked about instead, perhaps
//! depending on their arguments: those are `changes` to the table.
//!
//! The program is a binary search, as it runs for each call that the kernel cannot decide once
//! and for all. This file computes it; `sys::seccomp` installs it.

use crate::sandbox::syscalls;
use crate::sys::seccomp::Instruction;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Refuse,
    Missing,
    /// `clone`: unless it makes a namespace.
    Clone,
    /// `personality`: some harmless ones.
    Personality,
    /// `socket`: all but two families.
    Socket,
    /// `socket`: one family, by which no other machine can be reached.
    UnixSocket,
    /// It does nothing, with success.
    Skip,
    /// The supervisor is asked.
    Ask,
    /// `clone`: the supervisor is asked, unless it makes a namespace.
    AskClone,
    /// The supervisor is asked if the argument of this index is not 0.
    AskUnlessZero(u32),
    /// The supervisor is asked if the first argument is this.
    AskIf(u32),
    /// The supervisor is asked about paths that are absolute or begin at the working directory, but
    /// not about those that begin at a descriptor.
    AskOfPath,
    /// The supervisor is asked unless the argument of this index has the flag `AT_EMPTY_PATH`.
    AskUnlessEmpty(u32),
    /// The same as `AskOfPath` for a call whose argument of this index may have the flag `AT_EMPTY_PATH`: then it
    /// is about the descriptor itself.
    AskOfPathUnlessEmpty(u32),
}

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and "tell me".
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// `AF_ALG` and `AF_VSOCK`: kernel cryptography, and the host of a virtual machine.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
const AF_UNIX: u32 = libc::AF_UNIX.cast_unsigned();

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ASK: u32 = 0x7fc0_0000;
/// No error: the call returns 0.
const SKIP: u32 = ERRNO;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO + libc::EPERM.unsigned_abs();
/// What a kernel says that was built without a family of sockets.
const NO_FAMILY: u32 = ERRNO + libc::EAFNOSUPPORT.unsigned_abs();
const ENOSYS: u32 = ERRNO + libc::ENOSYS.unsigned_abs();

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

const AT_FDCWD: u32 = libc::AT_FDCWD.cast_unsigned();
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.cast_unsigned();

/// The filter for every step, with other verdicts than usual for the numbers in `changes`.
pub(super) fn filter(changes: &[(u32, Verdict)]) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, OFFSET_ARCHITECTURE),
        branch(IF_EQUAL, syscalls::ARCHITECTURE, 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD, OFFSET_NUMBER),
    ];
    program.extend(search(&segments(changes)));
    program
}

/// Runs of numbers with one verdict, each by its first number, ascending from 0.
fn segments(changes: &[(u32, Verdict)]) -> Vec<(u32, Verdict)> {
    let allowed = syscalls::allowed();
    let mut segments: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=syscalls::LAST_KNOWN + 1 {
        let change = changes.iter().find(|(changed, _)| *changed == number);
        let verdict = match number {
            _ if change.is_some() => change.map_or(Verdict::Refuse, |(_, verdict)| *verdict),
            syscalls::special::CLONE => Verdict::Clone,
            syscalls::special::PERSONALITY => Verdict::Personality,
            syscalls::special::SOCKET => Verdict::Socket,
            syscalls::special::CLONE3 => Verdict::Missing,
            number if number > syscalls::LAST_KNOWN => Verdict::Missing,
            number if allowed.binary_search(&number).is_ok() => Verdict::Allow,
            _ => Verdict::Refuse,
        };
        if segments.last().is_none_or(|(_, last)| *last != verdict) {
            segments.push((number, verdict));
        }
    }
    segments
}

/// Code that finds the segment of the loaded number and gives its verdict.
fn search(segments: &[(u32, Verdict)]) -> Vec<Instruction> {
    match segments {
        [] => vec![plain(RETURN, EPERM)],
        [(_, verdict)] => decide(*verdict),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let (below, above) = (search(low), search(high));
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
fn decide(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![plain(RETURN, ALLOW)],
        Verdict::Refuse => vec![plain(RETURN, EPERM)],
        Verdict::Missing => vec![plain(RETURN, ENOSYS)],
        Verdict::Skip => vec![plain(RETURN, SKIP)],
        Verdict::Ask => vec![plain(RETURN, ASK)],
        Verdict::Clone => if_any_bit(0, NEW_NAMESPACES, EPERM, ALLOW),
        Verdict::AskClone => if_any_bit(0, NEW_NAMESPACES, EPERM, ASK),
        Verdict::AskIf(value) => unless_one_of(&[value], ALLOW, ASK),
        Verdict::AskUnlessZero(index) => if_any_bit(index, u32::MAX, ASK, ALLOW),
        Verdict::AskOfPath => unless_one_of(&[AT_FDCWD], ALLOW, ASK),
        Verdict::AskUnlessEmpty(flags) => if_any_bit(flags, AT_EMPTY_PATH, ALLOW, ASK),
        Verdict::AskOfPathUnlessEmpty(flags) => {
            let mut code = vec![
                plain(LOAD, argument_low(0)),
                branch(IF_EQUAL, AT_FDCWD, 1, 0),
                plain(RETURN, ALLOW),
            ];
            code.extend(if_any_bit(flags, AT_EMPTY_PATH, ALLOW, ASK));
            code
        }
        Verdict::UnixSocket => unless_one_of(&[AF_UNIX], NO_FAMILY, ALLOW),
        Verdict::Socket => unless_one_of(&REFUSED_FAMILIES, ALLOW, EPERM),
        Verdict::Personality => unless_one_of(&PERSONALITIES, EPERM, ALLOW),
    }
}

/// Code that looks for bits in the low half of an argument.
fn if_any_bit(index: u32, bits: u32, any: u32, none: u32) -> Vec<Instruction> {
    vec![
        plain(LOAD, argument_low(index)),
        branch(IF_ANY_BIT, bits, 0, 1),
        plain(RETURN, any),
        plain(RETURN, none),
    ]
}

/// Code that looks up the first argument. The kernel reads it as 32 bits, and so does this.
fn unless_one_of(values: &[u32], otherwise: u32, listed: u32) -> Vec<Instruction> {
    let mut code = vec![plain(LOAD, argument_low(0))];
    for value in values {
        code.extend([branch(IF_EQUAL, *value, 0, 1), plain(RETURN, listed)]);
    }
    code.push(plain(RETURN, otherwise));
    code
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
    fn run(architecture: u32, number: u32, argument: u32) -> u32 {
        run_with(&[], architecture, number, [argument; 6])
    }

    fn run_with(
        changes: &[(u32, Verdict)],
        architecture: u32,
        number: u32,
        arguments: [u32; 6],
    ) -> u32 {
        let (program, mut at, mut loaded) = (filter(changes), 0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let taken = match code {
                LOAD => {
                    loaded = match operand {
                        OFFSET_NUMBER => number,
                        OFFSET_ARCHITECTURE => architecture,
                        other if other >= 16 && other % 8 == 0 => {
                            arguments[(other as usize - 16) / 8]
                        }
                        other => panic!("loads from {other}"),
                    };
                    continue;
                }
                RETURN => return operand,
                JUMP => {
                    // Taken only when the comparison before it did not hold.
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

    #[track_caller]
    fn check(number: u32, argument: u32, expected: u32) {
        let verdict = run(syscalls::ARCHITECTURE, number, argument);
        assert_eq!(verdict, expected, "call {number} with {argument:#x}: {verdict:#x}");
    }

    #[test]
    fn every_known_number_gets_the_verdict_of_the_table() {
        let allowed = syscalls::allowed();
        let special = [
            syscalls::special::CLONE,
            syscalls::special::CLONE3,
            syscalls::special::PERSONALITY,
            syscalls::special::SOCKET,
        ];
        for number in (0..=syscalls::LAST_KNOWN).filter(|number| !special.contains(number)) {
            check(number, 0, if allowed.contains(&number) { ALLOW } else { EPERM });
        }
    }

    #[test]
    fn calls_newer_than_the_table_do_not_exist() {
        for number in [syscalls::LAST_KNOWN + 1, 5000, 0x4000_0000, 0x4000_003b, u32::MAX] {
            check(number, 0, ENOSYS);
        }
        check(syscalls::special::CLONE3, 0, ENOSYS);
    }

    #[test]
    fn clone_makes_threads_and_processes_but_no_namespaces() {
        check(syscalls::special::CLONE, 0x003d_0f00, ALLOW);
        check(syscalls::special::CLONE, 17, ALLOW);
        for namespace in [0x2_0000, 0x200_0000, 0x400_0000, 0x1000_0000, 0x4000_0000] {
            check(syscalls::special::CLONE, namespace + 17, EPERM);
        }
    }

    #[test]
    fn sockets_are_of_any_family_but_two() {
        for family in [1, 2, 10, 16, 17, 37, 39, 41] {
            check(syscalls::special::SOCKET, family, ALLOW);
        }
        check(syscalls::special::SOCKET, 38, EPERM);
        check(syscalls::special::SOCKET, 40, EPERM);
    }

    #[test]
    fn personality_may_not_switch_address_randomisation_off() {
        check(syscalls::special::PERSONALITY, 0, ALLOW);
        check(syscalls::special::PERSONALITY, u32::MAX, ALLOW);
        check(syscalls::special::PERSONALITY, 0x004_0000, EPERM);
    }

    #[test]
    fn a_program_for_another_architecture_is_killed() {
        assert_eq!(run(0x4000_0003, 1, 0), KILL_PROCESS);
    }

    #[test]
    fn a_supervisor_is_asked_about_what_it_answers() {
        let changes = [
            (262, Verdict::AskOfPathUnlessEmpty(3)),
            (257, Verdict::AskOfPath),
            (56, Verdict::AskClone),
            (41, Verdict::UnixSocket),
            (302, Verdict::AskUnlessZero(0)),
            (13, Verdict::AskIf(17)),
            (74, Verdict::Skip),
            (161, Verdict::Ask),
        ];
        let check = |number, arguments: [u32; 6], expected| {
            let verdict = run_with(&changes, syscalls::ARCHITECTURE, number, arguments);
            assert_eq!(verdict, expected, "{number} {arguments:x?}");
        };
        let (here, there) = (AT_FDCWD, 5);
        check(262, [here, 0, 0, 0, 0, 0], ASK);
        check(262, [here, 0, 0, AT_EMPTY_PATH, 0, 0], ALLOW);
        check(262, [there, 0, 0, 0, 0, 0], ALLOW);
        check(257, [here, 0, 0, 0, 0, 0], ASK);
        check(257, [there, 0, 0, 0, 0, 0], ALLOW);
        check(56, [17, 0, 0, 0, 0, 0], ASK);
        check(56, [0x1000_0000, 0, 0, 0, 0, 0], EPERM);
        check(41, [1, 0, 0, 0, 0, 0], ALLOW);
        check(41, [2, 0, 0, 0, 0, 0], NO_FAMILY);
        check(302, [0; 6], ALLOW);
        check(13, [17, 1, 0, 8, 0, 0], ASK);
        check(13, [18, 17, 0, 8, 0, 0], ALLOW);
        check(302, [7, 0, 0, 0, 0, 0], ASK);
        check(74, [0; 6], SKIP);
        check(161, [0; 6], ASK);
        check(13, [17, 0, 0, 0, 0, 0], ASK);
        check(13, [2, 0, 0, 0, 0, 0], ALLOW);
        check(0, [0; 6], ALLOW);
        check(435, [0; 6], ENOSYS);
    }

    #[test]
    fn the_program_fits_into_the_kernels_limit() {
        assert!(filter(&[]).len() < 4096, "{}", filter(&[]).len());
    }
}
