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
            let description = statement.description(name.text()).map(str::to_owned);
            args.push(ArgDeclaration { name: name.spanned(), default, description });
        }
    }
    Some(ArgInstruction { span: statement.span, args })
}

fn report_blank_name(statement: &Statement<'_>, word: Fragment<'_>, findings: &mut Findings) {
    let keyword = statement.keyword.name();
    findings.error(ParseErrorKind::BlankName { keyword }, word.span());
}

#[cfg(test)]
mod tests {
    use crate::dockerfile::Instruction;
    use crate::dockerfile::parser::testing::{instruction, mistakes};

    fn pairs(text: &str) -> Vec<(String, String)> {
        match instruction(text) {
            Instruction::Env(it) | Instruction::Label(it) => {
                it.pairs.into_iter().map(|(name, value)| (name.raw, value.raw)).collect()
            }
            other => panic!("{text} has no pairs: {other:?}"),
        }
    }

    #[test]
    fn a049_pairs_have_two_forms() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found = pairs(text);
            let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("ENV a=1", &[("a", "1")]);
        check("ENV a=1\tb='2 3'  c=", &[("a", "1"), ("b", "'2 3'"), ("c", "")]);
        check("ENV a=b=c", &[("a", "b=c")]);
        check("ENV a=x\\ y", &[("a", "x\\ y")]);
        check("ENV a b  c", &[("a", "b  c")]);
        check("ENV a  x=y z", &[("a", "x=y z")]);
        check("ENV a \"b c\" d", &[("a", "\"b c\" d")]);
        check("LABEL \"a b\"=c", &[("\"a b\"", "c")]);
        check("LABEL $k=v \\\n  l=w", &[("$k", "v"), ("l", "w")]);
    }

    #[test]
    fn a039_one_arg_declares_several() {
        let check = |text: &str, expected: &[(&str, Option<&str>)]| {
            let Instruction::Arg(it) = instruction(text) else { panic!("{text} is an ARG") };
            let found: Vec<_> = it
                .args
                .iter()
                .map(|arg| {
                    (arg.name.value.as_str(), arg.default.as_ref().map(|it| it.raw.as_str()))
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("ARG a", &[("a", None)]);
        check("ARG a=", &[("a", Some(""))]);
        check("ARG a=1 b c=\"x y\"", &[("a", Some("1")), ("b", None), ("c", Some("\"x y\""))]);
    }

    #[test]
    fn mistakes_are_found() {
        let check = |text: &str, expected: &[&str]| assert_eq!(mistakes(text), expected, "{text}");
        check("ENV", &["ENV requires at least one argument @ ENV"]);
        check("LABEL", &["LABEL requires at least one argument @ LABEL"]);
        check("ARG", &["ARG requires at least one argument @ ARG"]);
        check("ENV a", &["ENV must have two arguments @ a"]);
        check("LABEL a", &["LABEL must have two arguments @ a"]);
        check("ENV =a", &["ENV names can not be blank @ =a"]);
        check("ARG =a", &["ARG names can not be blank @ =a"]);
        let junk = |word: &str| {
            format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value @ {word}"
            )
        };
        check("ENV a=1 x y", &[&junk("x"), &junk("y")]);
        check("LABEL a=${X:-one two}", &[&junk("two}")]);
        check("ENV --x a=1", &["unknown flag: --x @ --x"]);
    }
}
