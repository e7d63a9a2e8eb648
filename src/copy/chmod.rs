//! `--chmod`: permission bits, absolute or as changes (rule A126).
//!
//! The symbolic form is that of `chmod(1)` without a umask: `u=rwX,go=rX`, `+x`, `g=u`.
//!
//! Spec: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/chmod.html>.

use crate::plan::Chmod;

/// What the bits are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    File,
    Directory,
}

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;

/// The permission bits of something that had `mode`.
pub(crate) fn apply(chmod: &Chmod, mode: u32, target: Target) -> u32 {
    match chmod {
        Chmod::Octal(mode) => *mode,
        Chmod::Symbolic(text) => {
            text.split(',').fold(mode, |mode, clause| apply_clause(clause, mode, target))
        }
    }
}

/// One clause, such as `ug+rwX-t`.
fn apply_clause(clause: &str, mode: u32, target: Target) -> u32 {
    let operator = |character: char| matches!(character, '+' | '-' | '=');
    let who_ends = clause.find(operator).unwrap_or(clause.len());
    let (who, mut rest) = clause.split_at(who_ends);
    let mask = mask(who);
    let mut mode = mode;
    while let Some(action) = rest.chars().next() {
        let ends = rest[1..].find(operator).map_or(rest.len(), |at| at + 1);
        let bits = bits(&rest[1..ends], mode, mask, target);
        mode = match action {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !mask) | bits,
        };
        rest = &rest[ends..];
    }
    mode
}

/// The bits that `who` may change.
fn mask(who: &str) -> u32 {
    let of = |who: char| match who {
        'u' => 0o4700 | STICKY,
        'g' => 0o2070 | STICKY,
        'o' => 0o0007,
        _ => 0o7777,
    };
    if who.is_empty() { 0o7777 } else { who.chars().map(of).fold(0, |mask, bits| mask | bits) }
}

/// The bits that the letters name, within `mask`.
fn bits(letters: &str, mode: u32, mask: u32, target: Target) -> u32 {
    let everyone = |bits: u32| bits | bits << 3 | bits << 6;
    let runs = target == Target::Directory || mode & 0o111 != 0;
    let of = |letter: char| match letter {
        'r' => everyone(4),
        'w' => everyone(2),
        'x' => everyone(1),
        'X' if runs => everyone(1),
        's' => SET_IDS,
        't' => STICKY,
        'u' => everyone(mode >> 6 & 7),
        'g' => everyone(mode >> 3 & 7),
        'o' => everyone(mode & 7),
        _ => 0,
    };
    letters.chars().map(of).fold(0, |all, bits| all | bits) & mask
}

#[cfg(test)]
mod tests {
    use super::Target::{Directory, File};
    use super::*;

    #[test]
    fn a126_symbolic_modes_change_bits() {
        let check = |text: &str, mode: u32, target, expected: u32| {
            let changed = apply(&Chmod::Symbolic(text.to_owned()), mode, target);
            assert_eq!(changed, expected, "{text} on {mode:o}: {changed:o}");
        };
        check("u=rwX,go=rX", 0o700, Directory, 0o755);
        check("u=rwX,go=rX", 0o755, File, 0o755);
        check("u=rwX,go=rX", 0o600, File, 0o644);
        check("+x", 0o644, File, 0o755);
        check("g=u,o=", 0o644, File, 0o660);
        check("a-w", 0o644, File, 0o444);
        check("u+s,g+s,+t", 0o644, File, 0o7644);
        check("go-rwx", 0o755, Directory, 0o700);
        check("ug+rwX,o-rwx", 0o755, File, 0o770);
        check("u=rw", 0o4755, File, 0o655);
        check("u+x-w", 0o644, File, 0o544);
        check("o=t", 0o777, File, 0o770);
    }

    #[test]
    fn a126_octal_modes_replace() {
        assert_eq!(apply(&Chmod::Octal(0o4711), 0o644, Target::Directory), 0o4711);
        assert_eq!(apply(&Chmod::Octal(0), 0o644, Target::File), 0);
    }
}
