//! One step: is its result known already? If not, do it, and remember the result.

use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::copy;
use crate::build::files;
use crate::build::files::Keep;
use crate::build::run;
use crate::build::schedule::BuiltLayer;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::LayerOrigin;
use crate::build::schedule::PendingStage;
use crate::build::schedule::Site;
use crate::build::schedule::StageFailed;
use crate::build::schedule::blocking;
use crate::cache::CacheKey;
use crate::cache::CachedLayer;
use crate::layer::EmptyTree;
use crate::layer::Tree;
use crate::oci::Layer;
use crate::plan::StageId;
use crate::plan::Step;
use crate::plan::StepKind;
use crate::progress::Task;
use crate::transfer::LayerSink;

/// Why a step has no layer: its own failure, or `None` for that of a stage that it reads.
pub(crate) type StepFailed = Option<BuildErrorKind>;

/// Does the step, or finds its layer in the cache.
pub(crate) async fn perform(
    site: &Arc<Site>,
    stage: StageId,
    index: usize,
    below: &BuiltStage,
    earlier: &[PendingStage],
) -> Result<BuiltLayer, StepFailed> {
    let planned = &site.plan.stages[stage.0];
    let step = &planned.steps[index];
    let sources = copy::Sources::wait(site, step, earlier).await.map_err(|StageFailed| None)?;
    let task = Arc::new(Task::start(&site.workshop.progress, title(site, stage, index)));
    let result = layer(site, stage, index, below, sources, &task).await?;
    match result.origin {
        LayerOrigin::Cache => task.cached(),
        LayerOrigin::Base | LayerOrigin::Step => {}
    }
    Task::finish(Arc::into_inner(task).expect("the work that shared it has ended"));
    Ok(result)
}

async fn layer(
    site: &Arc<Site>,
    stage: StageId,
    index: usize,
    below: &BuiltStage,
    sources: copy::Sources,
    task: &Arc<Task>,
) -> Result<BuiltLayer, BuildErrorKind> {
    let sources = Arc::new(sources);
    let planned = &site.plan.stages[stage.0];
    let step = &planned.steps[index];
    let key = copy::key(site, planned, step, below, &sources).await?;
    let found = site.workshop.cache.lookup(&key, &site.workshop.store);
    let is_new = found.is_none();
    if site.request.reads_cache(&planned.name) {
        match found {
            Some(found) => return Ok(built(found, LayerOrigin::Cache)),
            None => explain(site, &key, task),
        }
    }
    // A command of this stage needs the files unpacked; until then everybody reads an index.
    let unpack = if planned.runs_from(index) { Unpack::Yes } else { Unpack::No(site.keep(stage)) };
    let sink = site.layer(stage, is_new, task)?;
    let layer = carry_out(site, step, below, sources, unpack, sink, task).await?;
    let found = CachedLayer { layer, created: site.created() };
    let workshop = &site.workshop;
    workshop.cache.record(&key, &found, &workshop.store)?;
    Ok(built(found, LayerOrigin::Step))
}

/// Says what has changed since a step like this one was last carried out.
fn explain(site: &Site, key: &CacheKey, task: &Task) {
    if let Some(explanation) = site.workshop.cache.explain(key) {
        task.note(format!("not in the cache: {explanation}"));
    }
}

fn built(found: CachedLayer, origin: LayerOrigin) -> BuiltLayer {
    BuiltLayer { layer: found.layer, created: Some(found.created), origin }
}

/// Whether the files of the stage so far are to be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unpack {
    /// Yes, as this step or a later one runs a command.
    Yes,
    /// No; and whether the blobs are kept that are looked into.
    No(Keep),
}

/// Does what the step says, in the file system or without one.
async fn carry_out(
    site: &Arc<Site>,
    step: &Step,
    below: &BuiltStage,
    sources: Arc<copy::Sources>,
    unpack: Unpack,
    sink: LayerSink,
    task: &Arc<Task>,
) -> Result<Layer, BuildErrorKind> {
    let (site, step, task) = (Arc::clone(site), step.clone(), Arc::clone(task));
    if let StepKind::Run(run) = step.kind {
        let files = site.files(below).await?;
        let trees = sources.unpacked(&site).await?;
        return blocking(move || run::perform(&site, &run, &files, &trees, sink, &task)).await;
    }
    let mut trees = sources.trees(&site).await?;
    trees.fetch(&site, &step.kind).await?;
    let tree: Arc<dyn Tree> = match unpack {
        // What a linked copy makes does not depend on what lies below (rule A127).
        Unpack::Yes if !step.kind.is_linked() => Arc::new(site.files(below).await?.view()),
        Unpack::Yes => Arc::new(EmptyTree),
        Unpack::No(keep) => site.tree(below, keep).await?,
    };
    let made = blocking(move || copy::perform(&site, &step.kind, &*tree, &trees, sink)).await;
    made.map_err(files::uncover)
}

/// `[stage 2/4] RUN pip install x`
fn title(site: &Site, stage: StageId, index: usize) -> String {
    let planned = &site.plan.stages[stage.0];
    let name = if site.plan.stages.len() == 1 { "" } else { &*planned.name };
    let space = if name.is_empty() { "" } else { " " };
    format!("[{name}{space}{}/{}] {}", index + 1, planned.steps.len(), planned.steps[index].title)
}
