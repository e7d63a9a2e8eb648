//! The stack of a thread around an exec: the new arguments before, and afterwards what the kernel has
//! told the new program about itself.
//!
//! Manual: <https://man7.org/linux/man-pages/man3/getauxval.3.html>

use rustix::io::Errno;
use rustix::process::Pid;

use crate::sandbox::emulate::credentials::Credentials;
use crate::sandbox::emulate::exec::Prepared;
use crate::sys::remote;

/// What is below the stack pointer may be in use for this many bytes.
const RED_ZONE: u64 = 128;
/// What is written further below fits on any stack: a signal's frame is larger.
pub(in crate::sandbox::emulate) const ON_STACK: usize = 512;
/// More arguments than the kernel would take.
const MAX_ARGUMENTS: usize = 1 << 20;
/// More than that of a new program's stack is never read: environment pointers and auxiliary vector.
const MAX_STACK: usize = 16 << 20;
const WORD: usize = size_of::<u64>();

const AT_NULL: u64 = 0;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_SECURE: u64 = 23;
const AT_EXECFN: u64 = 31;

/// Strings and pointers that an exec needs, not yet at an address.
#[derive(Debug)]
pub(in crate::sandbox::emulate) struct Block {
    path: Vec<u8>,
    /// The strings that replace the first argument, and the pointers that follow.
    arguments: Option<(Vec<Vec<u8>>, Vec<u64>)>,
}

impl Block {
    /// For `prepared`, by a thread whose list of arguments is at `list`.
    pub(in crate::sandbox::emulate) fn new(
        thread: Pid,
        prepared: &Prepared,
        list: u64,
    ) -> Result<Self, Errno> {
        let arguments = match &prepared.arguments {
            None => None,
            Some(strings) => Some((strings.clone(), pointers(thread, list)?)),
        };
        Ok(Self { path: prepared.host.clone(), arguments })
    }

    /// How many bytes it needs.
    pub(in crate::sandbox::emulate) fn size(&self) -> usize {
        let strings = |strings: &Vec<Vec<u8>>| strings.iter().map(|s| s.len() + 1).sum::<usize>();
        let list = self
            .arguments
            .as_ref()
            .map_or(0, |(new, rest)| strings(new) + (new.len() + rest.len() + 1) * WORD + WORD);
        self.path.len() + 1 + list
    }

    /// Writes it to a thread's memory: at `room`, or else below the stack pointer. Gives the
    /// addresses of the path, and of the list of arguments if there is a new one.
    pub(in crate::sandbox::emulate) fn write(
        &self,
        thread: Pid,
        stack: u64,
        room: Option<u64>,
    ) -> Result<(u64, Option<u64>), Errno> {
        let below = stack.wrapping_sub(RED_ZONE).wrapping_sub(self.size() as u64);
        let start = room.unwrap_or(below & !15);
        let mut bytes = Vec::with_capacity(self.size());
        let mut list = None;
        if let Some((strings, rest)) = &self.arguments {
            list = Some(start);
            let mut at = start + ((strings.len() + rest.len() + 1) * WORD) as u64;
            for string in strings {
                bytes.extend(at.to_ne_bytes());
                at += string.len() as u64 + 1;
            }
            bytes.extend(rest.iter().chain(&[0]).flat_map(|pointer| pointer.to_ne_bytes()));
            for string in strings {
                bytes.extend_from_slice(string);
                bytes.push(0);
            }
        }
        let path = start + bytes.len() as u64;
        bytes.extend_from_slice(&self.path);
        bytes.push(0);
        remote::write(thread, start, &bytes)?;
        Ok((path, list))
    }
}

/// The pointers of a list of arguments but for the first.
fn pointers(thread: Pid, list: u64) -> Result<Vec<u64>, Errno> {
    if list == 0 {
        return Ok(Vec::new());
    }
    let all = words_until(thread, list, MAX_ARGUMENTS * WORD, |words| {
        words.iter().position(|word| *word == 0)
    })?;
    Ok(all.into_iter().skip(1).collect())
}

/// Reads words until `end` finds where they end; gives those before.
fn words_until(
    thread: Pid,
    address: u64,
    limit: usize,
    end: impl Fn(&[u64]) -> Option<usize>,
) -> Result<Vec<u64>, Errno> {
    let mut words = Vec::new();
    let mut chunk = [0; 4096];
    while words.len() * WORD < limit {
        let at = address + (words.len() * WORD) as u64;
        // Never more than a page at once: what follows may not be there.
        let in_page = chunk.len() - usize::try_from(at % 4096).unwrap_or(0);
        let count = remote::read(thread, at, &mut chunk[..in_page])? / WORD * WORD;
        if count == 0 {
            return Err(Errno::FAULT);
        }
        for word in chunk[..count].chunks_exact(WORD) {
            words.push(u64::from_ne_bytes(word.try_into().map_err(|_| Errno::FAULT)?));
        }
        if let Some(end) = end(&words) {
            words.truncate(end);
            return Ok(words);
        }
    }
    Err(Errno::TOOBIG)
}

/// Tells a program that is about to begin, with its stack at `stack`, who it is and how it was called.
pub(in crate::sandbox::emulate) fn introduce(
    thread: Pid,
    stack: u64,
    who: &Credentials,
    name: &[u8],
    host: &[u8],
    secure: bool,
) -> Result<(), Errno> {
    // Number of arguments, arguments, 0, environment, 0, pairs of which the last is `AT_NULL`.
    let words = words_until(thread, stack, MAX_STACK, |words| {
        let start = auxiliary(words)?;
        let pairs = words[start..].chunks_exact(2);
        pairs.into_iter().position(|pair| pair[0] == AT_NULL).map(|index| start + 2 * index)
    })?;
    let start = auxiliary(&words).ok_or(Errno::FAULT)?;
    let mut vector = words[start..].to_vec();
    let mut called = None;
    for pair in vector.chunks_exact_mut(2) {
        pair[1] = match pair[0] {
            AT_UID => u64::from(who.users.real),
            AT_EUID => u64::from(who.users.effective),
            AT_GID => u64::from(who.groups.real),
            AT_EGID => u64::from(who.groups.effective),
            AT_SECURE if secure => 1,
            AT_EXECFN => {
                called = Some(pair[1]);
                pair[1]
            }
            _ => pair[1],
        };
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|word| word.to_ne_bytes()).collect();
    remote::write(thread, stack + (start * WORD) as u64, &bytes)?;
    match called {
        // The real name is there; the step's fits into its place, or else the real one stays.
        Some(at) if name.len() <= host.len() => remote::write(thread, at, &[name, b"\0"].concat()),
        _ => Ok(()),
    }
}

/// Where the auxiliary vector begins, if that can be seen already.
fn auxiliary(words: &[u64]) -> Option<usize> {
    let arguments = usize::try_from(*words.first()?).ok()?;
    let environment = arguments.checked_add(2)?;
    let length = words.get(environment..)?.iter().position(|word| *word == 0)?;
    Some(environment + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_follows_the_environment() {
        assert_eq!(auxiliary(&[1, 0x10, 0, 0x20, 0x30, 0, 11, 0, 0, 0]), Some(6));
        assert_eq!(auxiliary(&[1, 0x10, 0, 0x20]), None);
        assert_eq!(auxiliary(&[0, 0, 0, 0]), Some(3));
        assert_eq!(auxiliary(&[u64::MAX]), None);
    }

    #[test]
    fn a_block_is_written_with_its_pointers() {
        let me = rustix::process::getpid();
        let mut memory = vec![0_u64; 64];
        let room = memory.as_mut_ptr().expose_provenance() as u64;
        let list = [7_u64, 8, 9, 0];
        let prepared = Prepared {
            host: b"/host/sh".to_vec(),
            file: (0, 0),
            name: b"/bin/sh".to_vec(),
            arguments: Some(vec![b"/bin/sh".to_vec(), b"script".to_vec()]),
            setuid: None,
            setgid: None,
        };
        let at = list.as_ptr().expose_provenance() as u64;
        let block = Block::new(me, &prepared, at).expect("our own memory");
        assert!(block.size() < ON_STACK);
        let (path, list) = block.write(me, 0, Some(room)).expect("our own memory");
        let list = list.expect("there are new arguments");
        assert_eq!(list, room);
        assert_eq!(remote::read_string(me, path, 100), Ok(b"/host/sh".to_vec()));
        let words = words_until(me, list, 1 << 10, |words| words.iter().position(|w| *w == 0));
        let words = words.expect("our own memory");
        assert_eq!(words[2..], [8, 9]);
        assert_eq!(remote::read_string(me, words[0], 100), Ok(b"/bin/sh".to_vec()));
        assert_eq!(remote::read_string(me, words[1], 100), Ok(b"script".to_vec()));
    }
}
