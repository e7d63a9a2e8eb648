//! Why a command could not be run in the sandbox.

use std::io;

use crate::sandbox::OneId;
use crate::sandbox::identity::LONGER_RANGE;

/// Why [`Sandbox::run`](crate::sandbox::Sandbox::run) has no exit status to give.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It was cancelled; everything that it had started is dead.
    #[error("interrupted")]
    Interrupted,
    /// There are no words to run.
    #[error("there is no command to run")]
    NoCommand,
    /// The step's user or group is not among the ids of this user namespace.
    #[error("{kind} {id} does not exist in this build's user namespace, which has {available} ids")]
    NoSuchId {
        /// `user` or `group`.
        kind: &'static str,
        /// As the image counts.
        id: u32,
        /// How many ids there are.
        available: u64,
        /// Why there is only one, if so.
        why: Option<OneId>,
    },
    /// The process for the sandbox could not be started, or not be spoken to.
    #[error("cannot start the sandbox's own process")]
    Start(#[source] io::Error),
    /// The root file system or its surroundings could not be made.
    #[error("cannot {action}")]
    SetUp {
        /// What was being done, as a verb and its object.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sandbox's own process was killed from outside, perhaps for want of memory.
    #[error("the sandbox's own process ended without a result")]
    Lost,
}

impl SandboxError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchId { why: Some(why), .. } => Some(why.hint()),
            Self::NoSuchId { why: None, .. } => Some(LONGER_RANGE.to_owned()),
            Self::SetUp { source, .. } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Some("a limit is used up: see `sysctl user` and the free disk space".to_owned())
            }
            Self::SetUp { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => Some(
                "overlayfs cannot keep changes on every file system, and not on a container's \
                 own root: put the store on a volume, a local disk or a tmpfs"
                    .to_owned(),
            ),
            Self::Start(source) if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "coracle runs a copy of itself from memory: `sudo sysctl -w vm.memfd_noexec=0`"
                    .to_owned(),
            ),
            Self::Lost => Some("see the kernel's log for the out-of-memory killer".to_owned()),
            Self::SetUp { .. } | Self::Interrupted | Self::NoCommand | Self::Start(_) => None,
        }
    }
}

/// A step of setting up that failed, on its way out of the sandbox's process.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was being done, as a verb and its object.
    pub(super) action: String,
    /// What the kernel said.
    pub(super) source: io::Error,
}

/// Names what was being done when something failed.
pub(super) trait While<T> {
    /// `action` is a verb and its object, to follow "cannot".
    fn to(self, action: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn to(self, action: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { action: action.into(), source: error.into() })
    }
}
