//! Mistakes: what is wrong with a Dockerfile's text, and where.
//!
//! The messages are BuildKit's, word for word where it has one, because people search for them.
//! A parser collects: it reports what it finds to [`Findings`] and goes on.

use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Span, Warning, nearest};

/// A mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The word that is wrong.
    pub span: Span,
    /// The instruction that it is in. Its first line is the one to name (rule A161).
    pub instruction: Span,
}

impl ParseError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }
}

/// The kinds of mistakes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The file has no text at all (rule A002).
    #[error("the Dockerfile cannot be empty")]
    EmptyFile,
    /// There are only comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// An instruction comes before the first `FROM`.
    #[error("no build stage in current context")]
    NoStageYet {
        /// The instruction.
        keyword: String,
    },
    /// A line is too long (rule A001).
    #[error("dockerfile line greater than max allowed size of {limit}")]
    LineTooLong {
        /// The most that is allowed.
        limit: usize,
    },
    /// Bytes that are no text, in an instruction.
    #[error("invalid UTF-8: byte 0x{byte:02X}")]
    NotUtf8 {
        /// The first of them.
        byte: u8,
    },
    /// A directive is given a second time (rule A004).
    #[error("only one {name} parser directive can be used")]
    DuplicateDirective {
        /// The directive.
        name: &'static str,
    },
    /// `# escape=` with another character (rule A005).
    #[error("invalid escape token '{token}' does not match ` or \\")]
    InvalidEscape {
        /// The character.
        token: String,
    },
    /// `# syntax=` asks for a language that is not Dockerfile (rule A006).
    #[error("unsupported frontend \"{frontend}\" in the syntax directive")]
    UnsupportedFrontend {
        /// The frontend's image.
        frontend: String,
    },
    /// `# check=` with an unknown option (rule A164).
    #[error("invalid check option \"{option}\"")]
    InvalidCheckOption {
        /// The option.
        option: String,
    },
    /// `# check=error=` with something other than true or false.
    #[error("failed to parse check option \"{option}\": invalid syntax")]
    InvalidCheckValue {
        /// The option with its value.
        option: String,
    },
    /// No such instruction (rule A012).
    #[error("unknown instruction: {keyword}{}", did_you_mean(*suggestion))]
    UnknownInstruction {
        /// As written.
        keyword: String,
        /// What was perhaps meant.
        suggestion: Option<&'static str>,
        /// The instruction before it, if it seems to have a heredoc that it cannot have.
        after: Option<&'static str>,
    },
    /// The instruction has no such flag (rule A013).
    #[error("unknown flag: --{flag}{}", did_you_mean(*suggestion))]
    UnknownFlag {
        /// Without its dashes.
        flag: String,
        /// What was perhaps meant.
        suggestion: Option<&'static str>,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A flag is given twice.
    #[error("duplicate flag specified: --{flag}")]
    DuplicateFlag {
        /// Without its dashes.
        flag: &'static str,
    },
    /// A flag that needs a value has none.
    #[error("missing a value on flag: --{flag}")]
    FlagWithoutValue {
        /// Without its dashes.
        flag: &'static str,
    },
    /// A flag that is true or false has another value.
    #[error("expecting boolean value for flag --{flag}, not: {value}")]
    FlagNotBoolean {
        /// Without its dashes.
        flag: &'static str,
        /// As written.
        value: String,
    },
    /// The instruction needs exactly one operand (rule A094).
    #[error("{keyword} requires exactly one argument")]
    NeedsOneArgument {
        /// The instruction.
        keyword: &'static str,
    },
    /// The instruction needs an operand.
    #[error("{keyword} requires at least one argument")]
    NeedsAnArgument {
        /// The instruction.
        keyword: &'static str,
    },
    /// `COPY` or `ADD` with fewer than two operands.
    #[error(
        "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// The instruction.
        keyword: &'static str,
    },
    /// `FROM` with two operands, or without any (rule A051).
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage's name has characters that it may not have.
    #[error(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )]
    InvalidStageName {
        /// As written.
        name: String,
    },
    /// A JSON array with something other than strings in it (rule A014).
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `SHELL` in shell form (rule A090).
    #[error("{keyword} requires the arguments to be in JSON form")]
    NotJson {
        /// The instruction.
        keyword: &'static str,
    },
    /// A heredoc's last line is missing (rule A016).
    #[error("unterminated heredoc")]
    UnterminatedHeredoc {
        /// The line that would end it.
        name: String,
    },
    /// A heredoc where `COPY` or `ADD` has its destination (rule A131).
    #[error("{keyword} cannot accept a heredoc as a destination")]
    HeredocAsDestination {
        /// The instruction.
        keyword: &'static str,
    },
    /// `ENV name` or `LABEL name`, and no value (rule A049).
    #[error("{keyword} must have two arguments")]
    NeedsNameAndValue {
        /// The instruction.
        keyword: &'static str,
    },
    /// A word without `=` among others with one.
    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NoEqualSign {
        /// The word.
        word: String,
    },
    /// `=value` without a name (rules A039, A049).
    #[error("{keyword} names can not be blank")]
    BlankName {
        /// The instruction.
        keyword: &'static str,
    },
    /// `COPY --from=$X` (rule A021).
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableInFrom,
    /// `VOLUME [""]` (rule A091).
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `HEALTHCHECK NONE` with operands (rule A087).
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    /// `HEALTHCHECK X`, and X is neither `CMD` nor `NONE`.
    #[error("Unknown type {kind:?} in HEALTHCHECK (try CMD)")]
    UnknownHealthcheck {
        /// In upper case.
        kind: String,
    },
    /// `HEALTHCHECK CMD` and nothing behind it.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    /// A duration is malformed.
    #[error("time: {problem} {text:?}")]
    InvalidDuration {
        /// In Go's words.
        problem: &'static str,
        /// As written.
        text: String,
    },
    /// A duration is too short to be meant.
    #[error("Interval {flag:?} cannot be less than 1ms")]
    DurationTooShort {
        /// Without its dashes.
        flag: &'static str,
    },
    /// `--retries` is no number.
    #[error("invalid value for --retries: {text:?} is not a number below 2147483648")]
    InvalidRetries {
        /// As written.
        text: String,
    },
    /// `--retries` is below zero.
    #[error("--retries cannot be negative ({retries})")]
    NegativeRetries {
        /// As written.
        retries: i64,
    },
    /// `RUN --network` with an unknown mode (rule A160).
    #[error("invalid network mode {mode:?}")]
    InvalidNetwork {
        /// As written.
        mode: String,
    },
    /// `RUN --security` with an unknown mode.
    #[error("security {mode:?} is not valid")]
    InvalidSecurity {
        /// As written.
        mode: String,
    },
    /// `ONBUILD ONBUILD` (rule A095).
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedTrigger,
    /// `ONBUILD FROM` or `ONBUILD MAINTAINER`.
    #[error("{keyword} isn't allowed as an ONBUILD trigger")]
    TriggerNotAllowed {
        /// The instruction.
        keyword: &'static str,
    },
    /// A trigger that is not exactly one instruction (rule A099).
    #[error("onbuild trigger should be a single expression")]
    TriggerNotSingle,
}

impl ParseErrorKind {
    /// What to do about it, where that is more than the opposite of the message.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::EmptyFile | Self::NoInstructions | Self::NoStages => {
                "begin with FROM and the image to build upon, or FROM scratch"
            }
            Self::NoStageYet { .. } => "only ARG may come before the first FROM",
            Self::LineTooLong { .. } => "break the line with a backslash, or COPY the text",
            Self::NotUtf8 { .. } => {
                "save the file as UTF-8: `iconv -f ISO-8859-1 -t UTF-8`, if it is Latin-1"
            }
            Self::InvalidEscape { .. } => "write # escape=` or # escape=\\",
            Self::UnsupportedFrontend { .. } => {
                "only Dockerfiles can be built: remove the line, or write # syntax=docker/dockerfile:1"
            }
            Self::InvalidCheckOption { .. } | Self::InvalidCheckValue { .. } => {
                "the options are skip=RULE,..., error=true and experimental=RULE,..., separated by ;"
            }
            Self::UnknownInstruction { after: Some(before), .. } => {
                return Some(format!(
                    "{before} takes no here-document: of all instructions only RUN, COPY and ADD do"
                ));
            }
            Self::UnknownInstruction { suggestion: None, .. } => {
                return Some(format!("the instructions are {}", Keyword::names().join(", ")));
            }
            Self::UnknownFlag { known, .. } if known.is_empty() => {
                "this instruction has no flags: put `--` before what only looks like one"
            }
            Self::UnknownFlag { known, suggestion: None, .. } => {
                return Some(format!("the flags are --{}", known.join(", --")));
            }
            Self::FlagNotBoolean { .. } => "leave the value out, or write true or false",
            Self::NoDestination { .. } => "name the sources first and the destination last",
            Self::FromArguments => "write FROM image, or FROM image AS name",
            Self::InvalidStageName { .. } => {
                "a name begins with a letter and goes on with letters, digits and - _ ."
            }
            Self::JsonNotStrings => "put every element in double quotes",
            Self::NotJson { .. } => "write [\"program\", \"argument\"]",
            Self::UnterminatedHeredoc { name } => {
                return Some(format!(
                    "end it with a line that says {name} and nothing else, not even blanks; \
                     only <<-{name} allows tabs before it"
                ));
            }
            Self::NoEqualSign { .. } => "quote a value that has blanks: name=\"a value\"",
            Self::NeedsNameAndValue { .. } => "write name=value, or name= for an empty value",
            Self::UnknownHealthcheck { .. } | Self::HealthcheckNoCommand => {
                "write HEALTHCHECK [options] CMD command, or HEALTHCHECK NONE"
            }
            Self::InvalidDuration { .. } => {
                "write a number and a unit, such as 30s or 1m30s; variables are not expanded here"
            }
            Self::InvalidNetwork { .. } => "the modes are default, none and host",
            Self::InvalidSecurity { .. } => "the modes are sandbox and insecure",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What a parser has found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: Vec<ParseError>,
    warnings: Vec<Warning>,
    instruction: Span,
    /// The instruction above, if it seems to have a heredoc that it cannot have.
    stray_heredoc: Option<&'static str>,
}

impl Findings {
    /// From now on, findings are in this instruction.
    pub(crate) fn enter(&mut self, instruction: Span) {
        self.instruction = instruction;
    }

    /// Remembers whether the instruction seems to have a heredoc that it cannot have: then the lines
    /// below are taken for instructions.
    pub(crate) fn note_heredoc(&mut self, keyword: Option<&'static str>) {
        self.stray_heredoc = keyword;
    }

    /// Reports a word that should be an instruction.
    pub(crate) fn unknown_instruction(&mut self, word: &str, span: Span) {
        let suggestion = nearest(word, &Keyword::names());
        let (keyword, after) = (word.to_owned(), self.stray_heredoc);
        self.error(ParseErrorKind::UnknownInstruction { keyword, suggestion, after }, span);
    }

    /// Reports a mistake at `span`.
    pub(crate) fn error(&mut self, kind: ParseErrorKind, span: Span) {
        self.errors.push(ParseError { kind, span, instruction: self.instruction });
    }

    /// Reports something that works but should not be written.
    pub(crate) fn warn(&mut self, rule: &'static str, message: String, span: Span) {
        self.warnings.push(Warning { rule, message, span });
    }

    /// Whether there is any mistake yet.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The mistakes and the warnings, both in the order of the text.
    pub(crate) fn all(mut self) -> (Vec<ParseError>, Vec<Warning>) {
        self.errors.sort_by_key(|error| error.span);
        self.warnings.sort_by_key(|warning| warning.span);
        (self.errors, self.warnings)
    }

    /// The mistakes, or else the warnings.
    pub(crate) fn finish(self) -> Result<Vec<Warning>, Vec<ParseError>> {
        let (errors, warnings) = self.all();
        if errors.is_empty() { Ok(warnings) } else { Err(errors) }
    }
}
