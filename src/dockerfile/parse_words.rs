//! `EXPOSE`, `VOLUME`, `WORKDIR`, `USER`, `STOPSIGNAL`, `MAINTAINER` and `ONBUILD`: plain operands.
//!
//! Whether a port or a signal makes sense shows only after expansion; `plan` checks that.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>; rules A018, A088 to A095.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::split::{self, Json};
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{Source, TextInstruction, Word, WordInstruction, WordsInstruction};

/// Reads an `EXPOSE`.
pub(crate) fn parse_expose(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<WordsInstruction> {
    statement.flags(&[], findings);
    let words: Vec<Word> =
        split::at_blanks(statement.operands).iter().map(|it| it.word()).collect();
    if words.is_empty() {
        statement.needs_an_argument(findings);
        return None;
    }
    Some(WordsInstruction { span: statement.span, words })
}

/// Reads a `VOLUME`, in either form.
pub(crate) fn parse_volume(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<WordsInstruction> {
    statement.flags(&[], findings);
    let escape = statement.operands.escape();
    let words: Vec<Word> = match split::json(statement.operands) {
        Json::Strings(strings) => {
            let word = |raw: &str, span| Word { raw: raw.trim().to_owned(), span, escape };
            strings.iter().map(|it| word(&it.value, it.span)).collect()
        }
        Json::NotAString(span) => {
            findings.error(ParseErrorKind::JsonNotStrings, span);
            return None;
        }
        Json::No => split::at_blanks(statement.operands).iter().map(|it| it.word()).collect(),
    };
    if words.is_empty() {
        statement.needs_an_argument(findings);
        return None;
    }
    for word in words.iter().filter(|word| word.raw.is_empty()) {
        findings.error(ParseErrorKind::EmptyVolume, word.span);
    }
    Some(WordsInstruction { span: statement.span, words })
}

/// Reads a `WORKDIR`, a `USER` or a `STOPSIGNAL`: the whole rest of the line is one word.
pub(crate) fn parse_word(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<WordInstruction> {
    statement.flags(&[], findings);
    let word = statement.one_operand(findings)?.word();
    Some(WordInstruction { span: statement.span, word })
}

/// Reads a `MAINTAINER`.
pub(crate) fn parse_maintainer(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<TextInstruction> {
    statement.flags(&[], findings);
    let text = statement.one_operand(findings)?.text().to_owned();
    let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
    findings.warn("MaintainerDeprecated", message, statement.span);
    Some(TextInstruction { span: statement.span, text })
}

/// Reads an `ONBUILD`. The trigger is kept as text, and not checked but for its keyword; its
/// heredocs are appended with the line that ends them (rule A095).
pub(crate) fn parse_onbuild(
    statement: &Statement<'_>,
    source: &Source,
    findings: &mut Findings,
) -> Option<TextInstruction> {
    statement.flags(&[], findings);
    if statement.operands.is_empty() {
        statement.needs_an_argument(findings);
        return None;
    }
    let (keyword, _) = statement.operands.split_first(split::is_blank);
    check_trigger(Keyword::parse(keyword.text()))
        .map_or_else(|kind| findings.error(kind, keyword.span()), |()| ());
    let mut text = statement.rest.text().trim_start().to_owned();
    for (_, heredoc) in &statement.heredocs {
        text.push('\n');
        text.push_str(source.slice(heredoc.span));
        text.push_str(&heredoc.name);
    }
    Some(TextInstruction { span: statement.span, text })
}

/// Refuses the instructions that no trigger can be.
pub(crate) fn check_trigger(keyword: Option<Keyword>) -> Result<(), ParseErrorKind> {
    match keyword {
        Some(Keyword::OnBuild) => Err(ParseErrorKind::ChainedTrigger),
        Some(it @ (Keyword::From | Keyword::Maintainer)) => {
            Err(ParseErrorKind::TriggerNotAllowed { keyword: it.name() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::dockerfile::Instruction;
    use crate::dockerfile::parser::testing::{instruction, mistakes, raw};

    #[test]
    fn a018_operands_are_taken_as_written() {
        let check = |text: &str, expected: &[&str]| {
            let found = instruction(text);
            let words = match &found {
                Instruction::Expose(it) | Instruction::Volume(it) => raw(&it.words),
                Instruction::Workdir(it) | Instruction::User(it) | Instruction::StopSignal(it) => {
                    vec![it.word.raw.as_str()]
                }
                Instruction::Maintainer(it) | Instruction::OnBuild(it) => vec![it.text.as_str()],
                other => panic!("{text} is another instruction: {other:?}"),
            };
            assert_eq!(words, expected, "{text}");
        };
        check("EXPOSE\t80 \t 81/udp  $P", &["80", "81/udp", "$P"]);
        check("VOLUME /a  /b", &["/a", "/b"]);
        check("VOLUME [\"/a b\", \" /c \"]", &["/a b", "/c"]);
        check("VOLUME /a [\"b\"]", &["/a", "[\"b\"]"]);
        check("WORKDIR  /dir with  spaces ", &["/dir with  spaces"]);
        check("WORKDIR \"/a b\"", &["\"/a b\""]);
        check("USER  0:0  ", &["0:0"]);
        check("STOPSIGNAL RTMIN+3", &["RTMIN+3"]);
        check("MAINTAINER  Ann  Example <a@b>  ", &["Ann  Example <a@b>"]);
    }

    #[test]
    fn a095_a_trigger_is_stored_as_written() {
        let check = |text: &str, expected: &str| {
            let Instruction::OnBuild(it) = instruction(text) else { panic!("{text} is ONBUILD") };
            assert_eq!(it.text, expected);
        };
        check("ONBUILD  RUN   echo  $V   'q' \\\n   go on", "RUN   echo  $V   'q'    go on");
        check("onbuild copy --chown=1:2 a b/", "copy --chown=1:2 a b/");
        check("ONBUILD NONSENSE is not checked", "NONSENSE is not checked");
        check("ONBUILD RUN <<EOF\necho \"$X\"\nEOF", "RUN <<EOF\necho \"$X\"\nEOF");
        check("ONBUILD COPY --chown=1 <<A /a\ntext\nA", "COPY --chown=1 <<A /a\ntext\nA");
        check("ONBUILD ADD <<-A /a\n\tt\n\tA", "ADD <<-A /a\n\tt\nA");
        check("ONBUILD RUN [\"cat\", \"<<A\"]", "RUN [\"cat\", \"<<A\"]");
    }

    #[test]
    fn mistakes_are_found() {
        let check = |text: &str, expected: &str| assert_eq!(mistakes(text), [expected], "{text}");
        for keyword in ["WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"] {
            check(keyword, &format!("{keyword} requires exactly one argument @ {keyword}"));
        }
        for keyword in ["EXPOSE", "VOLUME", "ONBUILD"] {
            check(keyword, &format!("{keyword} requires at least one argument @ {keyword}"));
        }
        check("VOLUME [\"\"]", "VOLUME specified can not be an empty string @ \"\"");
        check("VOLUME []", "VOLUME requires at least one argument @ VOLUME");
        check(
            "ONBUILD ONBUILD RUN x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed @ ONBUILD",
        );
        check("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger @ FROM");
        check(
            "ONBUILD maintainer x",
            "MAINTAINER isn't allowed as an ONBUILD trigger @ maintainer",
        );
        check("USER --chown=1 x", "unknown flag: --chown @ --chown=1");
    }
}
