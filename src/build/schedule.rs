//! Which stage when: every stage runs as soon as what it needs is there, side by side.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use futures_util::future::FutureExt as _;
use futures_util::future::Shared;
use futures_util::future::join;
use futures_util::future::join_all;

use crate::build::BuildError;
use crate::build::BuildErrorKind;
use crate::build::Output;
use crate::build::Request;
use crate::build::Workshop;
use crate::build::files::Files;
use crate::build::files::Keep;
use crate::build::resolve::ResolvedBases;
use crate::build::step;
use crate::layer::TableOfContents;
use crate::layer::Tree;
use crate::oci::ChainId;
use crate::oci::DiffId;
use crate::oci::Digest;
use crate::oci::Layer;
use crate::oci::Timestamp;
use crate::plan::Plan;
use crate::plan::PlannedStage;
use crate::plan::StageBase;
use crate::plan::StageId;
use crate::progress::Event;
use crate::progress::Task;
use crate::snapshot::Committed;
use crate::store::StoreError;
use crate::transfer::Ahead;
use crate::transfer::LayerSink;

/// One build under way: the request, the plan, and the tools.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) request: Arc<Request>,
    pub(crate) workshop: Workshop,
    pub(crate) plan: Plan,
    pub(crate) bases: ResolvedBases,
    /// Layers of the image that go to its registry while they are made.
    pub(crate) ahead: Option<Arc<Ahead>>,
    /// Two stages with the same base must not both download and unpack it.
    unpacking: tokio::sync::Mutex<()>,
    /// What the layers of all stages hold, as far as anybody has asked.
    files: Arc<Files>,
}

/// A layer of a stage, and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct BuiltLayer {
    pub(crate) layer: Layer,
    /// When it was made; `None` for a layer of a base image, whose history knows.
    pub(crate) created: Option<Timestamp>,
    pub(crate) origin: LayerOrigin,
}

/// Where a layer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerOrigin {
    /// The base image.
    Base,
    /// A step of an earlier build.
    Cache,
    /// A step of this build.
    Step,
}

/// The files of a stage so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuiltStage {
    pub(crate) layers: Vec<BuiltLayer>,
}

impl BuiltStage {
    /// The name of the stack of layers; `None` where there is none.
    pub(crate) fn chain(&self) -> Option<ChainId> {
        ChainId::of(self.layers.iter().map(|built| built.layer.diff_id))
    }

    /// The tables of contents that layers of the base name, each with its layer.
    pub(crate) fn tables(&self) -> Vec<(DiffId, Digest)> {
        let base = self.layers.iter().filter(|built| built.origin == LayerOrigin::Base);
        let table = |built: &BuiltLayer| TableOfContents::of(&built.layer.descriptor);
        base.filter_map(|built| Some((built.layer.diff_id, table(built)?.digest))).collect()
    }

    /// The layers alone.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.layers.iter().map(|built| built.layer.clone()).collect()
    }
}

/// A stage of the build, which any number of others may wait for.
///
/// The error is in one place, [`FirstError`]: whoever waits only needs to know that there is one.
pub(crate) type PendingStage = Shared<BoxFuture<'static, Result<Arc<BuiltStage>, StageFailed>>>;

/// A stage failed; why is known elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageFailed;

/// The first failure. Later ones are most often its consequences.
#[derive(Debug, Clone, Default)]
struct FirstError(Arc<Mutex<Option<BuildError>>>);

impl Site {
    pub(crate) fn new(
        request: &Arc<Request>,
        workshop: &Workshop,
        plan: Plan,
        bases: ResolvedBases,
    ) -> Self {
        Self {
            request: Arc::clone(request),
            workshop: workshop.clone(),
            plan,
            ahead: Self::ahead(request, workshop),
            files: Arc::new(Files::new(workshop, bases.origins())),
            bases,
            unpacking: tokio::sync::Mutex::default(),
        }
    }

    /// Layers go ahead to the first registry that the image is for. With `SOURCE_DATE_EPOCH` they do
    /// not: the same bytes may come out as in an earlier build, and the registry may have them.
    fn ahead(request: &Request, workshop: &Workshop) -> Option<Arc<Ahead>> {
        let is_wanted = request.outputs.contains(&Output::Registry)
            && request.options.source_date_epoch.is_none();
        let target = request.tags.first().filter(|_| is_wanted)?;
        let (client, store) = (Arc::clone(&workshop.client), Arc::clone(&workshop.store));
        Some(Ahead::new(client, store, target.clone(), Arc::clone(&workshop.progress)))
    }

    /// Begins the layer of a step of `stage`, which `task` tells of. `is_new` if nothing like it was
    /// made before, as far as the cache knows.
    pub(crate) fn layer(
        &self,
        stage: StageId,
        is_new: bool,
        task: &Task,
    ) -> Result<LayerSink, StoreError> {
        match &self.ahead {
            Some(ahead) if is_new && self.is_delivered(stage) => ahead.layer(task.id()),
            _ => LayerSink::new(&self.workshop.store),
        }
    }

    /// How many steps there are in all stages.
    pub(crate) fn steps(&self) -> usize {
        self.plan.stages.iter().map(|stage| stage.steps.len()).sum()
    }

    /// The files of `stage` as directories: downloads and unpacks what is not here yet.
    pub(crate) async fn files(&self, stage: &BuiltStage) -> Result<Committed, BuildErrorKind> {
        let _turn = self.unpacking.lock().await;
        let layers = stage.layers();
        self.bases.fetch(&self.workshop, &self.workshop.not_unpacked(&layers)).await?;
        let workshop = self.workshop.clone();
        blocking(move || workshop.unpack(&layers)).await
    }

    /// The files of `stage` as a tree. Nothing is downloaded or unpacked before it is asked for.
    pub(crate) async fn tree(
        &self,
        stage: &BuiltStage,
        keep: Keep,
    ) -> Result<Arc<dyn Tree>, BuildErrorKind> {
        let (files, layers) = (Arc::clone(&self.files), stage.layers());
        blocking(move || files.tree(&layers, keep)).await
    }

    /// Whether an output will want all blobs of the base that `stage` begins with: then they are
    /// kept where they pass by.
    pub(crate) fn keep(&self, stage: StageId) -> Keep {
        let base = self.delivered().last().map(|id| &self.plan.stages[id.0].base);
        let home = match base {
            Some(StageBase::Image(image)) => Some(image.reference.registry()),
            _ => None,
        };
        let wants = |output: &Output| match output {
            // A registry that has them needs none; another gets them from here.
            Output::Registry => self.request.tags.iter().any(|tag| Some(tag.registry()) != home),
            _ => true,
        };
        let is_wanted = self.is_delivered(stage) && self.request.outputs.iter().any(wants);
        if is_wanted { Keep::Yes } else { Keep::No }
    }

    /// Whether the layers of `stage` are layers of the image.
    fn is_delivered(&self, stage: StageId) -> bool {
        self.delivered().any(|id| id == stage)
    }

    /// The target, the stage that it starts from, and so on.
    fn delivered(&self) -> impl Iterator<Item = StageId> {
        let target = StageId(self.plan.stages.len() - 1);
        std::iter::successors(Some(target), |id| match &self.plan.stages[id.0].base {
            StageBase::Stage(below) => Some(*below),
            StageBase::Image(_) | StageBase::Scratch => None,
        })
    }
}

/// Runs `work`, which may take long or block, beside the network's thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildErrorKind> + Send + 'static,
) -> Result<T, BuildErrorKind> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // A panic there is a panic here; nothing else can end the task, as nobody aborts it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Builds every stage of the plan and returns the target.
pub(crate) async fn execute(site: &Arc<Site>) -> Result<Arc<BuiltStage>, BuildError> {
    site.workshop.progress.report(Event::Planned { steps: site.steps() });
    let errors = FirstError::default();
    let mut stages: Vec<PendingStage> = Vec::new();
    for index in 0..site.plan.stages.len() {
        let stage = stage(Arc::clone(site), StageId(index), stages.clone(), errors.clone());
        stages.push(stage.boxed().shared());
    }
    let built = join_all(stages).await;
    if let Some(error) = errors.take() {
        return Err(error);
    }
    let target = built.into_iter().next_back().and_then(Result::ok);
    Ok(target.expect("a plan has a target, and a stage that fails leaves its error"))
}

/// Builds one stage, and leaves the error behind where that fails.
///
/// A step works on what those before it have made, so they come one after the other. Only a linked
/// copy does not (rule A127): it begins at once, and its layer takes its place among the others.
async fn stage(
    site: Arc<Site>,
    id: StageId,
    earlier: Vec<PendingStage>,
    errors: FirstError,
) -> Result<Arc<BuiltStage>, StageFailed> {
    let stage = Arc::new(StageSite { site, id, earlier, errors });
    let steps = stage.planned().steps.iter().enumerate();
    let linked = steps.map(|(index, step)| {
        step.kind.is_linked().then(|| Arc::clone(&stage).linked(index).boxed().shared())
    });
    let linked: Vec<Option<PendingLayer>> = linked.collect();
    let sequence = async {
        let mut built = stage.base().await?;
        for (index, linked) in linked.iter().enumerate() {
            let layer = match linked {
                Some(layer) => layer.clone().await?,
                None => stage.step(index, &built).await?,
            };
            built.layers.push(layer);
        }
        Ok(Arc::new(built))
    };
    join(sequence, join_all(linked.iter().flatten().cloned())).await.0
}

/// A layer that somebody waits for.
type PendingLayer = Shared<BoxFuture<'static, Result<BuiltLayer, StageFailed>>>;

/// One stage under way.
struct StageSite {
    site: Arc<Site>,
    id: StageId,
    /// The stages before it, which it may need.
    earlier: Vec<PendingStage>,
    errors: FirstError,
}

impl StageSite {
    fn planned(&self) -> &PlannedStage {
        &self.site.plan.stages[self.id.0]
    }

    /// What the stage starts from.
    async fn base(&self) -> Result<BuiltStage, StageFailed> {
        Ok(match &self.planned().base {
            StageBase::Scratch => BuiltStage::default(),
            StageBase::Image(base) => self.site.bases.stage(base),
            StageBase::Stage(StageId(base)) => (*self.earlier[*base].clone().await?).clone(),
        })
    }

    async fn linked(self: Arc<Self>, index: usize) -> Result<BuiltLayer, StageFailed> {
        self.step(index, &BuiltStage::default()).await
    }

    /// Carries out one step on top of `below`.
    async fn step(&self, index: usize, below: &BuiltStage) -> Result<BuiltLayer, StageFailed> {
        let Self { site, id, earlier, errors } = self;
        let done = step::perform(site, *id, index, below, earlier).await;
        done.map_err(|failed| {
            // Without a failure of its own, it waited for a stage that has one.
            if let Some(kind) = failed {
                let before = &site.plan.stages[..id.0];
                let before: usize = before.iter().map(|stage| stage.steps.len()).sum();
                let error = kind.in_step(&self.planned().steps[index]);
                errors.set(BuildError { step: Some((before + index + 1, site.steps())), ..error });
                // What the other stages do is of no use any more.
                site.workshop.cancel.cancel();
            }
            StageFailed
        })
    }
}

impl FirstError {
    fn set(&self, error: BuildError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn take(&self) -> Option<BuildError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
