//! Checks on a whole Dockerfile that need no values: those that compare instructions.
//!
//! Checks that concern one word are made where it is parsed, and checks that need to know variables,
//! the base image or the build context are made by `plan` and `build`.
//!
//! Source: <https://docs.docker.com/reference/build-checks/>; rule A163.

use std::collections::BTreeSet;

use crate::dockerfile::error::Findings;
use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::line::Fragment;
use crate::dockerfile::split;
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{Instruction, Span, Spanned, Stage};

/// Warns of what only shows when all stages are known.
pub(crate) fn check_stages(stages: &[Stage], findings: &mut Findings) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for stage in stages {
        if let Some(name) = &stage.name
            && !names.insert(&name.value)
        {
            let message =
                format!("Duplicate stage name {:?}, stage names should be unique", name.value);
            findings.warn("DuplicateStageName", message, name.span);
        }
        check_repeated(stage, findings);
    }
}

/// Warns of a `CMD`, `ENTRYPOINT` or `HEALTHCHECK` that a later one replaces.
fn check_repeated(stage: &Stage, findings: &mut Findings) {
    let mut last: [Option<Span>; 3] = [None; 3];
    for instruction in stage.instructions.iter().rev() {
        let (slot, name) = match instruction {
            Instruction::Cmd(_) => (&mut last[0], "CMD"),
            Instruction::Entrypoint(_) => (&mut last[1], "ENTRYPOINT"),
            Instruction::Healthcheck(_) => (&mut last[2], "HEALTHCHECK"),
            _ => continue,
        };
        if slot.replace(instruction.span()).is_some() {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only \
                 the last one will be used"
            );
            findings.warn("MultipleInstructionsDisallowed", message, instruction.span());
        }
    }
}

/// Warns of keywords that are not written like most others are.
pub(crate) fn check_casing(keywords: &[Spanned<String>], findings: &mut Findings) {
    let is_lower = |it: &str| it == it.to_ascii_lowercase();
    let is_upper = |it: &str| it == it.to_ascii_uppercase();
    let lower = keywords.iter().filter(|it| is_lower(&it.value)).count();
    let upper = keywords.iter().filter(|it| is_upper(&it.value)).count();
    let (fits, majority): (&dyn Fn(&str) -> bool, _) =
        if lower > upper { (&is_lower, "lowercase") } else { (&is_upper, "uppercase") };
    for keyword in keywords.iter().filter(|it| !fits(&it.value)) {
        let message = format!(
            "Command '{}' should match the case of the command majority ({majority})",
            keyword.value
        );
        findings.warn("ConsistentInstructionCasing", message, keyword.span);
    }
}

/// Warns of a comment above `FROM … AS name` or `ARG name` that does not begin with the name. This
/// check is experimental: it is off unless the Dockerfile asks for it.
pub(crate) fn check_description(statement: &Statement<'_>, findings: &mut Findings) {
    let words = split::at_blanks(statement.operands);
    let names: Vec<String> = match (statement.keyword, &words[..]) {
        (Keyword::From, [_, _, name]) => vec![name.text().to_lowercase()],
        (Keyword::Arg, words) => words.iter().map(|it| arg_name(*it).to_owned()).collect(),
        _ => return,
    };
    let Some(comment) = statement.comments.last() else { return };
    let described = comment.split(' ').next().unwrap_or_default();
    if !names.is_empty() && !names.iter().any(|name| name == described) {
        let name = if names.len() == 1 { names[0].as_str() } else { "<arg_key>" };
        let message = format!(
            "Comment for {} should follow the format: `# {name} <description>`",
            statement.keyword.name(),
        );
        findings.warn("InvalidDefinitionDescription", message, statement.span);
    }
}

fn arg_name(word: Fragment<'_>) -> &str {
    word.text().split('=').next().unwrap_or_default()
}
