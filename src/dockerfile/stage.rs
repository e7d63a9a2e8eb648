//! A parsed Dockerfile: global arguments and stages.

use crate::dockerfile::{ArgInstruction, FromInstruction, Instruction, Source, Span, Spanned};

/// A whole Dockerfile, parsed without a single error.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// Its text.
    pub source: Source,
    /// The escape character in force.
    pub escape: char,
    /// The `ARG`s before the first `FROM` (rule A035).
    pub global_args: Vec<ArgInstruction>,
    /// The stages, in order. Never empty.
    pub stages: Vec<Stage>,
}

/// One `FROM` and the instructions that follow it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The `FROM` line.
    pub from: FromInstruction,
    /// The name after `AS`, in lower case (rule A051).
    pub name: Option<Spanned<String>>,
    /// Everything up to the next `FROM`.
    pub instructions: Vec<Instruction>,
    /// The whole stage.
    pub span: Span,
}
