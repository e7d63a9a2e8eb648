//! Why this machine does not let us run steps, and the exact way to change that.

use std::fs;
use std::io;

/// Why [`enter`](crate::sandbox::enter) failed. It matters only to builds that run something.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// It was called too late.
    #[error("a user namespace can only be entered before the first thread is started")]
    Threads(#[source] io::Error),
    /// A trial process could not be started.
    #[error("cannot find out what this machine allows")]
    Try(#[source] io::Error),
    /// The kernel, or what surrounds this process, said no.
    #[error("cannot run commands here: {refusal}")]
    Refused {
        /// What is in the way.
        refusal: Refusal,
        /// Whether this process is root, without the power of root.
        is_root: bool,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace was made, but its ids could not be set.
    #[error("cannot set the ids of the user namespace")]
    Map(#[source] io::Error),
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
    /// Reads off the machine what an error means.
    pub(super) fn find(made_namespace: bool, error: &io::Error) -> Self {
        let is = |path: &str, value: &str| {
            fs::read_to_string(path).is_ok_and(|content| content.trim() == value)
        };
        let switches = Switches {
            limit_is_0: is("/proc/sys/user/max_user_namespaces", "0"),
            root_only: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        };
        Self::of(made_namespace, error.raw_os_error().unwrap_or_default(), switches)
    }

    fn of(made_namespace: bool, errno: i32, switches: Switches) -> Self {
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

/// The machine's settings about user namespaces, as far as it has them.
#[derive(Debug, Clone, Copy, Default)]
struct Switches {
    limit_is_0: bool,
    root_only: bool,
    apparmor: bool,
}

impl EnterError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let Self::Refused { refusal, is_root, .. } = self else { return None };
        let hint = match refusal {
            Refusal::Limit => {
                "allow them: `sudo sysctl -w user.max_user_namespaces=15000` (to keep it, a file \
                 in /etc/sysctl.d)"
            }
            Refusal::Switch => "allow them: `sudo sysctl -w kernel.unprivileged_userns_clone=1`",
            Refusal::AppArmor => {
                "allow them: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or \
                 give coracle an AppArmor profile with the rule `userns,`"
            }
            Refusal::Kernel => "use a kernel built with CONFIG_USER_NS",
            Refusal::Outside if *is_root => {
                "give the container CAP_SYS_ADMIN, or a seccomp profile that allows unshare and \
                 mount: `docker run --security-opt seccomp=unconfined --security-opt \
                 apparmor=unconfined --security-opt systempaths=unconfined`"
            }
            Refusal::Outside => {
                "use a seccomp profile that allows unshare and mount: `docker run --security-opt \
                 seccomp=unconfined --security-opt apparmor=unconfined`; in Kubernetes, \
                 `seccompProfile: {type: Unconfined}`"
            }
        };
        Some(hint.to_owned())
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

    #[test]
    fn each_refusal_has_a_hint() {
        for refusal in [Refusal::Limit, Refusal::Switch, Refusal::AppArmor, Refusal::Outside] {
            let source = io::Error::from_raw_os_error(libc::EPERM);
            let error = EnterError::Refused { refusal, is_root: false, source };
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
