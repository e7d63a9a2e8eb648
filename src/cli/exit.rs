//! Exit codes: one for each kind of failure that a script would treat differently.

use std::process::ExitCode;

/// How a command ended, for whoever called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A step of the build failed; its own status is in the error.
    StepFailed,
    /// The Dockerfile or the command line is wrong.
    Usage,
    /// A registry or the network refused.
    Registry,
    /// This machine cannot do it: no user namespaces, no space, no permission.
    Machine,
    /// A bug in coracle.
    Bug,
    /// Ctrl-C.
    Interrupted,
    /// `coracle run`: the status of the command itself.
    Command(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::StepFailed => 1,
            Self::Usage => 2,
            Self::Registry => 3,
            Self::Machine => 4,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::Command(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
