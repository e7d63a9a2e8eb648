//! Directives: `# key=value` lines at the very top of a Dockerfile.
//!
//! There are three: `escape`, `syntax` and `check`. The first line that is none of them, be it blank
//! or a comment, ends them for good. `syntax` names the program that BuildKit would run to read the
//! file; here it is accepted when it asks for the Dockerfile language, and changes nothing.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#parser-directives>; rules A003 to A006.

use crate::dockerfile::check::Checks;
use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::line::{Lines, PhysicalLine};
use crate::dockerfile::{Source, Span};

/// The images of BuildKit's Dockerfile frontend.
const FRONTENDS: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// What the directives say, and where the instructions begin.
#[derive(Debug)]
pub(crate) struct Directives {
    /// The escape character.
    pub(crate) escape: char,
    /// What `# check=` says.
    pub(crate) checks: Checks,
    /// The offset of the first line that is not a directive.
    pub(crate) end: usize,
}

/// Reads the directives of a file. Where `checks` are given, its own do not count.
pub(crate) fn read(
    source: &Source,
    checks: Option<&Checks>,
    findings: &mut Findings,
) -> Directives {
    let text = source.text();
    // A byte order mark is dropped (rule A001).
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let given = checks.cloned().unwrap_or_default();
    let mut directives = Directives { escape: '\\', checks: given, end: start };
    let mut lines = Lines::new(text, start, '\\');
    // A `#!` line hides a following `escape`, but not the other two (rule A006).
    let shebang = text[start..].starts_with("#!");
    if shebang {
        lines.next_physical();
        directives.end = lines.position();
    }
    let mut seen = Vec::new();
    while let Some(directive) = lines.next_physical().and_then(|line| directive(&line)) {
        findings.enter(directive.line);
        directives.end = lines.position();
        if seen.contains(&directive.name) {
            let kind = ParseErrorKind::DuplicateDirective { name: directive.name };
            findings.error(kind, directive.line);
            continue;
        }
        seen.push(directive.name);
        if directive.name == "check" && checks.is_some() {
            continue;
        }
        if let Err(kind) = directives.apply(&directive, shebang) {
            findings.error(kind, directive.value_span);
        }
    }
    directives
}

impl Directives {
    fn apply(&mut self, directive: &Directive<'_>, shebang: bool) -> Result<(), ParseErrorKind> {
        match (directive.name, directive.value) {
            ("escape", _) if shebang => {}
            ("escape", "\\") => self.escape = '\\',
            ("escape", "`") => self.escape = '`',
            ("escape", token) => {
                return Err(ParseErrorKind::InvalidEscape { token: token.to_owned() });
            }
            ("check", value) => self.checks = Checks::parse(value)?,
            (_, value) => check_frontend(value)?,
        }
        Ok(())
    }
}

struct Directive<'a> {
    name: &'static str,
    value: &'a str,
    value_span: Span,
    line: Span,
}

/// Reads a line as a directive, if it is one.
fn directive<'a>(line: &PhysicalLine<'a>) -> Option<Directive<'a>> {
    let (key, value) = line.text.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = ["escape", "syntax", "check"]
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(key.trim()))?;
    let value = value.trim();
    let start = line.span.start + line.text.find('=')? + 1;
    let start = start + line.text[start - line.span.start..].find(value)?;
    let value_span = Span::new(start..start + value.len());
    (!value.is_empty()).then_some(Directive { name, value, value_span, line: line.span })
}

/// Whether a frontend is one that is built in here (rule A006): what `# syntax=` and
/// `BUILDKIT_SYNTAX` say.
///
/// # Errors
///
/// [`ParseErrorKind::UnsupportedFrontend`] if it is another.
pub fn check_frontend(value: &str) -> Result<(), ParseErrorKind> {
    // What follows a blank are arguments for the frontend.
    let frontend = value.split(' ').next().unwrap_or_default();
    let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
    let repository = name.split([':', '@']).next().unwrap_or_default();
    if FRONTENDS.contains(&repository) {
        return Ok(());
    }
    Err(ParseErrorKind::UnsupportedFrontend { frontend: frontend.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, escape: char, rest: &str, errors: &[&str]) {
        let mut findings = Findings::default();
        let found = read(&Source::new("Dockerfile", text), None, &mut findings);
        let messages: Vec<String> = findings
            .finish()
            .err()
            .unwrap_or_default()
            .iter()
            .map(|error| format!("{error} @ {}", &text[error.span.start..error.span.end]))
            .collect();
        assert_eq!((found.escape, &text[found.end..]), (escape, rest), "{text:?}");
        assert_eq!(messages, errors, "{text:?}");
    }

    #[test]
    fn a003_directives_stand_at_the_top() {
        check("# escape=`\nFROM x", '`', "FROM x", &[]);
        check("#   EsCaPe  =  `  \nFROM x", '`', "FROM x", &[]);
        check("\u{feff}# escape=`\r\nFROM x", '`', "FROM x", &[]);
        check("\n# escape=`\n", '\\', "\n# escape=`\n", &[]);
        check("# comment\n# escape=`\n", '\\', "# comment\n# escape=`\n", &[]);
        check("# colour=green\n# escape=`\n", '\\', "# colour=green\n# escape=`\n", &[]);
        check("# escape=\nFROM x", '\\', "# escape=\nFROM x", &[]);
        check("# syntax=docker/dockerfile:1\n# escape=`\nA", '`', "A", &[]);
        check("# check=error=true\n# escape=`\nA", '`', "A", &[]);
    }

    #[test]
    fn a004_a005_mistakes_in_directives_are_found() {
        check(
            "# escape=\\\n# escape=`\nA",
            '\\',
            "A",
            &["only one escape parser directive can be used @ # escape=`"],
        );
        check("# escape=x\nA", '\\', "A", &["invalid escape token 'x' does not match ` or \\ @ x"]);
        check("# check=a\nA", '\\', "A", &["invalid check option \"a\" @ a"]);
    }

    #[test]
    fn a006_syntax_may_ask_for_dockerfiles_only() {
        for known in [
            "docker/dockerfile",
            "docker/dockerfile:1.7-labs",
            "docker.io/docker/dockerfile:1@sha256:00",
            "docker/dockerfile-upstream:master extra",
        ] {
            check(&format!("# syntax={known}\nA"), '\\', "A", &[]);
        }
        check(
            "# syntax=example.org/other:1\nA",
            '\\',
            "A",
            &[concat!(
                "unsupported frontend \"example.org/other:1\" in the syntax directive",
                " @ example.org/other:1"
            )],
        );
    }

    #[test]
    fn a006_a_shebang_hides_escape() {
        check("#!/usr/bin/env builder\n# escape=`\nA", '\\', "A", &[]);
    }
}
