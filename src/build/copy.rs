//! COPY, ADD, WORKDIR and bind mounts: which trees a step reads, and what names its inputs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::Workshop;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::PendingStage;
use crate::build::schedule::Site;
use crate::build::schedule::StageFailed;
use crate::build::schedule::blocking;
use crate::cache::CacheKey;
use crate::cache::key;
use crate::copy;
use crate::copy::CopyInputs;
use crate::layer::EmptyTree;
use crate::layer::LayerWriter;
use crate::layer::Tree;
use crate::oci::Compression;
use crate::oci::Digest;
use crate::oci::ImagePath;
use crate::oci::Layer;
use crate::oci::MediaType;
use crate::oci::Timestamp;
use crate::plan::CopyFrom;
use crate::plan::CopyStep;
use crate::plan::MountKind;
use crate::plan::StageId;
use crate::plan::Step;
use crate::plan::StepKind;
use crate::snapshot::Committed;

/// Where a layer that is made for a bind mount has its files.
const MOUNT: &str = "mount";

/// The finished stages and images that a step reads.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<(CopyFrom, BuiltStage)>);

/// The same, ready to be read.
#[derive(Default)]
pub(crate) struct Trees {
    /// Stages and images.
    files: Vec<(CopyFrom, Committed)>,
    /// All of them, and the contexts.
    trees: Vec<(CopyFrom, Arc<dyn Tree>)>,
}

impl Sources {
    /// Waits for the stages that `step` reads.
    pub(crate) async fn wait(
        site: &Site,
        step: &Step,
        earlier: &[PendingStage],
    ) -> Result<Self, StageFailed> {
        let mut sources = Vec::new();
        for from in reads(&step.kind) {
            let stage = match from {
                CopyFrom::Stage(StageId(stage)) => (*earlier[*stage].clone().await?).clone(),
                CopyFrom::Image(base) => site.bases.stage(base),
                CopyFrom::Context | CopyFrom::NamedContext(_) | CopyFrom::Scratch => continue,
            };
            sources.push((from.clone(), stage));
        }
        Ok(Self(sources))
    }

    /// Makes the sources readable: downloads and unpacks what is not here yet.
    pub(crate) async fn trees(&self, site: &Site) -> Result<Trees, BuildErrorKind> {
        let mut files = Vec::new();
        let mut trees: Vec<(CopyFrom, Arc<dyn Tree>)> = Vec::new();
        for (from, stage) in &self.0 {
            let committed = site.files(stage).await?;
            trees.push((from.clone(), Arc::new(committed.view())));
            files.push((from.clone(), committed));
        }
        let request = &site.request;
        let context: Arc<dyn Tree> = Arc::clone(&request.context) as _;
        trees.push((CopyFrom::Context, context));
        trees.push((CopyFrom::Scratch, Arc::new(EmptyTree)));
        for (name, tree) in &request.named_contexts {
            let tree: Arc<dyn Tree> = Arc::clone(tree) as _;
            trees.push((CopyFrom::NamedContext(name.clone()), tree));
        }
        Ok(Trees { files, trees })
    }

    /// The stacks of layers that the step reads: they name its inputs without reading them.
    fn chains(&self) -> Digest {
        let chains = self.0.iter().map(|(_, stage)| format!("{:?}\n", stage.chain()));
        Digest::of(chains.collect::<String>())
    }
}

/// What a step reads apart from the files of its own stage.
fn reads(kind: &StepKind) -> Vec<&CopyFrom> {
    match kind {
        StepKind::Copy(step) => vec![&step.from],
        StepKind::Add(step) => vec![&step.copy.from],
        StepKind::Workdir(_) => vec![],
        StepKind::Run(step) => step
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } => Some(from),
                MountKind::Tmpfs { .. } => None,
            })
            .collect(),
    }
}

/// The names under which the step's result may be known, the cheapest to find out first.
pub(crate) async fn keys(
    site: &Arc<Site>,
    step: &Step,
    below: &BuiltStage,
    sources: &Arc<Sources>,
) -> Result<Vec<CacheKey>, BuildErrorKind> {
    let surroundings = key::Surroundings {
        below: below.chain(),
        source_date_epoch: site.request.options.source_date_epoch,
    };
    match &step.kind {
        StepKind::Workdir(workdir) => Ok(vec![key::workdir(&surroundings, workdir)]),
        StepKind::Copy(copy) if !is_files(&copy.from) => {
            Ok(vec![key::copy(&surroundings, copy, &sources.chains())])
        }
        StepKind::Add(add) if !is_files(&add.copy.from) => {
            Ok(vec![key::add(&surroundings, add, &sources.chains())])
        }
        StepKind::Run(run) if run.mounts.is_empty() => {
            Ok(vec![key::run(&surroundings, run, &Digest::of(b""))])
        }
        _ => {
            let trees = sources.trees(site).await?;
            let step = step.clone();
            let kind = blocking(move || contents(&step.kind, &trees).map(|digest| (digest, step)));
            let (digest, step) = kind.await?;
            Ok(vec![match &step.kind {
                StepKind::Copy(copy) => key::copy(&surroundings, copy, &digest),
                StepKind::Add(add) => key::add(&surroundings, add, &digest),
                StepKind::Run(run) => key::run(&surroundings, run, &digest),
                StepKind::Workdir(workdir) => key::workdir(&surroundings, workdir),
            }])
        }
    }
}

/// Whether the files are ones of this machine, which nothing but their content names.
fn is_files(from: &CopyFrom) -> bool {
    matches!(from, CopyFrom::Context | CopyFrom::NamedContext(_) | CopyFrom::Scratch)
}

/// A digest of all that the step reads apart from the files of its own stage.
fn contents(kind: &StepKind, trees: &Trees) -> Result<Digest, BuildErrorKind> {
    match kind {
        StepKind::Copy(step) => trees.digest(step),
        StepKind::Add(step) => trees.digest(&step.copy),
        StepKind::Workdir(_) => Ok(Digest::of(b"")),
        StepKind::Run(step) => {
            let mut all = String::new();
            for mount in &step.mounts {
                if let MountKind::Bind { from, source, .. } = &mount.kind {
                    all += &format!("{}\n", trees.digest(&whole(from, source))?);
                }
            }
            Ok(Digest::of(all))
        }
    }
}

/// Does what COPY, ADD and WORKDIR say: nothing is mounted, the layer is computed.
pub(crate) fn perform(
    site: &Site,
    kind: &StepKind,
    files: Option<&Committed>,
    trees: &Trees,
) -> Result<Layer, BuildErrorKind> {
    let store = &site.workshop.store;
    let epoch = site.request.options.source_date_epoch;
    let view = files.map(Committed::view);
    let below: &dyn Tree = view.as_ref().map_or(&EmptyTree, |view| view);
    let created = site.created();
    let mut writer = LayerWriter::new(store.writer()?, Compression::Gzip, epoch);
    match kind {
        StepKind::Copy(step) => copy::copy(step, &trees.inputs(step, below, created), &mut writer)?,
        StepKind::Add(step) => {
            let spool = store.temp_dir()?;
            let inputs = trees.inputs(&step.copy, below, created);
            copy::add(step, &inputs, spool.path(), &mut writer)?;
        }
        StepKind::Workdir(step) => copy::workdir(step, below, created, &mut writer)?,
        StepKind::Run(_) => unreachable!("RUN has a sandbox of its own"),
    }
    let written = writer.finish()?;
    let descriptor = written.sink.commit(MediaType::OciLayer(Compression::Gzip))?;
    Ok(Layer { descriptor, diff_id: written.diff_id })
}

impl Trees {
    fn get(&self, from: &CopyFrom) -> Option<&dyn Tree> {
        self.trees.iter().find(|(name, _)| name == from).map(|(_, tree)| &**tree)
    }

    fn digest(&self, step: &CopyStep) -> Result<Digest, BuildErrorKind> {
        Ok(copy::digest(step, self.get(&step.from))?)
    }

    fn inputs<'a>(
        &'a self,
        step: &CopyStep,
        below: &'a dyn Tree,
        created: Timestamp,
    ) -> CopyInputs<'a> {
        CopyInputs {
            source: self.get(&step.from),
            below,
            from_context: is_files(&step.from),
            created,
        }
    }

    /// The layers in which a bind mount finds its files, and the path there.
    ///
    /// Files of this machine become a layer first: what `.dockerignore` hides must stay hidden.
    pub(crate) fn layers(
        &self,
        from: &CopyFrom,
        source: &ImagePath,
        workshop: &Workshop,
    ) -> Result<(Vec<PathBuf>, PathBuf), BuildErrorKind> {
        if let Some(files) = self.files.iter().find(|(name, _)| name == from) {
            let path = files.1.view().resolve(source)?;
            return Ok((files.1.lower().to_vec(), path.relative().to_owned()));
        }
        let step = whole(from, source);
        let inputs = self.inputs(&step, &EmptyTree, Timestamp::EPOCH);
        let mut writer = LayerWriter::new(workshop.store.writer()?, Compression::None, None);
        copy::copy(&step, &inputs, &mut writer)?;
        let written = writer.finish()?;
        let descriptor = written.sink.commit(MediaType::OciLayer(Compression::None))?;
        let files = workshop.unpack(&[Layer { descriptor, diff_id: written.diff_id }])?;
        Ok((files.lower().to_vec(), PathBuf::from(MOUNT)))
    }
}

/// The copy of everything at `source` to `/mount`.
fn whole(from: &CopyFrom, source: &ImagePath) -> CopyStep {
    CopyStep {
        from: from.clone(),
        sources: vec![crate::plan::Source::Path(source.to_string())],
        destination: format!("/{MOUNT}"),
        cwd: "/".to_owned(),
        chown: None,
        chmod: None,
        link: true,
        parents: false,
        excludes: Vec::new(),
    }
}
