//! The first line of a script: `#!interpreter argument`.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/execve.2.html>.

use rustix::io::Errno;

/// As much of a file as the kernel looks at.
pub(super) const LINE: usize = 256;

/// An interpreter and its one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) interpreter: Vec<u8>,
    pub(super) argument: Option<Vec<u8>>,
}

/// Reads the beginning of a file; `None` if it is no script.
///
/// # Errors
///
/// `ENOEXEC` if the line names nothing, or not all of it can be seen.
pub(super) fn parse(start: &[u8]) -> Result<Option<Script>, Errno> {
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => &line[..end],
        // The end of the file is the end of the line. A longer line may lose some of its
        // argument, but not of the interpreter's name.
        None if start.len() < LINE => line,
        None => {
            let skipped = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::NOEXEC)?;
            let named = line[skipped..].iter().any(is_blank);
            if named { line } else { return Err(Errno::NOEXEC) }
        }
    };
    let line = &line[..line.iter().position(|byte| *byte == 0).unwrap_or(line.len())];
    let line = line.trim_ascii();
    let (interpreter, argument) = match line.iter().position(is_blank) {
        Some(end) => (&line[..end], Some(line[end..].trim_ascii().to_vec())),
        None => (line, None),
    };
    if interpreter.is_empty() {
        return Err(Errno::NOEXEC);
    }
    Ok(Some(Script { interpreter: interpreter.to_vec(), argument }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_does() {
        let check = |text: &str, expected: Option<(&str, Option<&str>)>| {
            let script = parse(text.as_bytes()).expect("a line");
            let expected = expected.map(|(interpreter, argument)| Script {
                interpreter: interpreter.into(),
                argument: argument.map(Into::into),
            });
            assert_eq!(script, expected, "{text:?}");
        };
        check("echo\n", None);
        check("#!/bin/sh\nx", Some(("/bin/sh", None)));
        check("#! /bin/sh -e  \nx", Some(("/bin/sh", Some("-e"))));
        check("#!/usr/bin/env -S a b\n", Some(("/usr/bin/env", Some("-S a b"))));
        check("#!/bin/true", Some(("/bin/true", None)));
        let long = format!("#!/bin/sh {}", "x".repeat(400));
        check(&long[..LINE], Some(("/bin/sh", Some(&long[10..LINE]))));
    }

    #[test]
    fn lines_that_name_nothing_are_refused() {
        assert_eq!(parse(b"#!\n"), Err(Errno::NOEXEC));
        assert_eq!(parse(b"#!   \n/bin/sh"), Err(Errno::NOEXEC));
        let long = format!("#!/{}", "x".repeat(400));
        assert_eq!(parse(&long.as_bytes()[..LINE]), Err(Errno::NOEXEC));
    }
}
