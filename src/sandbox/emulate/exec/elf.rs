//! Programs in ELF: which interpreter they want, and how to make them want another.
//!
//! The kernel reads the name of the interpreter by its place in the *file*, but looks it up outside
//! of the step's root. So a copy of the program gets the real name of the interpreter at its end, and
//! its header says that it is there. The program itself, once loaded, finds the old name where it
//! always was, as that is named by its place in *memory*.
//!
//! Spec: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>.

use rustix::io::Errno;

/// The size of the header, and of each program header.
pub(super) const HEADER: usize = 64;
const ENTRY: usize = 56;
const PT_INTERP: u32 = 3;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
/// As the kernel: more than one page of program headers are refused.
const MAX_ENTRIES: usize = 4096 / ENTRY;

/// What a program says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Where the name of its interpreter is in the file, how long it is, and where that is said.
    pub(super) interpreter: Option<Interpreter>,
}

/// Where a program names its interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub(super) offset: u64,
    /// With the zero byte at its end.
    pub(super) length: u64,
    /// Where in the file the program header is.
    entry: u64,
}

impl Interpreter {
    /// What to write where in the file, so that the name is elsewhere.
    pub(super) fn moved_to(self, offset: u64, length: u64) -> [(u64, [u8; 8]); 2] {
        // `p_offset` and `p_filesz`.
        [(self.entry + 8, offset.to_le_bytes()), (self.entry + 32, length.to_le_bytes())]
    }
}

/// Reads a program. `read` gives so many bytes from a place in the file.
///
/// # Errors
///
/// `ENOEXEC` if the kernel would not run it here.
pub(super) fn parse(read: impl Fn(u64, usize) -> Result<Vec<u8>, Errno>) -> Result<Program, Errno> {
    let header = read(0, HEADER)?;
    let is_64_bit_little_endian = header[4..6] == [2, 1];
    let machine = u16::from_le_bytes([header[18], header[19]]);
    let kind = u16::from_le_bytes([header[16], header[17]]);
    if !header.starts_with(b"\x7fELF")
        || !is_64_bit_little_endian
        || machine != EM_X86_64
        || ![ET_EXEC, ET_DYN].contains(&kind)
    {
        return Err(Errno::NOEXEC);
    }
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    let size = usize::from(u16::from_le_bytes([header[54], header[55]]));
    if size != ENTRY || count == 0 || count > MAX_ENTRIES {
        return Err(Errno::NOEXEC);
    }
    let table = number(&header, 32);
    let entries = read(table, count * ENTRY)?;
    let found = entries.chunks_exact(ENTRY).position(|entry| entry[..4] == PT_INTERP.to_le_bytes());
    let interpreter = found.map(|index| {
        let entry = &entries[index * ENTRY..][..ENTRY];
        let place = table + (index * ENTRY) as u64;
        Interpreter { offset: number(entry, 8), length: number(entry, 32), entry: place }
    });
    if interpreter.is_some_and(|found| !(2..=4096).contains(&found.length)) {
        return Err(Errno::NOEXEC);
    }
    Ok(Program { interpreter })
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_bytes(bytes: &[u8]) -> Result<Program, Errno> {
        parse(|offset, length| {
            let start = usize::try_from(offset).map_err(|_| Errno::NOEXEC)?;
            let part = bytes.get(start..).and_then(|rest| rest.get(..length));
            part.map(<[u8]>::to_vec).ok_or(Errno::NOEXEC)
        })
    }

    #[test]
    fn the_interpreter_of_a_real_program_is_found_and_moved() {
        let mut program = std::fs::read("/bin/sh").expect("Debian has a shell");
        let found = parse_bytes(&program).expect("a program").interpreter.expect("it is dynamic");
        let name = |program: &[u8], found: Interpreter| {
            let start = usize::try_from(found.offset).expect("small");
            let length = usize::try_from(found.length).expect("small");
            String::from_utf8_lossy(&program[start..start + length]).into_owned()
        };
        assert_eq!(name(&program, found), "/lib64/ld-linux-x86-64.so.2\0");
        let end = program.len() as u64;
        program.extend_from_slice(b"/elsewhere\0");
        for (at, bytes) in found.moved_to(end, 11) {
            let at = usize::try_from(at).expect("small");
            program[at..at + 8].copy_from_slice(&bytes);
        }
        let moved = parse_bytes(&program).expect("a program").interpreter.expect("as before");
        assert_eq!(name(&program, moved), "/elsewhere\0");
    }

    #[test]
    fn what_is_no_program_for_this_machine_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 4096]] {
            assert_eq!(parse_bytes(bytes), Err(Errno::NOEXEC));
        }
        let mut other = std::fs::read("/bin/sh").expect("Debian has a shell");
        other[18] = 183;
        assert_eq!(parse_bytes(&other), Err(Errno::NOEXEC));
    }
}
