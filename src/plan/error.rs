//! What can be wrong with a Dockerfile that is well written, and what to do about it.
//!
//! The messages are BuildKit's wherever it has one.

use std::fmt;

use crate::dockerfile::{ExpandError, ParseErrorKind, Span};
use crate::oci::{ParsePlatformError, ParseReferenceError};
use crate::plan::expose::PortError;
use crate::plan::git::GitUrlError;
use crate::plan::mount::MountError;
use crate::plan::remote::ChecksumError;

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    /// What.
    pub kind: PlanErrorKind,
    /// Where.
    pub span: Span,
}

impl PlanError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// The ways in which a Dockerfile cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanErrorKind {
    /// A word cannot be expanded.
    #[error(transparent)]
    Expand(ExpandError),
    /// `FROM $UNSET` (rule A059).
    #[error("base name ({word}) should not be blank{}", suggestion(.nearest.as_ref()))]
    BlankBase {
        /// As written.
        word: String,
        /// The argument that was perhaps meant.
        nearest: Option<String>,
    },
    /// `FROM --platform=$UNSET` (rule A060).
    #[error("empty platform value from expression {word}{}", suggestion(.nearest.as_ref()))]
    EmptyPlatform {
        /// As written.
        word: String,
        /// The argument that was perhaps meant.
        nearest: Option<String>,
    },
    /// `FROM --platform=nonsense` (rule A060).
    #[error("failed to parse platform {word}")]
    BadPlatform {
        /// As written.
        word: String,
        /// What is wrong with it.
        source: ParsePlatformError,
    },
    /// An image's name has upper-case letters. A stage's name may too, but not in `FROM` (A052).
    #[error(
        "failed to parse stage name \"{name}\": invalid reference format: repository name ({repository}) must be lowercase"
    )]
    UpperCaseImageName {
        /// As written, expanded.
        name: String,
        /// With the part that is implied.
        repository: String,
        /// The stage that was perhaps meant.
        stage: Option<String>,
    },
    /// What should name an image is no reference.
    #[error("failed to parse stage name \"{name}\"")]
    BadImageName {
        /// As written, expanded.
        name: String,
        /// What is wrong with it.
        source: ParseReferenceError,
        /// As written, if there are variables in it.
        word: Option<String>,
    },
    /// `--target` names no stage (rule A058).
    #[error("target stage \"{target}\" could not be found{}", suggestion(.nearest.as_ref()))]
    UnknownTarget {
        /// As given.
        target: String,
        /// The stage with the most similar name.
        nearest: Option<String>,
        /// The names there are.
        names: Vec<String>,
    },
    /// `COPY --from=7` with fewer stages (rule A053).
    #[error("invalid stage index {0}")]
    BadStageIndex(i64),
    /// `COPY --from` a stage that comes later (rule A054).
    #[error(
        "cannot copy from stage \"{from}\", it needs to be defined before current stage \"{current}\""
    )]
    CopyFromLaterStage {
        /// The later stage.
        from: String,
        /// The stage with the `COPY`.
        current: String,
    },
    /// `RUN --mount=from` a stage that comes later (rule A054).
    #[error(
        "cannot mount from stage \"{from}\" to \"{target}\", stage needs to be defined before current command"
    )]
    MountFromLaterStage {
        /// The later stage.
        from: String,
        /// Where it was to be mounted.
        target: String,
    },
    /// Stages that need each other (rule A055).
    #[error("circular dependency detected on stage: {0}")]
    Circular(String),
    /// A config that the caller did not provide.
    #[error("the config of the base image {0} is not known")]
    MissingBase(String),
    /// Something multiplies until the plan fills the memory.
    #[error("the plan of this build takes more than {limit} MiB")]
    TooLarge {
        /// The most that it may take, in MiB.
        limit: usize,
    },
    /// The ONBUILD trigger of a base is not one valid instruction (rule A099).
    #[error("{kind}")]
    Trigger {
        /// The trigger.
        trigger: String,
        /// What is wrong with it.
        kind: ParseErrorKind,
        /// The line that has it, if it is in the same file.
        line: Option<usize>,
    },
    /// `EXPOSE` of something that is no port.
    #[error(transparent)]
    Port(PortError),
    /// `VOLUME` with an empty word (rule A091).
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `STOPSIGNAL` of something that is no signal (rule A089).
    #[error("invalid signal: {0}")]
    BadSignal(String),
    /// `--chmod` (rule A126).
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    BadChmod(String),
    /// `ADD --checksum` with several sources (rule A140).
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfSeveral,
    /// `ADD --checksum` of something that no download can have (rule A140).
    #[error(transparent)]
    BadChecksum(ChecksumError),
    /// `?checksum=` of a repository and `--checksum` disagree (rule A141).
    #[error("checksum mismatch \"{flag}\" != \"{query}\"")]
    TwoChecksums {
        /// The flag's.
        flag: String,
        /// The URL's.
        query: String,
    },
    /// `?keep-git-dir=` of a repository and `--keep-git-dir` disagree (rule A141).
    #[error("inconsistent keep-git-dir configuration")]
    TwoKeepGitDirs,
    /// The URL of a repository says what git does not know (rule A141).
    #[error(transparent)]
    GitUrl(GitUrlError),
    /// `ADD --checksum` of something that is not downloaded (rule A140).
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfLocal,
    /// `COPY https://…` (rule A130).
    #[error("source can't be a URL for COPY")]
    CopyUrl,
    /// `COPY` of a git repository (rule A130).
    #[error("source can't be a git ref for COPY")]
    CopyGit,
    /// `RUN []`
    #[error("RUN has no command")]
    NoCommand,
    /// `RUN --mount` with fields that make no sense.
    #[error(transparent)]
    Mount(MountError),
    /// `--network=host` and `--security=insecure` need a permission that nobody has given (A160).
    #[error("{0} is not allowed")]
    NotAllowed(&'static str),
    /// A remark that `# check=error=true` makes an error (rule A164).
    #[error("lint violation found for rules: {rule} ({message})")]
    Violation {
        /// The check.
        rule: &'static str,
        /// The remark.
        message: String,
    },
    /// Something that BuildKit has and coracle has not.
    #[error("{feature} is not supported")]
    NotSupported {
        /// What.
        feature: String,
        /// What to write in its place.
        alternative: &'static str,
    },
}

impl PlanErrorKind {
    /// The error at a place.
    pub(crate) fn at(self, span: Span) -> PlanError {
        PlanError { kind: self, span }
    }

    /// Whether a base image's variables could have made a difference. Only an error for which
    /// they could not may be told before the image is known.
    pub(crate) fn may_depend_on_base(&self) -> bool {
        matches!(
            self,
            Self::Expand(_) | Self::Trigger { .. } | Self::MissingBase(_) | Self::Violation { .. }
        )
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::BlankBase { .. } | Self::EmptyPlatform { .. } => {
                "FROM sees only ARGs that come before the first FROM; give one a default, or pass \
                 it with --build-arg"
            }
            Self::UpperCaseImageName { stage: Some(stage), .. } => {
                return Some(format!("FROM finds a stage by its lower-case name: `{stage}`"));
            }
            Self::UpperCaseImageName { repository, .. } => {
                let name = repository.strip_prefix("library/").unwrap_or(repository);
                let name = name.to_lowercase();
                return Some(format!("names of images are in lower case: `{name}`"));
            }
            Self::BadImageName { word: Some(word), .. } => {
                return Some(format!(
                    "that is what became of `{word}`: give its ARG a default before the first \
                     FROM, or pass it with --build-arg"
                ));
            }
            Self::UnknownTarget { names, .. } if !names.is_empty() => {
                return Some(format!("the stages are: {}", names.join(", ")));
            }
            Self::TooLarge { .. } => {
                "variables, ports, triggers or stages multiply each other: write fewer of them"
            }
            Self::BadStageIndex(_) => "stages are counted from 0; a name after AS is safer",
            Self::CopyFromLaterStage { .. } | Self::MountFromLaterStage { .. } => {
                "move that stage up, before the one that uses it"
            }
            Self::BadChmod(_) => "write it as `0755` or as `u=rwX,go=rX`",
            Self::BadSignal(_) => "write a number, or a name such as SIGTERM",
            Self::CopyUrl | Self::CopyGit => "ADD takes it",
            Self::BadChecksum(_) => "write `--checksum=sha256:` and 64 lower-case hex digits",
            Self::NoCommand => "write RUN command, or RUN [\"program\", \"argument\"]",
            Self::GitUrl(error) => error.hint(),
            Self::NotAllowed("network.host") => {
                "leave out --network=host: RUN uses your network unless it says --network=none; \
                 or permit it with `--allow network.host`"
            }
            Self::NotAllowed(what) => {
                return Some(format!("if you trust this Dockerfile, permit it: `--allow {what}`"));
            }
            Self::NotSupported { alternative, .. } => alternative,
            Self::Expand(error) => return error.hint(),
            Self::Mount(error) => return error.hint(),
            Self::Trigger { trigger, line: Some(line), .. } => {
                return Some(format!("line {line} has `ONBUILD {trigger}`"));
            }
            Self::Trigger { trigger, line: None, .. } => {
                return Some(format!("the base image has `ONBUILD {trigger}`"));
            }
            Self::Violation { rule, .. } => {
                return Some(format!("mend it, or put `# check=skip={rule}` above the line"));
            }
            Self::Port(_) => "write `80`, `80/udp` or `8000-8010`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<ExpandError> for PlanErrorKind {
    fn from(error: ExpandError) -> Self {
        Self::Expand(error)
    }
}

impl From<GitUrlError> for PlanErrorKind {
    fn from(error: GitUrlError) -> Self {
        Self::GitUrl(error)
    }
}

impl From<MountError> for PlanErrorKind {
    fn from(error: MountError) -> Self {
        Self::Mount(error)
    }
}

impl From<PortError> for PlanErrorKind {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// BuildKit's way to propose a name.
pub(crate) fn suggestion(nearest: Option<&String>) -> String {
    nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}
