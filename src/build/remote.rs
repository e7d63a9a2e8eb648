//! `ADD` of what is on other machines: what names it, and its files.

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
        digests.push(site.workshop.fetcher.identify(remote, None).await?);
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
        files.push(site.workshop.fetcher.files(remote, None).await?);
    }
    Ok(files)
}

fn remotes(kind: &StepKind) -> Vec<&Remote> {
    let StepKind::Add(step) = kind else { return Vec::new() };
    let sources = step.copy.sources.iter();
    sources
        .filter_map(|source| if let Source::Remote(it) = source { Some(it) } else { None })
        .collect()
}
