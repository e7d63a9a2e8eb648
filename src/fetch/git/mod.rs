//! Git repositories: one commit's files, by way of the program `git`.
//!
//! A bare repository in the store keeps what was fetched; a lock beside it lets one process at a
//! time change it. A checkout is made for each use, in a temporary directory.
//!
//! `git` runs in an environment of its own: no configuration of the user or the machine, no
//! credential helper, no prompt, no hook, no protocol but the four that are meant.

mod command;
mod repository;
mod tree;

pub use crate::fetch::git::command::{GitError, GitSettings};
pub(crate) use crate::fetch::git::repository::{Found, Repository};
pub use crate::fetch::git::tree::Checkout;

use crate::oci::Digest;
use crate::plan::GitSource;

/// A digest that names the files of a commit, as `source` wants them.
pub(crate) fn identity(source: &GitSource, found: &Found) -> Digest {
    let GitSource { subdir, keep_git_dir, submodules, remote, .. } = source;
    // `.git` says where it came from, and by which name.
    let origin = keep_git_dir.unwrap_or(false).then_some((remote, &found.object, &found.name));
    Digest::of(format!("git {} {subdir:?} {submodules} {origin:?}", found.commit))
}
