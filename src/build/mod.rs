//! Building: the one place that knows the whole story.
//!
//! [`build`] reads as the story does: parse, resolve the bases, plan, execute, assemble, deliver.
//! Each part is in a file of its own, and what the parts work with is a [`Workshop`].

mod agent;
mod cache_mount;
mod check;
mod copy;
mod error;
mod files;
mod hint;
mod layer;
mod mounts;
mod output;
mod remote;
mod resolve;
mod run;
mod schedule;
mod step;
mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::cache::LocalCache;
use crate::context::BuildContext;
use crate::dockerfile::Checks;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::Source;
use crate::fetch::Fetcher;
use crate::oci::Reference;
use crate::oci::Timestamp;
use crate::plan::PlanOptions;
use crate::plan::UnusedArg;
use crate::progress::Event;
use crate::progress::Progress;
use crate::registry::Client;
use crate::sandbox::Cancel;
use crate::sandbox::EnterError;
use crate::sandbox::Hidden;
use crate::sandbox::Sandbox;
use crate::snapshot::Snapshotter;
use crate::store::Store;
use crate::store::TempDir;

pub use check::Report;
pub use check::check;
pub use error::{BuildError, BuildErrorKind, LikeStage};
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
    /// What counts in place of the Dockerfile's `# check=` line (rule A164).
    pub checks: Option<Checks>,
    /// The files that `COPY` may take.
    pub context: Arc<BuildContext>,
    /// `--build-context` directories.
    pub named_contexts: std::collections::BTreeMap<String, Arc<BuildContext>>,
    /// Where the context came from, if somebody should be able to find it again.
    pub origin: Option<ContextOrigin>,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// Where the image goes.
    pub outputs: Vec<Output>,
    /// Whether the cache may be read. It is always written.
    pub cache: CacheUse,
    /// `--no-cache-filter`: stages, by name, for which it may not.
    pub uncached_stages: Vec<String>,
    /// `--secret`: values by id.
    pub secrets: BTreeMap<String, Hidden>,
    /// `--ssh`: the sockets of agents by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// What a command may use up.
    pub limits: StepLimits,
    /// Where base images come from.
    pub pull: PullPolicy,
    /// What time it is.
    pub now: Timestamp,
}

/// What a command may use up. It does not change what a command does, so the cache does not ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepLimits {
    /// `--memory`, in bytes.
    pub memory: Option<u64>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
}

/// A build context that is a commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextOrigin {
    /// The repository, without secrets: `https://host/x.git#ref:subdir`.
    pub uri: String,
    /// The commit's name.
    pub commit: String,
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
    /// Files and repositories of other machines.
    pub fetcher: Arc<Fetcher>,
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
    let bases = resolve::bases(&dockerfile, request, workshop);
    let (bases, may_push) = tokio::join!(bases, output::check_push(request, workshop));
    let bases = bases?;
    let plan = crate::plan::plan(&dockerfile, &request.options, &bases.configs())
        .map_err(|errors| errors.into_iter().map(BuildError::from).collect::<Vec<_>>())?;
    if workshop.sandbox.is_none() && plan.stages.iter().any(|stage| stage.runs_from(0)) {
        return Err(vec![BuildErrorKind::NotPrepared.anywhere()]);
    }
    may_push.map_err(|kind| vec![kind.anywhere()])?;
    let mut warnings = plan.warnings.clone();
    warnings.extend(check::ignored_in(&plan, &dockerfile, &request.context)?);
    warnings.sort_by_key(|warning| warning.span.start);
    for UnusedArg { name, nearest } in &plan.unused_args {
        let meant = nearest.as_ref().map(|it| format!(" (did you mean {it}?)")).unwrap_or_default();
        let text = format!("--build-arg {name}: no ARG of that name{meant}");
        workshop.progress.report(Event::Warning(text));
    }
    for name in request.unknown_uncached_stages(&dockerfile) {
        let text = format!("--no-cache-filter {name}: there is no stage of that name");
        workshop.progress.report(Event::Warning(text));
    }
    let site = Arc::new(schedule::Site::new(request, workshop, plan, bases));
    let built = schedule::execute(&site).await.map_err(|error| vec![error])?;
    let anywhere = |kind: BuildErrorKind| vec![kind.anywhere()];
    let image = output::assemble(&site, &built).map_err(anywhere)?;
    let pushed = output::deliver(&site, &image, &built).await.map_err(anywhere)?;
    let outcome = Outcome::new(&image, &built, pushed, started.elapsed());
    Ok(Outcome { warnings, origin: request.origin.clone(), ..outcome })
}

impl Request {
    /// Whether the steps of the stage `name` may come from the cache.
    fn reads_cache(&self, name: &str) -> bool {
        let is_named = |other: &String| other.eq_ignore_ascii_case(name);
        self.cache == CacheUse::Read && !self.uncached_stages.iter().any(is_named)
    }

    /// What `--no-cache-filter` names that is no stage, neither by name nor by number.
    fn unknown_uncached_stages(&self, dockerfile: &Dockerfile) -> Vec<&String> {
        let names = dockerfile.stages.iter().enumerate().map(|(index, stage)| {
            stage.name.as_ref().map_or_else(|| index.to_string(), |name| name.value.clone())
        });
        let names: Vec<String> = names.collect();
        let is_known = |name: &String| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.uncached_stages.iter().filter(|name| !is_known(name)).collect()
    }
}

fn parse(request: &Request) -> Result<Dockerfile, Vec<BuildError>> {
    crate::dockerfile::parse_with(request.dockerfile.clone(), request.checks.as_ref())
        .map_err(|rejected| rejected.errors.into_iter().map(BuildError::from).collect())
}
