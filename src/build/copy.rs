//! COPY, ADD, WORKDIR and bind mounts: which trees a step reads, and what names its inputs.

use std::borrow::Cow;
use std::io::Seek as _;
use std::path::Path;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::Workshop;
use crate::build::files::Keep;
use crate::build::layer;
use crate::build::remote;
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
use crate::layer::Node;
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
use crate::plan::PlannedStage;
use crate::plan::StageId;
use crate::plan::Step;
use crate::plan::StepKind;
use crate::snapshot::Committed;
use crate::transfer::LayerSink;

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
    all: Vec<(CopyFrom, Arc<dyn Tree>)>,
    /// The remote sources of an `ADD`, in order.
    remotes: Vec<Arc<dyn Tree>>,
}

impl Sources {
    /// Waits for the stages that `step` reads.
    pub(crate) async fn wait(
        site: &Site,
        step: &Step,
        earlier: &[PendingStage],
    ) -> Result<Self, StageFailed> {
        let mut sources = Vec::new();
        for copy in reads(&step.kind) {
            let stage = match &copy.from {
                CopyFrom::Stage(StageId(stage)) => (*earlier[*stage].clone().await?).clone(),
                CopyFrom::Image(base) => site.bases.stage(base),
                CopyFrom::Context | CopyFrom::NamedContext(_) | CopyFrom::Scratch => continue,
            };
            sources.push((copy.from.clone(), stage));
        }
        Ok(Self(sources))
    }

    /// Makes the sources readable. Nothing is unpacked for it, and what is not here yet is downloaded
    /// when it is asked for.
    pub(crate) async fn trees(&self, site: &Site) -> Result<Trees, BuildErrorKind> {
        let mut trees = Vec::new();
        for (from, stage) in &self.0 {
            // Whoever reads what files there are will read what is in them.
            trees.push((from.clone(), site.tree(stage, Keep::Yes).await?));
        }
        Ok(Self::with_contexts(site, Vec::new(), trees))
    }

    /// Makes the sources readable and mountable: downloads and unpacks what is not here yet.
    pub(crate) async fn unpacked(&self, site: &Site) -> Result<Trees, BuildErrorKind> {
        let mut files = Vec::new();
        let mut trees: Vec<(CopyFrom, Arc<dyn Tree>)> = Vec::new();
        for (from, stage) in &self.0 {
            let committed = site.files(stage).await?;
            trees.push((from.clone(), Arc::new(committed.view())));
            files.push((from.clone(), committed));
        }
        Ok(Self::with_contexts(site, files, trees))
    }

    fn with_contexts(
        site: &Site,
        files: Vec<(CopyFrom, Committed)>,
        mut trees: Vec<(CopyFrom, Arc<dyn Tree>)>,
    ) -> Trees {
        let request = &site.request;
        let context: Arc<dyn Tree> = Arc::clone(&request.context) as _;
        trees.push((CopyFrom::Context, context));
        trees.push((CopyFrom::Scratch, Arc::new(EmptyTree)));
        for (name, tree) in &request.named_contexts {
            let tree: Arc<dyn Tree> = Arc::clone(tree) as _;
            trees.push((CopyFrom::NamedContext(name.clone()), tree));
        }
        Trees { files, all: trees, remotes: Vec::new() }
    }

    /// A digest of each thing that the step reads, in order. Layers name their files without
    /// anybody reading them; files of this machine must be read.
    async fn inputs(&self, site: &Site, kind: &StepKind) -> Result<Vec<Digest>, BuildErrorKind> {
        let reads = reads(kind);
        let trees = if reads.iter().any(|copy| is_files(&copy.from)) {
            self.trees(site).await?
        } else {
            Trees::default()
        };
        let chains = |from: &CopyFrom| {
            let chain = self.0.iter().find(|(name, _)| name == from);
            Digest::of(format!("{:?}", chain.map(|(_, stage)| stage.chain())))
        };
        let mut digests = Vec::new();
        let mut files = Vec::new();
        for copy in reads {
            digests.push(chains(&copy.from));
            if is_files(&copy.from) {
                files.push((digests.len() - 1, copy.into_owned()));
            }
        }
        blocking(move || {
            for (index, copy) in files {
                digests[index] = trees.digest(&copy)?;
            }
            Ok(digests)
        })
        .await
    }
}

/// What a step reads apart from the files of its own stage, in order: a bind mount reads what a
/// copy of its source would.
fn reads(kind: &StepKind) -> Vec<Cow<'_, CopyStep>> {
    match kind {
        StepKind::Copy(step) => vec![Cow::Borrowed(step)],
        StepKind::Add(step) => vec![Cow::Borrowed(&step.copy)],
        StepKind::Workdir(_) => vec![],
        StepKind::Run(step) => step
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, source, .. } => Some(Cow::Owned(whole(from, source))),
                MountKind::Cache(cache) => {
                    cache.seed.as_ref().map(|(from, source)| Cow::Owned(whole(from, source)))
                }
                MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => None,
            })
            .collect(),
    }
}

/// The name under which the step's result may be known.
pub(crate) async fn key(
    site: &Arc<Site>,
    stage: &PlannedStage,
    step: &Step,
    below: &BuiltStage,
    sources: &Arc<Sources>,
) -> Result<CacheKey, BuildErrorKind> {
    let mut inputs = sources.inputs(site, &step.kind).await?;
    if let Some(identities) = remote::identify(site, &step.kind).await? {
        inputs.extend(identities);
        inputs = vec![all_of(&inputs)];
    }
    let tables = below.tables();
    let surroundings = key::Surroundings {
        below: below.chain(),
        tables: &tables,
        platform: &stage.config.platform,
        source_date_epoch: site.request.options.source_date_epoch,
        compression: Compression::Gzip,
    };
    Ok(match &step.kind {
        StepKind::Copy(copy) => key::copy(&surroundings, copy, &inputs[0]),
        StepKind::Add(add) => key::add(&surroundings, add, &inputs[0]),
        StepKind::Run(run) => key::run(&surroundings, run, &all_of(&inputs)),
        StepKind::Workdir(workdir) => key::workdir(&surroundings, workdir),
    })
}

/// One digest of several, in order.
fn all_of(digests: &[Digest]) -> Digest {
    Digest::of(
        digests.iter().flat_map(|digest| [digest.hex(), "\n".to_owned()]).collect::<String>(),
    )
}

/// Whether the files are ones of this machine, which nothing but their content names.
fn is_files(from: &CopyFrom) -> bool {
    matches!(from, CopyFrom::Context | CopyFrom::NamedContext(_))
}

/// Does what COPY, ADD and WORKDIR say: nothing is mounted, the layer is computed.
pub(crate) fn perform(
    site: &Site,
    kind: &StepKind,
    below: &dyn Tree,
    trees: &Trees,
    sink: LayerSink,
) -> Result<Layer, BuildErrorKind> {
    let store = &site.workshop.store;
    let epoch = site.request.options.source_date_epoch;
    let created = site.created();
    let mut writer = layer::writer(sink, epoch);
    match kind {
        StepKind::Copy(step) => copy::copy(step, trees.inputs(step, below, created), &mut writer)?,
        StepKind::Add(step) => {
            let spool = store.temp_dir()?;
            let inputs = trees.inputs(&step.copy, below, created);
            copy::add(step, inputs, spool.path(), &mut writer)?;
        }
        StepKind::Workdir(step) => copy::workdir(step, below, created, &mut writer)?,
        StepKind::Run(_) => unreachable!("RUN has a sandbox of its own"),
    }
    Ok(layer::publish(writer.finish()?)?)
}

impl Trees {
    /// Adds what the step reads of other machines.
    pub(crate) async fn fetch(
        &mut self,
        site: &Site,
        kind: &StepKind,
    ) -> Result<(), BuildErrorKind> {
        self.remotes = remote::files(site, kind).await?;
        Ok(())
    }

    fn get(&self, from: &CopyFrom) -> Option<&dyn Tree> {
        self.all.iter().find(|(name, _)| name == from).map(|(_, tree)| &**tree)
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
            remotes: &self.remotes,
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
    ) -> Result<(Committed, ImagePath), BuildErrorKind> {
        if let Some((_, files)) = self.files.iter().find(|(name, _)| name == from) {
            let path = files.view().resolve(source)?;
            return Ok((files.clone(), path));
        }
        let step = whole(from, source);
        let inputs = self.inputs(&step, &EmptyTree, Timestamp::EPOCH);
        let mut writer = LayerWriter::new(workshop.store.writer()?, Compression::None, None);
        copy::copy(&step, inputs, &mut writer)?;
        let written = writer.finish()?;
        let descriptor = written.sink.commit(MediaType::OciLayer(Compression::None))?;
        let files = workshop.unpack(&[Layer { descriptor, diff_id: written.diff_id }])?;
        Ok((files, ImagePath::root().join(MOUNT)))
    }
}

impl Trees {
    /// What names the files at `source` of `from`.
    pub(crate) fn name(
        &self,
        from: &CopyFrom,
        source: &ImagePath,
    ) -> Result<String, BuildErrorKind> {
        match self.files.iter().find(|(name, _)| name == from) {
            Some((_, files)) => Ok(format!("{:?} {source}", files.chain())),
            None => Ok(self.digest(&whole(from, source))?.to_string()),
        }
    }

    /// Copies the directory or file at `source` to `to`, where nothing is; `around` is an empty
    /// directory on the same file system.
    pub(crate) fn copy_out(
        &self,
        from: &CopyFrom,
        source: &ImagePath,
        workshop: &Workshop,
        (around, to): (&Path, &Path),
    ) -> Result<Option<Node>, BuildErrorKind> {
        let failed = |source| BuildErrorKind::Scratch { path: around.to_owned(), source };
        let step = whole(from, source);
        let inputs = self.inputs(&step, &EmptyTree, Timestamp::EPOCH);
        let spool = tempfile::tempfile_in(around).map_err(failed)?;
        let mut writer = LayerWriter::new(spool, Compression::None, None);
        copy::copy(&step, inputs, &mut writer)?;
        let written = writer.finish()?;
        let mut spool = written.sink;
        spool.rewind().map_err(failed)?;
        let files = around.join("files");
        std::fs::create_dir(&files).map_err(failed)?;
        workshop.snapshotter.unpack_alone(spool, written.diff_id, &files)?;
        std::fs::rename(files.join(MOUNT), to).map_err(failed)?;
        let Some(tree) = self.get(from) else { return Ok(None) };
        Ok(tree.lookup(&tree.resolve(source)?)?)
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
