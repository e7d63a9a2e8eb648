//! Why this machine does not let us run steps.

use std::io;

use crate::sandbox::choice::NoIsolation;
use crate::sandbox::probe::Switches;

/// Why [`enter`](crate::sandbox::enter) failed. It matters only to builds that run something.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// It was called too late.
    #[error("a user namespace can only be entered before the first thread is started")]
    Threads(#[source] io::Error),
    /// A trial process could not be started.
    #[error("cannot find out what this machine allows")]
    Try(#[source] io::Error),
    /// No way to isolate steps that was asked for works here.
    #[error("{0}")]
    Refused(NoIsolation),
    /// The namespace was made, but its ids could not be set.
    #[error("cannot set the ids of the user namespace")]
    Map(#[source] io::Error),
    /// `--isolation none`.
    #[error("`--isolation none` forbids to run commands")]
    Forbidden,
}

impl EnterError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(none) => Some(none.hint()),
            Self::Forbidden => Some("leave the option away".to_owned()),
            Self::Threads(_) | Self::Try(_) | Self::Map(_) => None,
        }
    }
}

/// What is in the way of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `user.max_user_namespaces` is 0 or used up.
    #[error("no more user namespaces are allowed (user.max_user_namespaces)")]
    Limit,
    /// Debian's switch.
    #[error("user namespaces are for root only (kernel.unprivileged_userns_clone)")]
    Switch,
    /// Ubuntu's restriction: a namespace is made, but without any power.
    #[error("AppArmor takes the power from user namespaces")]
    AppArmor,
    /// Not in this kernel.
    #[error("this kernel has no user namespaces")]
    Kernel,
    /// The system calls are refused, which is what a container's seccomp profile does.
    #[error("the surrounding container or a security module refuses user namespaces")]
    Outside,
}

impl Refusal {
    /// What `errno` means under these settings. `made_namespace` says that there was a namespace, in
    /// which something else then failed.
    pub(super) fn of(made_namespace: bool, errno: i32, switches: Switches) -> Self {
        match errno {
            libc::ENOSPC | libc::EUSERS => Self::Limit,
            _ if switches.limit_is_0 => Self::Limit,
            libc::EINVAL | libc::ENOSYS if !made_namespace => Self::Kernel,
            _ if switches.root_only => Self::Switch,
            libc::EPERM | libc::EACCES if switches.apparmor => Self::AppArmor,
            _ => Self::Outside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_follows_from_the_error_and_the_switches() {
        let none = Switches::default();
        let apparmor = Switches { apparmor: true, ..none };
        let limit_is_0 = Switches { limit_is_0: true, ..none };
        let root_only = Switches { root_only: true, ..none };
        for (made, errno, switches, expected) in [
            (false, libc::ENOSPC, none, Refusal::Limit),
            (false, libc::EPERM, limit_is_0, Refusal::Limit),
            (false, libc::EPERM, root_only, Refusal::Switch),
            (true, libc::EACCES, apparmor, Refusal::AppArmor),
            (true, libc::EPERM, apparmor, Refusal::AppArmor),
            (false, libc::EINVAL, none, Refusal::Kernel),
            (false, libc::EPERM, none, Refusal::Outside),
        ] {
            assert_eq!(Refusal::of(made, errno, switches), expected, "{errno} {switches:?}");
        }
    }
}
