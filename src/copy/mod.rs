//! `COPY`, `ADD` and `WORKDIR`: layers that are computed.
//!
//! Nothing is mounted, and no privilege is needed. The names and metadata that a step adds are
//! collected in a staging tree over the stage so far (`staging`), by the rules that `BuildKit`
//! follows on a real file system (`copier`, `unpack`, `workdir`). In the end they are written to
//! the layer in order (`write`), the contents straight from where they are.

mod archive;
mod archive_tree;
mod chmod;
mod copier;
mod destination;
mod digest;
mod error;
#[cfg(test)]
mod memory;
mod owner;
mod source;
mod staging;
mod unpack;
mod walk;
mod workdir;
mod write;

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::context::ignore::Patterns;
use crate::copy::copier::Copier;
use crate::copy::owner::Owner;
use crate::copy::source::{Match, select};
use crate::copy::staging::Staging;
use crate::copy::walk::{Filter, walk};
use crate::layer::{EmptyTree, Kind, LayerWriter, Tree};
use crate::oci::{Digest, Timestamp};
use crate::plan::{AddStep, CopyStep, Source, WorkdirStep};

pub use crate::copy::archive::begins_archive;
pub use crate::copy::archive_tree::ArchiveTree;
pub use crate::copy::error::{CopyError, MemberProblem, Missing, Subject};

/// What a copy reads.
#[derive(Clone, Copy)]
pub struct CopyInputs<'a> {
    /// Where the files come from. Not needed if all sources are heredocs.
    pub source: Option<&'a dyn Tree>,
    /// The files of the remote sources of the step, in their order: one file below the root for a
    /// download, all of the root for a repository.
    pub remotes: &'a [Arc<dyn Tree>],
    /// The stage so far.
    pub below: &'a dyn Tree,
    /// Whether `source` is a directory of the host, whose own time means nothing.
    pub from_context: bool,
    /// The time of what is made: parents that were missing, heredocs.
    pub created: Timestamp,
}

impl fmt::Debug for CopyInputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyInputs").field("created", &self.created).finish_non_exhaustive()
    }
}

/// Writes the layer of a `COPY` (rules A106 to A133).
///
/// # Errors
///
/// [`CopyError`]. The layer is then unusable.
pub fn copy<W: Write + Send + 'static>(
    step: &CopyStep,
    inputs: CopyInputs<'_>,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    write::write(&stage(step, inputs, None)?.staging, writer)
}

/// Writes the layer of an `ADD`: a copy in which local archives are unpacked, and downloaded ones
/// if the step says so (rules A134 to A138). Temporary files go to `spool_dir`, without a name.
///
/// # Errors
///
/// [`CopyError`]. The layer is then unusable.
pub fn add<W: Write + Send + 'static>(
    step: &AddStep,
    inputs: CopyInputs<'_>,
    spool_dir: &Path,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    let unpack = Unpack { spool_dir, local: step.unpack != Some(false), remote: step.unpack };
    write::write(&stage(&step.copy, inputs, Some(unpack))?.staging, writer)
}

/// Writes the layer of a `WORKDIR`, which is empty if all directories are there (rules A100 to
/// A102). What is made has the time `created`.
///
/// # Errors
///
/// [`CopyError`]. The layer is then unusable.
pub fn workdir<W: Write + Send + 'static>(
    step: &WorkdirStep,
    below: &dyn Tree,
    created: Timestamp,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    let mut staging = Staging::new(None, below, created);
    workdir::make(step, below, &mut staging)?;
    write::write(&staging, writer)
}

/// The digest of all that the step would copy, for a cache key: independent of times, of the order
/// in which directories are read, and of the machine. It does not cover the step's own options.
///
/// # Errors
///
/// [`CopyError::MissingSource`] and the others that [`copy`] has for sources.
pub fn digest(step: &CopyStep, source: Option<&dyn Tree>) -> Result<Digest, CopyError> {
    digest::digest(step, source.unwrap_or(&EmptyTree))
}

/// Which archives are unpacked.
#[derive(Clone, Copy)]
struct Unpack<'a> {
    /// Where their members are kept until the layer is written.
    spool_dir: &'a Path,
    /// Those of the step's source.
    local: bool,
    /// Those that were downloaded, which nobody unpacks unasked (rule A137).
    remote: Option<bool>,
}

/// Puts all sources onto a staging tree.
fn stage<'a>(
    step: &'a CopyStep,
    inputs: CopyInputs<'a>,
    unpack: Option<Unpack<'_>>,
) -> Result<Copier<'a>, CopyError> {
    let is_link = step.is_linked();
    let owner = owner(step, inputs.below, is_link)?;
    let below = if is_link { &EmptyTree } else { inputs.below };
    let staging = Staging::new(inputs.source, below, inputs.created).with_remotes(inputs.remotes);
    let mut copier = Copier::new(step, &inputs, staging, owner);
    let exclude = excludes(step)?;
    let local = unpack.filter(|unpack| unpack.local).map(|unpack| unpack.spool_dir);
    let remote = unpack.filter(|unpack| unpack.remote == Some(true)).map(|it| it.spool_dir);
    let mut remotes = inputs.remotes.iter().enumerate();
    for source in &step.sources {
        let (tree, selection, spool_dir) = match source {
            Source::Path(text) => {
                let tree = inputs.source.unwrap_or(&EmptyTree);
                copier.remote = None;
                (tree, select(step, tree, text)?, local)
            }
            Source::Remote(what) => {
                let (number, tree) = remotes.next().expect("each remote source has been fetched");
                copier.remote = Some(number);
                (&**tree, source::whole(step, &**tree, what)?, remote)
            }
            Source::Inline { .. } => continue,
        };
        let filter = Filter { include: selection.include.as_ref(), exclude: &exclude };
        for found in &selection.matches {
            if let Some(spool_dir) = spool_dir
                && is_archive(tree, found)?
            {
                let members = archive::read(tree, &found.real, spool_dir)?;
                unpack::unpack(&mut copier, &found.real, members)?;
            } else {
                copier.copy(found, &walk(tree, found, filter)?)?;
            }
        }
    }
    // Heredocs come after all files, wherever they are written, as in BuildKit.
    for source in &step.sources {
        if let Source::Inline { name, text } = source {
            copier.copy_inline(name, text)?;
        }
    }
    Ok(copier)
}

fn owner(step: &CopyStep, below: &dyn Tree, is_link: bool) -> Result<Option<Owner>, CopyError> {
    let Some(text) = &step.chown else { return Ok(None) };
    if is_link && !owner::is_numeric(text) {
        return Err(CopyError::NamedOwnerWithLink { owner: text.clone() });
    }
    owner::resolve(text, below).map(Some)
}

fn excludes(step: &CopyStep) -> Result<Patterns, CopyError> {
    Patterns::new(step.excludes.iter().map(String::as_str))
        .map_err(|source| CopyError::FlagPattern { flag: "exclude", source })
}

fn is_archive(tree: &dyn Tree, found: &Match) -> Result<bool, CopyError> {
    Ok(matches!(found.node.kind, Kind::File { .. }) && archive::is_archive(tree, &found.real)?)
}

#[cfg(test)]
mod tests;
