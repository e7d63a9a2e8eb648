//! `ADD` of what is on other machines: what names it, and its files.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::schedule::Site;
use crate::layer::Tree;
use crate::oci::Digest;
use crate::plan::Remote;
use crate::plan::Source;
use crate::plan::StepKind;

/// A digest of what each remote source of the step holds; `None` if it has none.
pub(crate) async fn identify(
    site: &Site,
    kind: &StepKind,
) -> Result<Option<Vec<Digest>>, BuildErrorKind> {
    let remotes = remotes(kind);
    let mut digests = Vec::new();
    for remote in &remotes {
        digests.push(site.workshop.fetcher.identify(remote, agent(site)).await?);
    }
    Ok((!remotes.is_empty()).then_some(digests))
}

/// The files of the step's remote sources, in order.
pub(crate) async fn files(
    site: &Site,
    kind: &StepKind,
) -> Result<Vec<Arc<dyn Tree>>, BuildErrorKind> {
    let mut files = Vec::new();
    for remote in remotes(kind) {
        files.push(site.workshop.fetcher.files(remote, agent(site)).await?);
    }
    Ok(files)
}

/// The agent that `git` may use: a Dockerfile has the one that `--ssh default` gives it, or none.
fn agent(site: &Site) -> Option<&Path> {
    site.request.agents.get("default").map(PathBuf::as_path)
}

fn remotes(kind: &StepKind) -> Vec<&Remote> {
    let StepKind::Add(step) = kind else { return Vec::new() };
    let sources = step.copy.sources.iter();
    sources
        .filter_map(|source| if let Source::Remote(it) = source { Some(it) } else { None })
        .collect()
}
