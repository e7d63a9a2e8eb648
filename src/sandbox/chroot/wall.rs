//! What keeps a step in its root: Landlock, which the kernel enforces whatever a process can get hold
//! of. `chroot` by itself is no wall to root.
//!
//! Manual: <https://docs.kernel.org/userspace-api/landlock.html>.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

/// The newest version whose rights are known here: of younger ones the rest is left alone.
const NEWEST: ABI = ABI::V6;

/// What the wall of this kernel keeps in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sandbox) enum Wall {
    /// Nothing: Landlock is missing.
    None,
    /// Reading and writing files, and tracing processes.
    Files,
    /// Signals and abstract sockets too (Linux 6.12).
    All,
}

impl Wall {
    /// What this kernel has, found out by asking for it.
    pub(in crate::sandbox) fn of_kernel() -> Self {
        let can = |abi: ABI| {
            let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            let ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V1));
            let ruleset = match abi {
                ABI::V6 => ruleset.and_then(|it| it.scope(Scope::from_all(ABI::V6))),
                _ => ruleset,
            };
            ruleset.and_then(Ruleset::create).is_ok()
        };
        if can(ABI::V6) {
            Self::All
        } else if can(ABI::V1) {
            Self::Files
        } else {
            Self::None
        }
    }
}

/// Lets this process and what it starts reach nothing but what is below `root`, as far as the kernel
/// can do that. Without `network` no TCP connections either.
///
/// It sets "no new privileges", too.
pub(super) fn build(root: BorrowedFd<'_>, network: bool) -> io::Result<Wall> {
    let failed = |error: landlock::RulesetError| io::Error::other(error);
    let files = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    ruleset = ruleset.handle_access(files).map_err(failed)?;
    if !network {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST)).map_err(failed)?;
    }
    let ruleset = ruleset.scope(Scope::from_all(NEWEST)).map_err(failed)?;
    let created = ruleset.create().map_err(failed)?;
    let created = created.add_rule(PathBeneath::new(root.as_fd(), files)).map_err(failed)?;
    let status = created.restrict_self().map_err(failed)?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => Wall::None,
        RulesetStatus::FullyEnforced => Wall::All,
        RulesetStatus::PartiallyEnforced => Wall::of_kernel(),
    })
}
