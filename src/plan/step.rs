//! The plan's types: steps, stages, and the graph of them. Nothing here is unexpanded.

use std::collections::BTreeMap;

use crate::dockerfile::{Span, Warning};
use crate::oci::{ImageConfig, ImagePath, Platform, Reference, Timestamp};
use crate::plan::{Allowed, Remote, RunMount, RunSettings, UnusedArg};

/// What the command line says about the build.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--build-arg NAME=value`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`; `None` means the machine's own, and that the base image's counts (rule A065).
    pub platform: Option<Platform>,
    /// The platform that the build runs on.
    pub build_platform: Platform,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--network`: what a `RUN` that does not say gets.
    pub network: Network,
    /// `--build-context`: names that the command line gives to contexts.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `SOURCE_DATE_EPOCH`, which the environment of each `RUN` then has.
    pub source_date_epoch: Option<Timestamp>,
    /// `--allow`.
    pub allowed: Allowed,
    /// `--add-host`, `--shm-size` and `--ulimit`.
    pub run: RunSettings,
}

/// What a `--build-context` name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image.
    Image(Reference),
    /// Files: `build` knows where.
    Files,
    /// No files at all: `docker-image://scratch`.
    Scratch,
}

/// An image whose config, and perhaps layers, the build needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseImage {
    /// Which image.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
}

/// A request for the config of an image, and the line that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingBase {
    /// The image.
    pub base: BaseImage,
    /// The `FROM`, `--from` or mount that names it.
    pub span: Span,
}

/// The configs of the base images that are known so far.
pub type Bases = BTreeMap<BaseImage, ImageConfig>;

/// What a `RUN` step may reach over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// The network of the user who runs the build.
    #[default]
    Host,
    /// A network namespace of its own, with nothing but loopback.
    None,
}

/// A stage's place in [`Plan::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub usize);

/// A whole build. Only what the target needs is in it; a stage comes after all that it needs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages, dependencies first. The last one is the target.
    pub stages: Vec<PlannedStage>,
    /// What a careful person would want to be told, in no way fatal.
    pub warnings: Vec<Warning>,
    /// Build arguments that nothing takes.
    pub unused_args: Vec<UnusedArg>,
}

/// One stage.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// The name after `AS`, or the number in the Dockerfile.
    pub name: String,
    /// The `FROM` line.
    pub span: Span,
    /// What it starts from.
    pub base: StageBase,
    /// What it does to the file system, in order.
    pub steps: Vec<Step>,
    /// The config of the stage's image: complete but for `created`, `rootfs.diff_ids` and the
    /// times in `history`. Its `history` covers the base and this stage; an entry that is not
    /// `empty_layer` belongs to a base layer or to a step, in order (rule A082).
    pub config: ImageConfig,
    /// How many entries of `config.history` come from the base image of the whole chain. Their
    /// times are left alone (rule A083).
    pub inherited_history: usize,
}

impl PlannedStage {
    /// Whether one of the steps from `index` on runs a command.
    pub fn runs_from(&self, index: usize) -> bool {
        self.steps[index..].iter().any(|step| matches!(step.kind, StepKind::Run(_)))
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and boxes would hide what is in them"
)]
pub enum StageBase {
    /// No files at all.
    Scratch,
    /// An image from a registry or the store.
    Image(BaseImage),
    /// Another stage, which comes earlier in the plan.
    Stage(StageId),
}

/// One change of the file system: exactly one layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// The instruction, for errors.
    pub span: Span,
    /// What people see: the instruction on one line, such as `RUN pip install x`. Words are
    /// expanded where the builder expands them, so not in the command of a `RUN`.
    pub title: String,
    /// What to do.
    pub kind: StepKind,
    /// Where its words are.
    pub words: StepWords,
}

/// Where the words of an instruction are, for errors that are about one of them.
/// Nothing is known of the words of a trigger.
#[derive(Debug, Clone, Default)]
pub struct StepWords {
    /// Paths, patterns and URLs, as they are after expansion.
    pub sources: Vec<(String, Span)>,
    /// `--chown`.
    pub chown: Option<Span>,
    /// Where to.
    pub destination: Option<Span>,
    /// `RUN --mount`, in order.
    pub mounts: Vec<Span>,
}

impl StepWords {
    /// The source that `path` comes from: the path itself, or, of a pattern, a directory above.
    pub fn source(&self, path: &ImagePath) -> Option<Span> {
        let is_of = |(text, _): &&(String, Span)| ImagePath::new(text).starts_with(path);
        self.sources.iter().find(is_of).map(|(_, span)| *span)
    }
}

/// The four ways to change the file system.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `RUN`
    Run(RunStep),
    /// `COPY`
    Copy(CopyStep),
    /// `ADD`
    Add(AddStep),
    /// `WORKDIR`
    Workdir(WorkdirStep),
}

impl StepKind {
    /// Whether the step's layer does not depend on what lies below: a `--link` without `--chmod`
    /// (rule A127).
    pub fn is_linked(&self) -> bool {
        match self {
            Self::Copy(step) | Self::Add(AddStep { copy: step, .. }) => step.is_linked(),
            Self::Run(_) | Self::Workdir(_) => false,
        }
    }
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The environment, `NAME=value`, without HOME (which depends on the user's entry in the
    /// image's `/etc/passwd`) and without [`proxy`](Self::proxy).
    pub env: Vec<String>,
    /// Proxy variables, which reach the command but no cache key (rule A046).
    pub proxy: Vec<String>,
    /// The working directory, as written in `WORKDIR`.
    pub cwd: String,
    /// `USER` in force, as written; empty means root.
    pub user: String,
    /// What it may reach.
    pub network: Network,
    /// `--security=insecure`: without the usual limits of the sandbox.
    pub insecure: bool,
    /// What the command line says about all commands.
    pub settings: RunSettings,
    /// Files given to the command for the time it runs: heredocs with `#!` (rule A154).
    pub pipes: Vec<(String, String)>,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// How BuildKit names the command in its error: `/bin/sh -c false` (rule A152).
    pub display: String,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and boxes would hide what is in them"
)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A `--build-context` of that name.
    NamedContext(String),
    /// Another stage.
    Stage(StageId),
    /// An image.
    Image(BaseImage),
    /// `--from=scratch`: no files at all.
    Scratch,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// Where from. Heredoc sources need none.
    pub from: CopyFrom,
    /// What, in order.
    pub sources: Vec<Source>,
    /// Where to: as `COPY` has it after expansion, not yet joined to the working directory.
    pub destination: String,
    /// `WORKDIR` in force.
    pub cwd: String,
    /// `--chown`, expanded: `user[:group]`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--link`: the layer does not depend on what lies below (rule A127).
    pub link: bool,
    /// `--parents` (rule A128).
    pub parents: bool,
    /// `--exclude` (rule A129).
    pub excludes: Vec<String>,
}

impl CopyStep {
    /// Whether the layer does not depend on what lies below. A mode is applied to files that are
    /// there, which makes `--link` with `--chmod` an ordinary copy (rule A127).
    pub fn is_linked(&self) -> bool {
        self.link && self.chmod.is_none()
    }
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern within [`CopyStep::from`].
    Path(String),
    /// A file with this name and text.
    Inline {
        /// The file's name.
        name: String,
        /// Its content.
        text: String,
    },
    /// Something on another machine, whatever [`CopyStep::from`] says. Only `ADD` has these.
    Remote(Remote),
}

/// `--chmod` (rule A126).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// `0755`
    Octal(u32),
    /// `u=rwX,go=rX`, known to be well formed.
    Symbolic(String),
}

/// An `ADD`: a copy in which local archives are unpacked (rules A134 to A141).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddStep {
    /// The copy.
    pub copy: CopyStep,
    /// `--unpack`; `None` means archives yes, downloads no.
    pub unpack: Option<bool>,
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirStep {
    /// The path as joined but, if it was written absolute, not cleaned: every directory that the
    /// text passes through is made (rule A100).
    pub path: String,
    /// `USER` in force, who will own what is made (rule A101); empty means root.
    pub user: String,
}
