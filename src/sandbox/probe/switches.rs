//! The machine's settings about user namespaces: they explain a refusal, and never decide.

use std::fs;

/// Settings that forbid user namespaces, as far as the machine has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// `user.max_user_namespaces` is 0.
    pub limit_is_0: bool,
    /// `kernel.unprivileged_userns_clone` is 0: Debian's switch.
    pub root_only: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1: Ubuntu's.
    pub apparmor: bool,
}

impl Switches {
    /// Reads them.
    pub(super) fn read() -> Self {
        let is = |path: &str, value: &str| {
            fs::read_to_string(path).is_ok_and(|content| content.trim() == value)
        };
        Self {
            limit_is_0: is("/proc/sys/user/max_user_namespaces", "0"),
            root_only: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        }
    }
}
