//! The ways in which a step can come to see an image as its root file system.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a step comes to see the image as `/`, and what keeps it there. Weaker ways are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The step's system calls are answered by a process that watches it. Needs no privilege.
    Emulate,
    /// `chroot` into a private directory, with Landlock as the wall. Needs uid 0 and `CAP_SYS_CHROOT`.
    Chroot,
    /// Namespaces, mounts and `pivot_root`.
    Namespaces,
}

impl Isolation {
    /// All of them, the strongest first: the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Namespaces, Self::Chroot, Self::Emulate];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emulate => "emulate",
            Self::Chroot => "chroot",
            Self::Namespaces => "namespaces",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of an [`Isolation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of namespaces, chroot, emulate")]
pub struct UnknownIsolation(pub String);

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|isolation| isolation.name() == name);
        found.ok_or_else(|| UnknownIsolation(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_stronger_is_greater() {
        for isolation in Isolation::ALL {
            assert_eq!(isolation.name().parse(), Ok(isolation));
        }
        assert!(Isolation::ALL.is_sorted_by(|one, other| one > other));
        "docker".parse::<Isolation>().expect_err("not one of ours");
    }
}
