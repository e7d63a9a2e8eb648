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
//! `bpf` makes the program of it, and `sys::seccomp` installs it.

use crate::sandbox::bpf::{
    self, AF_UNIX, ALLOW, ASK, EAFNOSUPPORT, ENOSYS, EPERM, IF_EQUAL, LOAD, PERSONALITIES,
    REFUSED_FAMILIES, RETURN, SKIP, argument, branch, by_value, if_any_bit, plain,
};
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

const AT_FDCWD: u32 = libc::AT_FDCWD.cast_unsigned();
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.cast_unsigned();

/// The filter for every step, with other verdicts than usual for the numbers in `changes`.
pub(super) fn filter(changes: &[(u32, Verdict)]) -> Vec<Instruction> {
    let allowed = syscalls::allowed();
    let look_up = |number| {
        let change = changes.iter().find(|(changed, _)| *changed == number);
        match number {
            _ if change.is_some() => change.map_or(Verdict::Refuse, |(_, verdict)| *verdict),
            syscalls::special::CLONE => Verdict::Clone,
            syscalls::special::PERSONALITY => Verdict::Personality,
            syscalls::special::SOCKET => Verdict::Socket,
            syscalls::special::CLONE3 => Verdict::Missing,
            number if number > syscalls::LAST_KNOWN => Verdict::Missing,
            number if allowed.binary_search(&number).is_ok() => Verdict::Allow,
            _ => Verdict::Refuse,
        }
    };
    bpf::filter(look_up, decide)
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
                plain(LOAD, argument(0)),
                branch(IF_EQUAL, AT_FDCWD, 1, 0),
                plain(RETURN, ALLOW),
            ];
            code.extend(if_any_bit(flags, AT_EMPTY_PATH, ALLOW, ASK));
            code
        }
        Verdict::UnixSocket => unless_one_of(&[AF_UNIX], EAFNOSUPPORT, ALLOW),
        Verdict::Socket => unless_one_of(&REFUSED_FAMILIES, ALLOW, EPERM),
        Verdict::Personality => unless_one_of(&PERSONALITIES, EPERM, ALLOW),
    }
}

/// Code that gives one verdict if the first argument is one of `values`, and another if not.
fn unless_one_of(values: &[u32], otherwise: u32, listed: u32) -> Vec<Instruction> {
    let verdicts: Vec<(u32, u32)> = values.iter().map(|value| (*value, listed)).collect();
    by_value(0, &verdicts, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(changes: &[(u32, Verdict)], number: u32, arguments: [u32; 6]) -> u32 {
        bpf::run(&filter(changes), syscalls::ARCHITECTURE, number, &arguments)
    }

    #[track_caller]
    fn check(number: u32, argument: u32, expected: u32) {
        let verdict = run_with(&[], number, [argument; 6]);
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
            let verdict = run_with(&changes, number, arguments);
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
        check(41, [2, 0, 0, 0, 0, 0], EAFNOSUPPORT);
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
