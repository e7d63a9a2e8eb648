//! How a command ended.

use std::time::Duration;
use std::{fmt, io};

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was ended, as it took longer than this.
    TimedOut(Duration),
    /// It was ended by the kernel, as it used more memory than it may: so many bytes.
    OutOfMemory(u64),
    /// It never began.
    NotStarted {
        /// The program, as it was asked for.
        program: String,
        /// The kernel's error number.
        errno: i32,
    },
}

impl Exit {
    /// Whether the command did its work.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// The status that a shell would show: 128 and the signal; 127 for a program that is not
    /// there, 126 for one that cannot be run.
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => 128 + signal,
            Self::TimedOut(_) | Self::OutOfMemory(_) => 128 + libc::SIGKILL,
            Self::NotStarted { errno: libc::ENOENT, .. } => 127,
            Self::NotStarted { .. } => 126,
        }
    }

    /// Why the program was not started; `None` if it was. One line, which names it.
    pub fn reason(&self) -> Option<String> {
        let Self::NotStarted { program, errno } = self else { return None };
        let reason = match *errno {
            libc::ENOENT if !program.contains('/') => {
                "executable file not found in $PATH".to_owned()
            }
            libc::ENOENT => "no such file or directory".to_owned(),
            libc::EACCES => "permission denied".to_owned(),
            libc::ENOEXEC => "exec format error (a script without `#!`, or another machine's \
                              program)"
                .to_owned(),
            other => io::Error::from_raw_os_error(other).to_string(),
        };
        Some(format!("exec {program:?}: {reason}"))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.reason()) {
            (_, Some(reason)) => f.write_str(&reason),
            (Self::TimedOut(after), _) => write!(f, "it took longer than {after:?}"),
            (Self::OutOfMemory(bytes), _) => {
                write!(f, "it used more than {bytes} bytes of memory")
            }
            _ => write!(f, "exit code: {}", self.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(exit: &Exit, code: i32, text: &str) {
        assert_eq!((exit.code(), exit.to_string().as_str()), (code, text));
    }

    #[test]
    fn a152_a_status_is_shown_as_a_number() {
        check(&Exit::Code(42), 42, "exit code: 42");
        check(&Exit::Signal(9), 137, "exit code: 137");
        check(&Exit::TimedOut(Duration::from_millis(1500)), 137, "it took longer than 1.5s");
    }

    #[test]
    fn a152_a_program_that_is_not_there_is_named() {
        let missing = |program: &str, errno| Exit::NotStarted { program: program.into(), errno };
        check(
            &missing("nope", libc::ENOENT),
            127,
            r#"exec "nope": executable file not found in $PATH"#,
        );
        check(
            &missing("/bin/sh", libc::ENOENT),
            127,
            r#"exec "/bin/sh": no such file or directory"#,
        );
        check(&missing("/etc", libc::EACCES), 126, r#"exec "/etc": permission denied"#);
    }
}
