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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Instruction;
    use crate::dockerfile::parser::testing::{instruction, mistakes};

    fn copy(text: &str) -> CopyInstruction {
        match instruction(text) {
            Instruction::Copy(copy) | Instruction::Add(copy) => copy,
            other => panic!("{text} is neither COPY nor ADD: {other:?}"),
        }
    }

    /// Sources and destination; a heredoc as `<<NAME:body`.
    fn operands(text: &str) -> Vec<String> {
        let copy = copy(text);
        let sources = copy.sources.into_iter().map(|source| match source {
            CopySource::Path(word) => word.raw,
            CopySource::Heredoc(it) => format!("<<{}:{}", it.name, it.body),
        });
        sources.chain([copy.destination.raw]).collect()
    }

    #[test]
    fn a018_operands_are_words_or_json() {
        let check = |text: &str, expected: &[&str]| assert_eq!(operands(text), expected, "{text}");
        check("COPY a b /c/", &["a", "b", "/c/"]);
        check("COPY \"a b\" c", &["\"a", "b\"", "c"]);
        check("COPY [\"a b\", \"$D/\"]", &["a b", "$D/"]);
        check("COPY --chown=1 -- --odd.txt /odd", &["--odd.txt", "/odd"]);
        check("ADD http://x/y /z", &["http://x/y", "/z"]);
        check("COPY [a] b", &["[a]", "b"]);
    }

    #[test]
    fn a131_a_heredoc_is_a_source() {
        let check = |text: &str, expected: &[&str]| assert_eq!(operands(text), expected, "{text}");
        check("COPY <<E /e\ntext\nE", &["<<E:text\n", "/e"]);
        check("COPY a <<b.txt c /d/\nx\nb.txt", &["a", "<<b.txt:x\n", "c", "/d/"]);
        check("ADD <<x <<\"y\" /two/\n1\nx\n2\ny", &["<<x:1\n", "<<y:2\n", "/two/"]);
        check("COPY <<-E /e\n\t\tt\n\tE", &["<<E:t\n", "/e"]);
        check("COPY <<'a b' /e\nt\na b", &["<<a b:t\n", "/e"]);
        check("COPY << E /e\nt\nE", &["<<E:t\n", "/e"]);
        check("COPY <<E <<E /e\n1\nE\n2\nE", &["<<E:1\n", "<<E:2\n", "/e"]);
    }

    #[test]
    fn a013_flags_are_kept() {
        let it = copy(
            "COPY --from=Base --chown=\"$U\" --chmod=0755 --link --parents=false \
             --exclude=*.a --exclude=$b x y",
        );
        assert_eq!(it.from.map(|it| it.value).as_deref(), Some("Base"));
        assert_eq!(it.chown.map(|it| it.raw).as_deref(), Some("$U"));
        assert_eq!(it.chmod.map(|it| it.raw).as_deref(), Some("0755"));
        assert_eq!(it.link.map(|it| it.value), Some(true));
        assert_eq!(it.parents.map(|it| it.value), Some(false));
        let excludes: Vec<_> = it.excludes.iter().map(|it| it.value.as_str()).collect();
        assert_eq!(excludes, ["*.a", "$b"]);
        let it = copy("ADD --checksum=sha256:0 --unpack=true --keep-git-dir=TRUE x y");
        assert_eq!(it.checksum.map(|it| it.raw).as_deref(), Some("sha256:0"));
        assert_eq!(it.unpack.map(|it| it.value), Some(true));
        assert_eq!(it.keep_git_dir.map(|it| it.value), Some(true));
        assert_eq!(it.link, None);
    }

    #[test]
    fn mistakes_are_found() {
        let check = |text: &str, expected: &str| assert_eq!(mistakes(text), [expected], "{text}");
        let no_destination = |keyword: &str| {
            format!(
                "{keyword} requires at least two arguments, but only one was provided. \
                 Destination could not be determined @ {keyword}"
            )
        };
        check("COPY", &no_destination("COPY"));
        check("COPY a", &no_destination("COPY"));
        check("ADD [\"a\"]", &no_destination("ADD"));
        check("COPY a <<E\nt\nE", "COPY cannot accept a heredoc as a destination @ <<E");
        check("ADD --from=x a b", "unknown flag: --from @ --from=x");
        check("COPY --checksum=x a b", "unknown flag: --checksum @ --checksum=x");
        check(
            "COPY --from=$S a b",
            "variable expansion is not supported for --from, define a new stage with FROM using \
             ARG from global scope as a workaround @ $S",
        );
        check(
            "COPY [\"a\", 1]",
            "when using JSON array syntax, arrays must be comprised of strings only @ 1",
        );
    }
}
