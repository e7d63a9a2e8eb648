//! Flags: the `--name=value` words between a keyword and its operands.
//!
//! Quotes in them are removed and backslashes escape, whatever the Dockerfile's own escape
//! character is. A bare `--` ends them, and so does a word that begins with a quote. Which flags an
//! instruction has is a table of [`Known`] next to its parser.
//!
//! Source: rule A013.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::line::Fragment;
use crate::dockerfile::suggest::nearest;
use crate::dockerfile::{Span, Spanned, Word};

/// A flag as written, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    name: String,
    /// `None` if there is no `=`.
    value: Option<Word>,
    span: Span,
}

/// A flag that an instruction takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Boolean,
    List,
}

impl Known {
    /// `--name=value`, at most once.
    pub(crate) const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }

    /// `--name` or `--name=true` or `--name=false`, at most once.
    pub(crate) const fn boolean(name: &'static str) -> Self {
        Self { name, kind: Kind::Boolean }
    }

    /// `--name=value`, any number of times.
    pub(crate) const fn list(name: &'static str) -> Self {
        Self { name, kind: Kind::List }
    }
}

/// Takes the flags off the front of `operands`, and gives the rest.
pub(crate) fn split(operands: Fragment<'_>) -> (Vec<Flag>, Fragment<'_>) {
    let mut flags = Vec::new();
    let mut rest = operands.trim();
    while rest.text().starts_with("--") {
        let (flag, tail) = split_one(rest);
        rest = tail.trim();
        match flag {
            Some(flag) => flags.push(flag),
            None => break,
        }
    }
    (flags, rest)
}

/// Takes one flag off; `None` for a bare `--`.
fn split_one(text: Fragment<'_>) -> (Option<Flag>, Fragment<'_>) {
    let mut name = String::new();
    let mut value: Option<(usize, String)> = None;
    let mut quote = None;
    let mut end = text.text().len();
    let mut chars = text.text().char_indices();
    while let Some((at, char)) = chars.next() {
        let char = match char {
            char if quote == Some(char) => {
                quote = None;
                continue;
            }
            '\'' | '"' if quote.is_none() => {
                quote = Some(char);
                continue;
            }
            char if quote.is_none() && char.is_whitespace() => {
                end = at;
                break;
            }
            '\\' => match chars.next() {
                Some((_, escaped)) => escaped,
                None => continue,
            },
            char => char,
        };
        match &mut value {
            Some((_, value)) => value.push(char),
            None if char == '=' => value = Some((at + 1, String::new())),
            None => name.push(char),
        }
    }
    let value = value.map(|(start, raw)| {
        let span = text.slice(start.min(end)..end).span();
        Word { raw, span, escape: text.escape() }
    });
    let name = name.split_off(2);
    let is_flag = !name.is_empty() || value.is_some();
    let flag = is_flag.then(|| Flag { name, value, span: text.slice(0..end).span() });
    (flag, text.from(end))
}

/// The flags of an instruction, each known to it and well formed.
#[derive(Debug)]
pub(crate) struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Compares what is given with what is known, and reports what does not fit.
    pub(crate) fn check(given: &[Flag], known: &[Known], findings: &mut Findings) -> Self {
        let mut flags = Self { given: Vec::new() };
        for flag in given {
            match flags.accept(flag, known) {
                Ok(accepted) => flags.given.push(accepted),
                Err(kind) => findings.error(kind, flag.span),
            }
        }
        flags
    }

    fn accept(&self, flag: &Flag, known: &[Known]) -> Result<(&'static str, Word), ParseErrorKind> {
        let Some(it) = known.iter().find(|it| it.name == flag.name) else {
            let names: Vec<&'static str> = known.iter().map(|it| it.name).collect();
            let suggestion = nearest(&flag.name, &names);
            let flag = flag.name.clone();
            return Err(ParseErrorKind::UnknownFlag { flag, suggestion, known: names });
        };
        let flag_name = it.name;
        if it.kind != Kind::List && self.given.iter().any(|(name, _)| *name == flag_name) {
            return Err(ParseErrorKind::DuplicateFlag { flag: flag_name });
        }
        let missing = ParseErrorKind::FlagWithoutValue { flag: flag_name };
        let value = match (&flag.value, it.kind) {
            (None, Kind::Boolean) => Word { raw: "true".to_owned(), span: flag.span, escape: '\\' },
            (None, _) => return Err(missing),
            (Some(value), Kind::Boolean) if value.raw.is_empty() => return Err(missing),
            (Some(value), Kind::Boolean) if parse_bool(&value.raw).is_none() => {
                let value = value.raw.clone();
                return Err(ParseErrorKind::FlagNotBoolean { flag: flag_name, value });
            }
            (Some(value), _) => value.clone(),
        };
        Ok((flag_name, value))
    }

    /// A flag's value, to be expanded. An empty value is as good as none.
    pub(crate) fn word(&self, name: &str) -> Option<Word> {
        let found = self.given.iter().find(|(it, value)| *it == name && !value.raw.is_empty());
        found.map(|(_, value)| value.clone())
    }

    /// A flag's value, never to be expanded. An empty value is as good as none.
    pub(crate) fn text(&self, name: &str) -> Option<Spanned<String>> {
        self.word(name).map(|word| Spanned::new(word.raw, word.span))
    }

    /// Whether a flag is set; `None` if it is not given.
    pub(crate) fn boolean(&self, name: &str) -> Option<Spanned<bool>> {
        let word = self.word(name)?;
        parse_bool(&word.raw).map(|value| Spanned::new(value, word.span))
    }

    /// All values of a list, in order.
    pub(crate) fn list(&self, name: &str) -> Vec<Word> {
        let given = self.given.iter().filter(|(it, _)| *it == name);
        given.map(|(_, value)| value.clone()).collect()
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::line::Lines;

    #[test]
    fn a013_flags_come_before_the_operands() {
        let check = |text: &str, flags: &[(&str, Option<&str>)], rest: &str| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            let (found, operands) = split(line.fragment());
            let found: Vec<(&str, Option<&str>)> = found
                .iter()
                .map(|flag| (flag.name.as_str(), flag.value.as_ref().map(|it| it.raw.as_str())))
                .collect();
            assert_eq!((found.as_slice(), operands.text()), (flags, rest), "{text}");
        };
        check("a b", &[], "a b");
        check("--x a", &[("x", None)], "a");
        check("--x=1 --y=2=3  a", &[("x", Some("1")), ("y", Some("2=3"))], "a");
        check("--x=\"1:2\" a", &[("x", Some("1:2"))], "a");
        check("--x='a b' c", &[("x", Some("a b"))], "c");
        check("--x=1\\2 c", &[("x", Some("12"))], "c");
        check("--x=a\\ b c", &[("x", Some("a b"))], "c");
        check("--x=1 -- --y", &[("x", Some("1"))], "--y");
        check("\"--x=1\" a", &[], "\"--x=1\" a");
        check("--x=", &[("x", Some(""))], "");
        check("--", &[], "");
        check("--x=\"open a", &[("x", Some("open a"))], "");
        check("--x=größe a", &[("x", Some("größe"))], "a");
    }

    #[test]
    fn a013_mistakes_in_flags_are_found() {
        const KNOWN: &[Known] = &[Known::text("chown"), Known::boolean("link"), Known::list("m")];
        let check = |text: &str, errors: &[&str]| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            let mut findings = Findings::default();
            Flags::check(&split(line.fragment()).0, KNOWN, &mut findings);
            let found: Vec<String> = findings
                .finish()
                .err()
                .unwrap_or_default()
                .iter()
                .map(|it| format!("{it} @ {}", &text[it.span.start..it.span.end]))
                .collect();
            assert_eq!(found, errors, "{text}");
        };
        check("--chown=1 --link --m=1 --m=2", &[]);
        check("--link=TRUE --chown=", &[]);
        check("--cown=1 x", &["unknown flag: --cown (did you mean chown?) @ --cown=1"]);
        check("--zebra x", &["unknown flag: --zebra @ --zebra"]);
        check("--chown=1 --chown=2 x", &["duplicate flag specified: --chown @ --chown=2"]);
        check("--chown x", &["missing a value on flag: --chown @ --chown"]);
        check("--link= x", &["missing a value on flag: --link @ --link="]);
        check(
            "--link=maybe x",
            &["expecting boolean value for flag --link, not: maybe @ --link=maybe"],
        );
    }
}
