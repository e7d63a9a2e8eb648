//! `ENV`, `LABEL` and `ARG`: names and values.
//!
//! `ENV` and `LABEL` have an old form too, `ENV name rest of the line`; it is taken if the first
//! word has no `=` (rule A049).
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#env>; rules A026, A039, A049.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::line::Fragment;
use crate::dockerfile::split;
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{ArgDeclaration, ArgInstruction, PairsInstruction, Word};

/// Reads an `ENV` or a `LABEL`.
pub(crate) fn parse_pairs(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<PairsInstruction> {
    statement.flags(&[], findings);
    let words = split::outside_quotes(statement.operands);
    let Some(first) = words.first() else {
        statement.needs_an_argument(findings);
        return None;
    };
    let pairs = if first.text().contains('=') {
        words.into_iter().filter_map(|word| pair(statement, word, findings)).collect()
    } else {
        vec![legacy_pair(statement, findings)?]
    };
    Some(PairsInstruction { span: statement.span, pairs })
}

/// `name=value`
fn pair(
    statement: &Statement<'_>,
    word: Fragment<'_>,
    findings: &mut Findings,
) -> Option<(Word, Word)> {
    let Some(equals) = word.text().find('=') else {
        let kind = ParseErrorKind::NoEqualSign { word: word.text().to_owned() };
        findings.error(kind, word.span());
        return None;
    };
    if equals == 0 {
        report_blank_name(statement, word, findings);
        return None;
    }
    Some((word.slice(0..equals).word(), word.from(equals + 1).word()))
}

/// `name value`, where the value is all the rest of the line.
fn legacy_pair(statement: &Statement<'_>, findings: &mut Findings) -> Option<(Word, Word)> {
    let keyword = statement.keyword.name();
    let (name, value) = statement.operands.split_first(split::is_blank);
    if value.is_empty() {
        findings.error(ParseErrorKind::NeedsNameAndValue { keyword }, name.span());
        return None;
    }
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    findings.warn("LegacyKeyValueFormat", message, statement.span);
    Some((name.word(), value.word()))
}

/// Reads an `ARG`: each word is a name, or a name with a default.
pub(crate) fn parse_arg(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<ArgInstruction> {
    statement.flags(&[], findings);
    let words = split::outside_quotes(statement.operands);
    if words.is_empty() {
        statement.needs_an_argument(findings);
        return None;
    }
    let mut args = Vec::new();
    for word in words {
        let (name, default) = match word.text().find('=') {
            None => (word, None),
            Some(equals) => (word.slice(0..equals), Some(word.from(equals + 1).word())),
        };
        if name.is_empty() {
            report_blank_name(statement, word, findings);
        } else {
            args.push(ArgDeclaration { name: name.spanned(), default });
        }
    }
    Some(ArgInstruction { span: statement.span, args })
}

fn report_blank_name(statement: &Statement<'_>, word: Fragment<'_>, findings: &mut Findings) {
    let keyword = statement.keyword.name();
    findings.error(ParseErrorKind::BlankName { keyword }, word.span());
}
