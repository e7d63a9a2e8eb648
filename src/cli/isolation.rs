//! The options that say how steps are to be isolated.

use std::str::FromStr;

use clap::Args;

use crate::sandbox::{Isolation, UnknownIsolation, Wish};

/// How steps are kept in their root file system.
#[derive(Debug, Clone, Args)]
pub(crate) struct IsolationArguments {
    /// How to keep commands in their root file system: `auto` takes the strongest way that works
    /// here and has ids for all owners of files, `none` runs no commands.
    #[arg(
        long,
        global = true,
        value_name = "auto|namespaces|chroot|emulate|none",
        default_value = "auto"
    )]
    pub(crate) isolation: IsolationChoice,
    /// Fail where commands cannot be isolated at least this well: namespaces are the strongest, then
    /// chroot, then emulate.
    #[arg(long, global = true, value_name = "namespaces|chroot|emulate")]
    pub(crate) min_isolation: Option<Isolation>,
    /// Allow `chroot` where the kernel has no Landlock: nothing then keeps commands from what root of
    /// this container may do.
    #[arg(long, global = true)]
    pub(crate) insecure_isolation: bool,
}

impl IsolationArguments {
    /// What the sandbox is asked for; `None` if nothing is to run.
    pub(crate) fn wish(&self) -> Option<Wish> {
        let isolation = match self.isolation {
            IsolationChoice::Auto => None,
            IsolationChoice::Only(isolation) => Some(isolation),
            IsolationChoice::None => return None,
        };
        let insecure = self.insecure_isolation;
        Some(Wish { isolation, at_least: self.min_isolation, insecure })
    }
}

/// `--isolation`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsolationChoice {
    /// Whichever works.
    Auto,
    /// This way and no other.
    Only(Isolation),
    /// None: commands are refused.
    None,
}

impl FromStr for IsolationChoice {
    type Err = UnknownIsolation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            name => name.parse().map(Self::Only),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_way_or_a_word() {
        assert_eq!("auto".parse(), Ok(IsolationChoice::Auto));
        assert_eq!("none".parse(), Ok(IsolationChoice::None));
        assert_eq!("chroot".parse(), Ok(IsolationChoice::Only(Isolation::Chroot)));
        "docker".parse::<IsolationChoice>().expect_err("not one of ours");
    }
}
