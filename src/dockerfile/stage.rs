//! A parsed Dockerfile: global arguments and stages.

use crate::dockerfile::{
    ArgInstruction, Checks, FromInstruction, Instruction, Source, Span, Spanned, Warning,
};

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
    /// What works but should not be written, in order; what the file skips is left out.
    pub warnings: Vec<Warning>,
    /// Which other warnings the file wants to hear.
    pub checks: Checks,
}

/// One `FROM` and the instructions that follow it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The `FROM` line.
    pub from: FromInstruction,
    /// The name after `AS`, in lower case (rule A051).
    pub name: Option<Spanned<String>>,
    /// What the comment above says of it: `# name description`.
    pub description: Option<String>,
    /// Everything up to the next `FROM`.
    pub instructions: Vec<Instruction>,
    /// The whole stage.
    pub span: Span,
}
