//! `FROM [--platform=P] image [AS name]`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#from>; rule A051.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::flag::Known;
use crate::dockerfile::line::Fragment;
use crate::dockerfile::split;
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{FromInstruction, Spanned, Stage};

/// Reads a `FROM` as a stage that has no instructions yet.
pub(crate) fn parse(statement: &Statement<'_>, findings: &mut Findings) -> Option<Stage> {
    let flags = statement.flags(&[Known::text("platform")], findings);
    let words = split::at_blanks(statement.operands);
    let (image, name) = match words[..] {
        [image] => (image, None),
        [image, keyword, name] if keyword.text().eq_ignore_ascii_case("as") => {
            check_casing(statement.name, keyword, findings);
            (image, Some(stage_name(name, findings)?))
        }
        _ => {
            let place = if words.is_empty() { statement.name } else { statement.operands };
            findings.error(ParseErrorKind::FromArguments, place.span());
            return None;
        }
    };
    let from = FromInstruction {
        span: statement.span,
        platform: flags.word("platform"),
        image: image.word(),
    };
    let described = name.as_ref().and_then(|name| statement.description(&name.value));
    let description = described.map(str::to_owned);
    Some(Stage { from, name, description, instructions: Vec::new(), span: statement.span })
}

/// The name in lower case; an error if it could be taken for a number or an image.
fn stage_name(written: Fragment<'_>, findings: &mut Findings) -> Option<Spanned<String>> {
    let name = written.text().to_lowercase();
    let valid = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_.".contains(&it);
    if !name.starts_with(|it: char| it.is_ascii_lowercase()) || !name.bytes().all(valid) {
        let kind = ParseErrorKind::InvalidStageName { name: written.text().to_owned() };
        findings.error(kind, written.span());
        return None;
    }
    if name != written.text() {
        let message = format!("Stage name '{}' should be lowercase", written.text());
        findings.warn("StageNameCasing", message, written.span());
    }
    if ["scratch", "context"].contains(&name.as_str()) {
        let message =
            format!("Stage name should not use the same name as reserved stage \"{name}\"");
        findings.warn("ReservedStageName", message, written.span());
    }
    Some(Spanned::new(name, written.span()))
}

/// Warns of `FROM x as y`. A keyword in mixed case is another check's business.
fn check_casing(from: Fragment<'_>, keyword: Fragment<'_>, findings: &mut Findings) {
    let is_lower = |it: &str| !it.contains(|it: char| it.is_ascii_uppercase());
    let is_upper = |it: &str| !it.contains(|it: char| it.is_ascii_lowercase());
    let fits = if is_lower(from.text()) {
        is_lower(keyword.text())
    } else {
        !is_upper(from.text()) || is_upper(keyword.text())
    };
    if !fits {
        let message =
            format!("'{}' and '{}' keywords' casing do not match", keyword.text(), from.text());
        findings.warn("FromAsCasing", message, keyword.span());
    }
}

#[cfg(test)]
mod tests {
    use crate::dockerfile::parser::testing::mistakes_in_file;
    use crate::dockerfile::{Source, parse};

    #[test]
    fn a051_from_names_an_image_and_perhaps_a_stage() {
        let check = |text: &str, platform: Option<&str>, image: &str, name: Option<&str>| {
            let file = parse(Source::new("Dockerfile", text)).expect("the text has no mistake");
            let stage = &file.stages[0];
            let found = stage.from.platform.as_ref().map(|it| it.raw.as_str());
            assert_eq!(found, platform, "{text}");
            assert_eq!(stage.from.image.raw, image, "{text}");
            assert_eq!(stage.name.as_ref().map(|it| it.value.as_str()), name, "{text}");
        };
        check("FROM busybox", None, "busybox", None);
        check("from  busybox:${TAG}  aS  Build-1.x_y", None, "busybox:${TAG}", Some("build-1.x_y"));
        check("FROM --platform=$P \"a\"", Some("$P"), "\"a\"", None);
        check("FROM --platform= a", None, "a", None);
    }

    #[test]
    fn a051_mistakes_are_found() {
        let check =
            |text: &str, expected: &str| assert_eq!(mistakes_in_file(text), [expected], "{text}");
        check("FROM", "FROM requires either one or three arguments @ FROM");
        check("FROM a b", "FROM requires either one or three arguments @ a b");
        check("FROM a WITH b", "FROM requires either one or three arguments @ a WITH b");
        check("FROM a AS b c", "FROM requires either one or three arguments @ a AS b c");
        let reason = "name can't start with a number or contain symbols";
        for name in ["1st", "a+b", "-a", "größe"] {
            let expected = format!("invalid name for build stage: \"{name}\", {reason} @ {name}");
            check(&format!("FROM a AS {name}"), &expected);
        }
        check(
            "FROM --platfrom=x a",
            "unknown flag: --platfrom (did you mean platform?) @ --platfrom=x",
        );
    }
}
