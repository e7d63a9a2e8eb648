//! Building: the one place that knows the whole story.
//!
//! [`build`] reads as the story does: parse, resolve the bases, plan, execute, assemble, deliver.
//! Each part is in a file of its own, and what the parts work with is a [`Workshop`].

mod copy;
mod error;
mod files;
mod output;
mod resolve;
mod run;
mod schedule;
mod step;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::LocalCache;
use crate::context::BuildContext;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::Source;
use crate::oci::Reference;
use crate::oci::Timestamp;
use crate::plan::PlanOptions;
use crate::progress::Event;
use crate::progress::Progress;
use crate::registry::Client;
use crate::sandbox::Cancel;
use crate::sandbox::EnterError;
use crate::sandbox::Sandbox;
use crate::snapshot::Snapshotter;
use crate::store::Store;
use crate::store::TempDir;

pub use error::{BuildError, BuildErrorKind};
pub use output::Destination;
pub use output::Output;
pub use resolve::find_image;
pub use run::run_image;
pub use summary::Outcome;

/// Everything that decides what is built.
#[derive(Debug)]
pub struct Request {
    /// The Dockerfile.
    pub dockerfile: Source,
    /// Arguments, target, platform, labels.
    pub options: PlanOptions,
    /// The files that `COPY` may take.
    pub context: Arc<BuildContext>,
    /// `--build-context` directories.
    pub named_contexts: std::collections::BTreeMap<String, Arc<BuildContext>>,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// Where the image goes.
    pub outputs: Vec<Output>,
    /// Whether the cache may be read. It is always written.
    pub cache: CacheUse,
    /// Where base images come from.
    pub pull: PullPolicy,
    /// What time it is.
    pub now: Timestamp,
}

/// Whether a step's result may come from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// Yes.
    Read,
    /// No (`--no-cache`).
    Ignore,
}

/// Where base images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// The store, if it has an image of that name, otherwise the registry.
    Missing,
    /// Always the registry (`--pull`).
    Always,
}

/// What a build works with. Cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    /// Images and layers on this machine.
    pub store: Arc<Store>,
    /// Registries.
    pub client: Arc<Client>,
    /// Where steps run, or why none can run here; `None` if no step was expected to run, so that
    /// this process has not entered any namespace.
    pub sandbox: Option<Arc<Result<Sandbox, EnterError>>>,
    /// Root file systems.
    pub snapshotter: Arc<Snapshotter>,
    /// Results of earlier builds.
    pub cache: Arc<LocalCache>,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// Ends everything that runs.
    pub cancel: Cancel,
    /// Removed, with all that was left in it, when the work is done.
    pub workspace: Arc<TempDir>,
    /// The builder's own `/etc/resolv.conf`, if it has one.
    pub resolv_conf: Option<PathBuf>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

/// Whether the build will run a command, as far as the Dockerfile alone can tell. Triggers of base
/// images may add one; [`build`] then ends with [`BuildErrorKind::NotPrepared`] if it has no sandbox.
pub fn runs_command(request: &Request) -> bool {
    parse(request).is_ok_and(|it| crate::plan::runs_command(&it, &request.options))
}

/// Builds the image that `request` asks for.
///
/// # Errors
///
/// All mistakes in the Dockerfile, or the first thing that went wrong after that.
/// [`BuildErrorKind::NotPrepared`] comes before anything is done.
pub async fn build(
    request: &Arc<Request>,
    workshop: &Workshop,
) -> Result<Outcome, Vec<BuildError>> {
    let started = Instant::now();
    let dockerfile = parse(request)?;
    let bases = resolve::bases(&dockerfile, request, workshop).await?;
    let plan = crate::plan::plan(&dockerfile, &request.options, &bases.configs())
        .map_err(|errors| errors.into_iter().map(BuildError::from).collect::<Vec<_>>())?;
    for warning in &plan.warnings {
        let line = request.dockerfile.line(warning.span.start);
        let text =
            format!("{}:{line}: {}: {}", request.dockerfile.name(), warning.rule, warning.message);
        workshop.progress.report(Event::Warning(text));
    }
    if workshop.sandbox.is_none() && plan.stages.iter().any(|stage| stage.runs_after(0)) {
        return Err(vec![BuildErrorKind::NotPrepared.anywhere()]);
    }
    let site = Arc::new(schedule::Site::new(request, workshop, plan, bases));
    let built = schedule::execute(&site).await.map_err(|error| vec![error])?;
    let anywhere = |kind: BuildErrorKind| vec![kind.anywhere()];
    let image = output::assemble(&site, &built).map_err(anywhere)?;
    let pushed = output::deliver(&site, &image, &built).await.map_err(anywhere)?;
    Ok(Outcome::new(&image, &built, pushed, started.elapsed()))
}

fn parse(request: &Request) -> Result<Dockerfile, Vec<BuildError>> {
    crate::dockerfile::parse(request.dockerfile.clone())
        .map_err(|errors| errors.into_iter().map(BuildError::from).collect())
}
