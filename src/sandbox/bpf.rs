//! System call filters as programs for the kernel: their instructions, their verdicts, and the search
//! for the number of a call.
//!
//! A program runs for each call that the kernel cannot decide once and for all, so it searches by
//! halves. Arguments are looked at by their low halves: the kernel reads those it is asked about
//! here as 32 bits.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/seccomp.2.html>

use crate::sandbox::syscalls;
use crate::sys::seccomp::Instruction;

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const IF_EQUAL: u16 = 0x15;
pub(super) const IF_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const IF_AT_LEAST: u16 = 0x35;

/// The kernel carries the call out.
pub(super) const ALLOW: u32 = 0x7fff_0000;
/// The supervisor is asked.
pub(super) const ASK: u32 = 0x7fc0_0000;
/// The tracer is told.
pub(super) const TRACE: u32 = 0x7ff0_0000;
/// With no error: the call returns 0.
pub(super) const SKIP: u32 = 0x0005_0000;
pub(super) const EPERM: u32 = SKIP + libc::EPERM.unsigned_abs();
pub(super) const ENOSYS: u32 = SKIP + libc::ENOSYS.unsigned_abs();
pub(super) const ENOSPC: u32 = SKIP + libc::ENOSPC.unsigned_abs();
/// What a kernel says that was built without a family of sockets.
pub(super) const EAFNOSUPPORT: u32 = SKIP + libc::EAFNOSUPPORT.unsigned_abs();
const KILL_PROCESS: u32 = 0x8000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and "tell me".
pub(super) const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// `AF_ALG` and `AF_VSOCK`: kernel cryptography, and the host of a virtual machine.
pub(super) const REFUSED_FAMILIES: [u32; 2] = [38, 40];
pub(super) const AF_UNIX: u32 = libc::AF_UNIX.cast_unsigned();

/// The filter that does with each call what `decide` says of what `look_up` says of its number; all
/// numbers beyond [`syscalls::LAST_KNOWN`] are as the first of them. A program for another
/// architecture (i386) is killed: its numbers mean other things.
pub(super) fn filter<T: Copy + PartialEq>(
    look_up: impl Fn(u32) -> T,
    decide: impl Fn(T) -> Vec<Instruction>,
) -> Vec<Instruction> {
    // Runs of numbers that are treated alike, each by its first number, ascending from 0.
    let mut segments: Vec<(u32, T)> = Vec::new();
    for number in 0..=syscalls::LAST_KNOWN + 1 {
        let what = look_up(number);
        if segments.last().is_none_or(|(_, last)| *last != what) {
            segments.push((number, what));
        }
    }
    let mut program = vec![
        plain(LOAD, OFFSET_ARCHITECTURE),
        branch(IF_EQUAL, syscalls::ARCHITECTURE, 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD, OFFSET_NUMBER),
    ];
    program.extend(search(&segments, &decide));
    program
}

/// Code that finds the segment of the loaded number and gives its verdict.
fn search<T: Copy>(
    segments: &[(u32, T)],
    decide: &impl Fn(T) -> Vec<Instruction>,
) -> Vec<Instruction> {
    match segments {
        [] => vec![plain(RETURN, ENOSYS)],
        [(_, what)] => decide(*what),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let (below, above) = (search(low, decide), search(high, decide));
            // A conditional jump reaches 255 instructions, a plain one as far as needed.
            let skip = u32::try_from(below.len()).expect("a filter has a few hundred instructions");
            let mut code = vec![branch(IF_AT_LEAST, high[0].0, 0, 1), plain(JUMP, skip)];
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

/// Code that looks for bits in an argument.
pub(super) fn if_any_bit(index: u32, bits: u32, any: u32, none: u32) -> Vec<Instruction> {
    vec![
        plain(LOAD, argument(index)),
        branch(IF_ANY_BIT, bits, 0, 1),
        plain(RETURN, any),
        plain(RETURN, none),
    ]
}

/// Code that looks an argument up.
pub(super) fn by_value(index: u32, verdicts: &[(u32, u32)], otherwise: u32) -> Vec<Instruction> {
    let mut code = vec![plain(LOAD, argument(index))];
    code.extend(choose(verdicts, otherwise));
    code
}

/// Code that looks up what is loaded.
pub(super) fn choose(verdicts: &[(u32, u32)], otherwise: u32) -> Vec<Instruction> {
    let one =
        |(value, verdict): &(u32, u32)| [branch(IF_EQUAL, *value, 0, 1), plain(RETURN, *verdict)];
    verdicts.iter().flat_map(one).chain([plain(RETURN, otherwise)]).collect()
}

/// Where the low half of an argument is in `seccomp_data`, on a little-endian machine.
pub(super) const fn argument(index: u32) -> u32 {
    OFFSET_ARGUMENTS + 8 * index
}

/// An instruction that goes on with the next one.
pub(super) const fn plain(code: u16, operand: u32) -> Instruction {
    branch(code, operand, 0, 0)
}

/// An instruction that skips so many if its condition holds, and so many if not.
pub(super) const fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

/// What the kernel's interpreter would answer.
#[cfg(test)]
pub(super) fn run(
    program: &[Instruction],
    architecture: u32,
    number: u32,
    arguments: &[u32],
) -> u32 {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = program[at];
        at += 1;
        let taken = match code {
            LOAD => {
                loaded = match operand {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCHITECTURE => architecture,
                    other if other >= OFFSET_ARGUMENTS && other % 8 == 0 => {
                        let index = (other - OFFSET_ARGUMENTS) as usize / 8;
                        arguments.get(index).copied().unwrap_or_default()
                    }
                    other => panic!("loads from {other}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_gets_its_own_and_other_architectures_nothing() {
        let program = filter(|number| number / 3, |third| vec![plain(RETURN, third)]);
        let verdict = |number| run(&program, syscalls::ARCHITECTURE, number, &[]);
        for number in 0..=syscalls::LAST_KNOWN + 1 {
            assert_eq!(verdict(number), number / 3);
        }
        assert_eq!(verdict(u32::MAX), (syscalls::LAST_KNOWN + 1) / 3);
        assert_eq!(run(&program, 3, 0, &[]), KILL_PROCESS);
    }
}
