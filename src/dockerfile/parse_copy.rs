//! `COPY` and `ADD`.
//!
//! Operands are separated by blanks or given as JSON; a heredoc among them is a file whose text
//! stands in the Dockerfile. Whether a source is a URL shows only after expansion, so that is
//! checked by `plan`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#copy>; rules A018, A021, A094, A131.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::flag::{Flags, Known};
use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::split::{self, Json};
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{CopyInstruction, CopySource, Span, Spanned, Word};

const COPY_FLAGS: &[Known] = &[
    Known::text("from"),
    Known::text("chown"),
    Known::text("chmod"),
    Known::boolean("link"),
    Known::boolean("parents"),
    Known::list("exclude"),
];

const ADD_FLAGS: &[Known] = &[
    Known::text("chown"),
    Known::text("chmod"),
    Known::boolean("link"),
    Known::list("exclude"),
    Known::text("checksum"),
    Known::boolean("keep-git-dir"),
    Known::boolean("unpack"),
];

/// Reads a `COPY` or an `ADD`.
pub(crate) fn parse(statement: &Statement<'_>, findings: &mut Findings) -> Option<CopyInstruction> {
    let known = if statement.keyword == Keyword::Copy { COPY_FLAGS } else { ADD_FLAGS };
    let flags = statement.flags(known, findings);
    let from = from(&flags, findings);
    let (sources, destination) = sources_and_destination(statement, findings)?;
    Some(CopyInstruction {
        span: statement.span,
        sources,
        destination,
        from,
        chown: flags.word("chown"),
        chmod: flags.word("chmod"),
        link: flags.boolean("link"),
        parents: flags.boolean("parents"),
        excludes: flags
            .list("exclude")
            .into_iter()
            .map(|it| Spanned::new(it.raw, it.span))
            .collect(),
        checksum: flags.word("checksum"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
    })
}

/// `--from`, which may not have variables (rule A021).
fn from(flags: &Flags, findings: &mut Findings) -> Option<Spanned<String>> {
    let from = flags.text("from")?;
    if from.value.contains('$') {
        findings.error(ParseErrorKind::VariableInFrom, from.span);
    }
    Some(from)
}

/// Everything but the last operand, and the last operand.
fn sources_and_destination(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<(Vec<CopySource>, Word)> {
    let mut operands = operands(statement, findings)?;
    let keyword = statement.keyword.name();
    let destination = operands.pop().filter(|_| !operands.is_empty());
    let Some((destination, span)) = destination else {
        findings.error(ParseErrorKind::NoDestination { keyword }, statement.name.span());
        return None;
    };
    match destination {
        CopySource::Path(destination) => {
            Some((operands.into_iter().map(|(source, _)| source).collect(), destination))
        }
        CopySource::Heredoc(_) => {
            findings.error(ParseErrorKind::HeredocAsDestination { keyword }, span);
            None
        }
    }
}

/// All operands and where they stand on the line.
fn operands(statement: &Statement<'_>, findings: &mut Findings) -> Option<Vec<(CopySource, Span)>> {
    let escape = statement.operands.escape();
    match split::json(statement.operands) {
        Json::Strings(strings) => {
            let path = |it: Spanned<String>| {
                (CopySource::Path(Word { raw: it.value, span: it.span, escape }), it.span)
            };
            Some(strings.into_iter().map(path).collect())
        }
        Json::NotAString(span) => {
            findings.error(ParseErrorKind::JsonNotStrings, span);
            None
        }
        Json::No => Some(words_and_heredocs(statement)),
    }
}

/// The operands, where a heredoc is one operand even if there are blanks in it.
fn words_and_heredocs(statement: &Statement<'_>) -> Vec<(CopySource, Span)> {
    let line = statement.operands;
    let mut operands = Vec::new();
    let mut start = line.range().start;
    let add_words = |from: usize, to: usize, operands: &mut Vec<_>| {
        for word in split::at_blanks(line.of_line(from..to.max(from)).trim()) {
            operands.push((CopySource::Path(word.word()), word.span()));
        }
    };
    for (range, heredoc) in &statement.heredocs {
        add_words(start, range.start, &mut operands);
        let span = line.of_line(range.clone()).span();
        operands.push((CopySource::Heredoc(heredoc.clone()), span));
        start = range.end;
    }
    add_words(start, line.range().end, &mut operands);
    operands
}
