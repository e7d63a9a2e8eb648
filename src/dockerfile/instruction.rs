//! Instructions: one struct a keyword, holding what was written and where.

use std::time::Duration;

use crate::dockerfile::{Span, Spanned, Word};

/// One instruction other than `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(CopyInstruction),
    /// `ARG`
    Arg(ArgInstruction),
    /// `CMD`
    Cmd(CommandInstruction),
    /// `COPY`
    Copy(CopyInstruction),
    /// `ENTRYPOINT`
    Entrypoint(CommandInstruction),
    /// `ENV`
    Env(PairsInstruction),
    /// `EXPOSE`
    Expose(WordsInstruction),
    /// `HEALTHCHECK`
    Healthcheck(HealthcheckInstruction),
    /// `LABEL`
    Label(PairsInstruction),
    /// `MAINTAINER`
    Maintainer(TextInstruction),
    /// `ONBUILD`
    OnBuild(TextInstruction),
    /// `RUN`
    Run(RunInstruction),
    /// `SHELL`
    Shell(ShellInstruction),
    /// `STOPSIGNAL`
    StopSignal(WordInstruction),
    /// `USER`
    User(WordInstruction),
    /// `VOLUME`
    Volume(WordsInstruction),
    /// `WORKDIR`
    Workdir(WordInstruction),
}

impl Instruction {
    /// All its lines, from the keyword to the last word or the end of its last heredoc.
    pub fn span(&self) -> Span {
        match self {
            Self::Add(it) | Self::Copy(it) => it.span,
            Self::Arg(it) => it.span,
            Self::Cmd(it) | Self::Entrypoint(it) => it.span,
            Self::Env(it) | Self::Label(it) => it.span,
            Self::Expose(it) | Self::Volume(it) => it.span,
            Self::Healthcheck(it) => it.span,
            Self::Maintainer(it) | Self::OnBuild(it) => it.span,
            Self::Run(it) => it.span,
            Self::Shell(it) => it.span,
            Self::StopSignal(it) | Self::User(it) | Self::Workdir(it) => it.span,
        }
    }
}

/// `FROM [--platform=P] image [AS name]`. The name is in [`Stage`](crate::dockerfile::Stage).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// The whole line.
    pub span: Span,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The image, stage or `scratch`.
    pub image: Word,
}

/// `ARG name[=default]…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInstruction {
    /// The whole instruction.
    pub span: Span,
    /// What it declares, in order.
    pub args: Vec<ArgDeclaration>,
}

/// One declared argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Spanned<String>,
    /// The text after `=`, if there is a `=`.
    pub default: Option<Word>,
    /// What the comment above says of it: `# name description`.
    pub description: Option<String>,
}

/// `ENV` and `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairsInstruction {
    /// The whole instruction.
    pub span: Span,
    /// Key and value, in order. Label keys are expanded too.
    pub pairs: Vec<(Word, Word)>,
}

/// `EXPOSE` and `VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordsInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The operands.
    pub words: Vec<Word>,
}

/// `WORKDIR`, `USER` and `STOPSIGNAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The operand: the whole rest of the line.
    pub word: Word,
}

/// `MAINTAINER` and `ONBUILD`: text that is not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The rest of the line; for `ONBUILD` with its heredoc bodies appended (rule A095).
    pub text: String,
}

/// A command in one of its two forms (rule A014). Never expanded by the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandForm {
    /// Text for the shell in force.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// `CMD` and `ENTRYPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The command. `Exec([])` is `CMD []`.
    pub command: CommandForm,
}

/// `SHELL ["…", …]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The shell; never empty.
    pub shell: Vec<String>,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckInstruction {
    /// The whole instruction.
    pub span: Span,
    /// `None` for `HEALTHCHECK NONE`.
    pub check: Option<HealthcheckCommand>,
}

/// `HEALTHCHECK [options] CMD …`; options that were not given are zero (rule A087).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckCommand {
    /// What to run.
    pub command: CommandForm,
    /// `--interval`
    pub interval: Duration,
    /// `--timeout`
    pub timeout: Duration,
    /// `--start-period`
    pub start_period: Duration,
    /// `--start-interval`
    pub start_interval: Duration,
    /// `--retries`
    pub retries: i64,
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// The whole instruction.
    pub span: Span,
    /// The command line. With heredocs: the line without their bodies.
    pub command: CommandForm,
    /// Heredocs, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, each as written; `plan` reads the fields, as some are expanded.
    pub mounts: Vec<Word>,
    /// `--network`
    pub network: Option<Spanned<String>>,
    /// `--security`
    pub security: Option<Spanned<String>>,
    /// `--device`, each as written.
    pub devices: Vec<Word>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name between `<<` and the end of the word, without quotes.
    pub name: String,
    /// The text, with its final newline; leading tabs removed where `<<-` asked for it.
    pub body: String,
    /// Whether the builder expands variables in the body: no part of the name was quoted (A017).
    pub expand: bool,
    /// Whether it was written `<<-`.
    pub strip_tabs: bool,
    /// The file descriptor before `<<`, if one was written.
    pub file_descriptor: Option<u32>,
    /// The body's place in the source.
    pub span: Span,
}

/// `COPY` and `ADD`. Flags that one of the two does not take are refused by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// The whole instruction.
    pub span: Span,
    /// What to copy, in order.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
    /// `--from`, not expanded (rule A021).
    pub from: Option<Spanned<String>>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `COPY --parents`
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, not expanded (rule A129).
    pub excludes: Vec<Spanned<String>>,
    /// `ADD --checksum`
    pub checksum: Option<Word>,
    /// `ADD --keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `ADD --unpack`
    pub unpack: Option<Spanned<bool>>,
}

/// One source of a `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern, URL or git reference.
    Path(Word),
    /// A file whose text stands in the Dockerfile (rule A131).
    Heredoc(Heredoc),
}
