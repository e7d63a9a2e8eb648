//! Why a build failed, tied to the Dockerfile line that was at work.

use crate::context::ContextError;
use crate::copy::CopyError;
use crate::copy::Subject;
use crate::dockerfile::ParseError;
use crate::dockerfile::Span;
use crate::fetch::FetchError;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::layer::TreeError;
use crate::plan::MountKind;
use crate::plan::PlanError;
use crate::plan::PlanErrorKind;
use crate::plan::RunMount;
use crate::plan::Step;
use crate::plan::StepKind;
use crate::plan::StepWords;
use crate::sandbox::EnterError;
use crate::sandbox::SandboxError;
use crate::sandbox::UserError;
use crate::snapshot::SnapshotError;
use crate::store::StoreError;
use crate::transfer::TransferError;

/// A failure and the Dockerfile line that it belongs to.
#[derive(Debug)]
pub struct BuildError {
    /// The step that failed: its number and how many there are.
    pub step: Option<(usize, usize)>,
    /// The instruction or word.
    pub span: Option<Span>,
    /// What went wrong.
    pub kind: BuildErrorKind,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kind.fmt(f)
    }
}

impl BuildError {
    /// Whether this is [`BuildErrorKind::NotPrepared`].
    pub fn is_not_prepared(&self) -> bool {
        matches!(self.kind, BuildErrorKind::NotPrepared)
    }
}

/// An image that is not to be had, under a name that is nearly that of a stage.
#[derive(Debug)]
pub struct LikeStage {
    /// Why it is not to be had.
    pub error: Box<TransferError>,
    /// The stage that was perhaps meant.
    pub stage: String,
}

impl std::fmt::Display for LikeStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for LikeStage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// What can go wrong in a build.
#[derive(Debug, thiserror::Error)]
pub enum BuildErrorKind {
    /// The Dockerfile is malformed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The Dockerfile cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanErrorKind),
    /// A command ended with a status other than 0.
    #[error("process \"{command}\" did not complete successfully: {exit}")]
    Exit {
        /// The command, as BuildKit names it.
        command: String,
        /// How it ended: `exit code: 1`.
        exit: String,
        /// The status, or 128 and the signal's number.
        status: i32,
        /// The last lines that it wrote.
        output: String,
        /// What the status means, and what is perhaps confused.
        hint: Option<String>,
    },
    /// A command could not be run at all.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The machine allows no sandbox.
    #[error("this machine cannot run the steps of a build")]
    NoSandbox {
        /// Why.
        reason: String,
        /// The way out.
        hint: Option<String>,
    },
    /// A command is to run, and no place for it was made, as the Dockerfile names none: a trigger of
    /// a base image does. Nothing has been done yet.
    #[error("a command is to run, and no sandbox was prepared")]
    NotPrepared,
    /// The user of a step is not known to the image.
    #[error(transparent)]
    User(#[from] UserError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The build context could not be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The files of a stage could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A layer could not be written or read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A root file system could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Something could not be fetched from another machine.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An image is not to be had, and a stage has nearly its name.
    #[error(transparent)]
    LikeStage(LikeStage),
    /// The image could not be put together or written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file that the sandbox is to show could not be written.
    #[error("cannot write `{}`", .path.display())]
    Scratch {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A secret that a command must not run without (rule A158).
    #[error("secret {id}: not found")]
    MissingSecret {
        /// Its id.
        id: String,
    },
    /// A secret that cannot be a variable.
    #[error("secret {id}: it contains a NUL byte, so it cannot be the variable {variable}")]
    BinarySecret {
        /// Its id.
        id: String,
        /// The variable.
        variable: String,
    },
    /// An SSH agent that a command must not run without (rule A159).
    #[error("no SSH key \"{id}\" forwarded from the client")]
    MissingAgent {
        /// Its id, as the Dockerfile has it.
        id: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl BuildErrorKind {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::Plan(error) => error.hint(),
            Self::Exit { hint, .. } | Self::NoSandbox { hint, .. } => hint.clone(),
            Self::Sandbox(error) => error.hint(),
            Self::User(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Context(error) => error.hint(),
            Self::Tree(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Snapshot(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::LikeStage(LikeStage { stage, .. }) => {
                Some(format!("no stage has that name; did you mean the stage `{stage}`?"))
            }
            Self::Image(error) => error.hint(),
            Self::MissingSecret { id } => Some(format!(
                "give it: `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"
            )),
            Self::BinarySecret { .. } => Some("leave out `env=` and read its file".to_owned()),
            Self::MissingAgent { id } if id.is_empty() => {
                Some("forward your agent with `--ssh default`".to_owned())
            }
            Self::MissingAgent { id } => Some(format!("forward an agent with `--ssh {id}=SOCKET`")),
            Self::NotPrepared | Self::Scratch { .. } | Self::Interrupted => None,
        }
    }

    /// Ties the failure to a line.
    pub fn at(self, span: Span) -> BuildError {
        BuildError { step: None, span: Some(span), kind: self }
    }

    /// Ties the failure to an instruction: to the word of it that is wrong, if it is one.
    pub(crate) fn in_step(self, step: &Step) -> BuildError {
        let word = match &step.kind {
            StepKind::Run(run) => {
                let mount = run.mounts.iter().position(|mount| self.is_of_mount(mount));
                mount.and_then(|index| step.words.mounts.get(index).copied())
            }
            _ => self.word(&step.words),
        };
        self.at(word.unwrap_or(step.span))
    }

    /// The word of a `COPY`, `ADD` or `WORKDIR` that it is about.
    fn word(&self, words: &StepWords) -> Option<Span> {
        match self {
            Self::Copy(error) => match error.subject() {
                Subject::Source(path) => words.source(path),
                Subject::Owner => words.chown,
                Subject::Destination => words.destination,
                Subject::Everything => None,
            },
            Self::Fetch(_) => match words.sources[..] {
                [(_, span)] => Some(span),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is for want of what this mount asks for.
    fn is_of_mount(&self, mount: &RunMount) -> bool {
        match (self, &mount.kind) {
            (
                Self::MissingSecret { id } | Self::BinarySecret { id, .. },
                MountKind::Secret(secret),
            ) => secret.id == *id,
            (Self::MissingAgent { id }, MountKind::Ssh(ssh)) => ssh.id == *id && ssh.required,
            (Self::Copy(error), MountKind::Bind { source, .. }) => error.is_about(source),
            (Self::Copy(error), MountKind::Cache(cache)) => {
                cache.seed.as_ref().is_some_and(|(_, source)| error.is_about(source))
            }
            _ => false,
        }
    }

    /// A failure that belongs to no line.
    pub fn anywhere(self) -> BuildError {
        BuildError { step: None, span: None, kind: self }
    }
}

impl From<&EnterError> for BuildErrorKind {
    fn from(error: &EnterError) -> Self {
        Self::NoSandbox { reason: error.to_string(), hint: error.hint() }
    }
}

impl From<ParseError> for BuildError {
    fn from(error: ParseError) -> Self {
        let span = error.span;
        BuildErrorKind::from(error).at(span)
    }
}

impl From<PlanError> for BuildError {
    fn from(error: PlanError) -> Self {
        BuildErrorKind::from(error.kind).at(error.span)
    }
}
