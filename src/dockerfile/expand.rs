//! Expansion: from the text of a word to its value.
//!
//! This is the part of a shell's lexer that Dockerfiles have: quotes, escapes, `$name`, and
//! `${name…}` with its operators. Commands, arithmetic and tilde are not part of the language.
//! One pass from left to right, each character once; an operand of `${…}` is expanded even where
//! it is not used, so that a mistake in it always shows.
//!
//! Nothing here knows where variables come from: that is the caller's `lookup`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#environment-replacement>; rules A023 to
//! A033.

use std::iter::Peekable;
use std::str::Chars;

use crate::dockerfile::pattern::{Greed, Pattern};

/// How deep `${…}` may nest. A text that nests deeper was not written by a person.
const DEEPEST: usize = 100;

/// The longest value, in bytes. `ENV A=$A$A`, thirty times, would otherwise fill the memory.
const LONGEST: usize = 16 << 20;

/// The most comparisons that a pattern may need: so many characters times bytes of the value.
const MOST_COMPARISONS: usize = 16 << 20;

/// The value of a variable; `None` if it is unset.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is special in a text besides `$`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    escape: char,
    quotes: Quotes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Removed,
    Ordinary,
}

impl Dialect {
    /// An instruction's word: quotes are removed, the escape character is the Dockerfile's own.
    pub(crate) fn word(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed }
    }

    /// The body of a heredoc: quotes are ordinary, the backslash escapes (rules A005, A033).
    pub(crate) fn heredoc_body() -> Self {
        Self { escape: '\\', quotes: Quotes::Ordinary }
    }
}

/// What a text expands to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// All of it.
    pub(crate) text: String,
    /// The same, split at white space that was neither quoted nor escaped (rule A032).
    pub(crate) words: Vec<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandErrorKind {
    /// A quote is never closed.
    #[error("unexpected end of statement while looking for matching {quote}")]
    UnclosedQuote {
        /// `single-quote` or `double-quote`.
        quote: &'static str,
    },
    /// `${name:-word` without the brace.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name` and nothing behind it.
    #[error("syntax error: missing '}}' in substitution")]
    UnfinishedName,
    /// `${name/pattern` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}` or another that has no name.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// An operator that does not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    UnsupportedModifier {
        /// The operator as written.
        modifier: String,
    },
    /// `${name:?message}`, and there is no such variable.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The Dockerfile's message, or a standard one.
        message: String,
    },
    /// A backslash before a character that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '{escape}'")]
    InvalidPattern {
        /// The whole pattern.
        pattern: String,
        /// The backslash and what follows it.
        escape: String,
    },
    /// A pattern that would take too long to match.
    #[error("pattern in substitution is longer than {limit} characters")]
    PatternTooLong {
        /// The most that is allowed.
        limit: usize,
    },
    /// Too many `${` within each other.
    #[error("substitutions are nested more than {limit} levels deep")]
    TooDeep {
        /// The most that is allowed.
        limit: usize,
    },
    /// The value is too large.
    #[error("value is larger than {limit} bytes")]
    TooLong {
        /// The most that is allowed.
        limit: usize,
    },
}

impl ExpandErrorKind {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnclosedQuote { .. } => {
                "close the quote, or put the escape character before it if it is meant literally"
            }
            Self::MissingBrace | Self::UnfinishedName => {
                "a '}' is missing; inside ENV, LABEL and ARG, quote a substitution with blanks"
            }
            Self::MissingSlash => "write ${name/pattern/replacement}",
            Self::BadSubstitution => "write ${name}; for a literal '$', put a backslash before it",
            Self::UnsupportedModifier { .. } => {
                "the operators are :- - :+ + :? ? # ## % %% / and //"
            }
            Self::Required { name, .. } => {
                return Some(format!("declare {name} with ARG and pass --build-arg {name}=..."));
            }
            Self::InvalidPattern { .. } => "a backslash may stand before * ? \\ / and } only",
            Self::TooDeep { .. } => "set a variable with ENV or ARG in between",
            Self::TooLong { .. } => "put the value into a file, and COPY it",
            Self::PatternTooLong { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Expands `text`.
pub(crate) fn expand(
    text: &str,
    dialect: Dialect,
    lookup: Lookup<'_>,
) -> Result<Expanded, ExpandErrorKind> {
    let mut lexer = Lexer { rest: text.chars().peekable(), dialect, lookup, depth: 0 };
    let output = lexer.text_until(None, Escapes::Removed)?;
    Ok(output.finish())
}

/// Whether an escape character disappears once it has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Removed,
    /// In patterns and replacements, which have escapes of their own.
    Kept,
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    dialect: Dialect,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Lexer<'_> {
    /// Expands up to `stop`, which is consumed; without one, to the end.
    fn text_until(
        &mut self,
        stop: Option<char>,
        escapes: Escapes,
    ) -> Result<Output, ExpandErrorKind> {
        let quotes = self.dialect.quotes == Quotes::Removed;
        let mut output = Output::default();
        while let Some(char) = self.rest.next() {
            match char {
                char if Some(char) == stop => return Ok(output),
                '\'' if quotes => output.quoted(&self.single_quoted()?)?,
                '"' if quotes => output.quoted(&self.double_quoted(escapes)?)?,
                '$' => output.unquoted(&self.variable()?)?,
                char if char == self.dialect.escape => {
                    if escapes == Escapes::Kept {
                        output.quoted(char.encode_utf8(&mut [0; 4]))?;
                    }
                    if let Some(next) = self.rest.next() {
                        output.quoted(next.encode_utf8(&mut [0; 4]))?;
                    }
                }
                char => output.unquoted(char.encode_utf8(&mut [0; 4]))?,
            }
        }
        if stop.is_some() { Err(ExpandErrorKind::MissingBrace) } else { Ok(output) }
    }

    /// The text of a `'…'` whose first quote has been read: nothing is special in it (rule A030).
    fn single_quoted(&mut self) -> Result<String, ExpandErrorKind> {
        let mut text = String::new();
        for char in self.rest.by_ref() {
            if char == '\'' {
                return Ok(text);
            }
            text.push(char);
        }
        Err(ExpandErrorKind::UnclosedQuote { quote: "single-quote" })
    }

    /// The text of a `"…"` whose first quote has been read (rule A030).
    fn double_quoted(&mut self, escapes: Escapes) -> Result<String, ExpandErrorKind> {
        let escape = self.dialect.escape;
        let mut text = String::new();
        while let Some(char) = self.rest.next() {
            match char {
                '"' => return Ok(text),
                '$' => append(&mut text, &self.variable()?)?,
                char if char == escape => {
                    if escapes == Escapes::Kept {
                        text.push(char);
                    }
                    let special = |next: &char| *next == '"' || *next == '$' || *next == escape;
                    text.push(self.rest.next_if(special).unwrap_or(char));
                }
                char => text.push(char),
            }
        }
        Err(ExpandErrorKind::UnclosedQuote { quote: "double-quote" })
    }

    /// The value of a `$…` whose dollar has been read.
    fn variable(&mut self) -> Result<String, ExpandErrorKind> {
        if self.rest.next_if_eq(&'{').is_some() {
            if self.depth == DEEPEST {
                return Err(ExpandErrorKind::TooDeep { limit: DEEPEST });
            }
            self.depth += 1;
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        // A dollar that no name follows is a dollar (rule A024).
        Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() })
    }

    /// The value of a `${…}` whose first brace has been read.
    fn braced(&mut self) -> Result<String, ExpandErrorKind> {
        match self.rest.peek() {
            None => return Err(ExpandErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            None => Err(ExpandErrorKind::UnfinishedName),
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => self.conditional(&name, Emptiness::IsUnset),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            Some(operator) => self.apply(&name, Emptiness::IsAValue, operator),
        }
    }

    /// The rest of `${name:…}`.
    fn conditional(&mut self, name: &str, empty: Emptiness) -> Result<String, ExpandErrorKind> {
        match self.rest.next() {
            None => Err(ExpandErrorKind::MissingBrace),
            Some(operator @ ('#' | '%')) => {
                Err(ExpandErrorKind::UnsupportedModifier { modifier: format!(":{operator}") })
            }
            Some(operator) => self.apply(name, empty, operator),
        }
    }

    /// `-`, `+` or `?`, with or without the colon (rule A025).
    fn apply(
        &mut self,
        name: &str,
        empty: Emptiness,
        operator: char,
    ) -> Result<String, ExpandErrorKind> {
        if !matches!(operator, '-' | '+' | '?') && empty == Emptiness::IsAValue {
            return Err(ExpandErrorKind::UnsupportedModifier { modifier: operator.to_string() });
        }
        let word = self.operand('}', Escapes::Removed, ExpandErrorKind::MissingBrace)?;
        let value = self.value(name);
        let usable = value.clone().filter(|it| empty == Emptiness::IsAValue || !it.is_empty());
        match operator {
            '-' => Ok(usable.unwrap_or(word)),
            '+' => Ok(if usable.is_some() { word } else { String::new() }),
            '?' => usable.ok_or_else(|| {
                let state = if value.is_some() { "empty" } else { "unset" };
                let standard = || format!("is not allowed to be {state}");
                let message = if word.is_empty() { standard() } else { word };
                ExpandErrorKind::Required { name: name.to_owned(), message }
            }),
            other => Err(ExpandErrorKind::UnsupportedModifier { modifier: format!(":{other}") }),
        }
    }

    /// `#`, `##`, `%` and `%%` (rule A027).
    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, ExpandErrorKind> {
        let word = self.operand('}', Escapes::Kept, ExpandErrorKind::MissingBrace)?;
        let (pattern, greed) = match word.strip_prefix(operator) {
            Some(pattern) => (pattern, Greed::Longest),
            None => (word.as_str(), Greed::Shortest),
        };
        let value = self.value(name).unwrap_or_default();
        let pattern = pattern_for(&value, pattern)?;
        Ok(match operator {
            '#' => pattern.trim_prefix(&value, greed),
            _ => pattern.trim_suffix(&value, greed),
        })
    }

    /// `/` and `//` (rules A027, A028).
    fn replaced(&mut self, name: &str) -> Result<String, ExpandErrorKind> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.operand('/', Escapes::Kept, ExpandErrorKind::MissingSlash)?;
        let replacement = self.operand('}', Escapes::Kept, ExpandErrorKind::MissingBrace)?;
        let value = self.value(name).unwrap_or_default();
        let pattern = pattern_for(&value, &pattern)?;
        if !all {
            return Ok(pattern.replace_first(&value, &replacement));
        }
        pattern
            .replace_all(&value, &replacement, LONGEST)
            .ok_or(ExpandErrorKind::TooLong { limit: LONGEST })
    }

    /// An operand, expanded, up to `stop`. If the text ends before that, the error is `missing`,
    /// whatever else may be wrong with it.
    fn operand(
        &mut self,
        stop: char,
        escapes: Escapes,
        missing: ExpandErrorKind,
    ) -> Result<String, ExpandErrorKind> {
        match self.text_until(Some(stop), escapes) {
            Ok(output) => Ok(output.text),
            Err(_) if self.rest.peek().is_none() => Err(missing),
            Err(error) => Err(error),
        }
    }

    /// A name, a number, or a special parameter; empty if there is none (rule A024).
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                let in_name = |it: &char| it.is_alphanumeric() || *it == '_';
                while let Some(char) = self.rest.next_if(in_name) {
                    name.push(char);
                }
            }
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        if name.is_empty() { None } else { (self.lookup)(name) }
    }
}

/// A pattern that can be compared with `value` in good time.
fn pattern_for(value: &str, pattern: &str) -> Result<Pattern, ExpandErrorKind> {
    let limit = MOST_COMPARISONS / value.len().max(1);
    if pattern.chars().count() > limit {
        return Err(ExpandErrorKind::PatternTooLong { limit });
    }
    Pattern::parse(pattern)
}

/// What the colon of `:-`, `:+` and `:?` says about an empty value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emptiness {
    IsUnset,
    IsAValue,
}

/// The value so far, as one text and as words.
#[derive(Debug, Default)]
struct Output {
    text: String,
    word: String,
    words: Vec<String>,
}

impl Output {
    /// Adds text whose blanks do not split.
    fn quoted(&mut self, text: &str) -> Result<(), ExpandErrorKind> {
        self.word.push_str(text);
        append(&mut self.text, text)
    }

    /// Adds text whose blanks split.
    fn unquoted(&mut self, text: &str) -> Result<(), ExpandErrorKind> {
        for (at, part) in text.split(char::is_whitespace).enumerate() {
            if at > 0 && !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
            self.word.push_str(part);
        }
        append(&mut self.text, text)
    }

    fn finish(mut self) -> Expanded {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        Expanded { text: self.text, words: self.words }
    }
}

/// Adds `more` to a value unless it becomes too large.
fn append(value: &mut String, more: &str) -> Result<(), ExpandErrorKind> {
    if value.len() + more.len() > LONGEST {
        return Err(ExpandErrorKind::TooLong { limit: LONGEST });
    }
    value.push_str(more);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables that the tables in `testdata/words` refer to.
    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "A" => "alpha",
            "E" => "",
            "S" => "two words",
            "T" => "foobarfoo",
            "P" => "/usr/lib/libz.so.1.tar.gz",
            "V" => "1.2.3",
            "STAR" => "a*b*c",
            "MARK" => "a?b?c",
            "CLASS" => "[x]y",
            "DOLLAR" => "$A",
            "QUOTE" => "\"q\"",
            "BACK" => "a\\b",
            "PATTERN" => "foo*",
            "LINES" => "one\ntwo",
            "größe" => "groß",
            "a_1" => "under",
            "7" => "seven",
            _ => return None,
        };
        Some(value.to_owned())
    }

    /// Runs one table: `input | expected`, where `! text` expects an error that contains the text.
    fn check_table(table: &str, expand: impl Fn(&str) -> Result<String, ExpandErrorKind>) -> usize {
        let mut rows = 0;
        for (number, line) in table.lines().enumerate() {
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            let (input, expected) = line.split_once(" | ").expect("a row has two columns");
            let visible = |it: &str| it.trim_end().replace('␤', "\n").replace('␉', "\t");
            let found = match expand(&visible(input)) {
                Ok(text) => text,
                Err(error) => format!("! {error}"),
            };
            assert_eq!(found, visible(expected), "line {}: {input}", number + 1);
            rows += 1;
        }
        rows
    }

    fn word(text: &str) -> Result<String, ExpandErrorKind> {
        expand(text, Dialect::word('\\'), &lookup).map(|it| it.text)
    }

    #[test]
    fn a023_to_a031_words_expand_as_the_table_says() {
        let rows = check_table(include_str!("../../testdata/words/words.txt"), word);
        assert!(rows >= 150, "{rows} rows");
    }

    #[test]
    fn a005_a_backtick_can_be_the_escape_character() {
        check_table(include_str!("../../testdata/words/backtick.txt"), |text| {
            expand(text, Dialect::word('`'), &lookup).map(|it| it.text)
        });
    }

    #[test]
    fn a032_expose_splits_after_expansion() {
        check_table(include_str!("../../testdata/words/split.txt"), |text| {
            expand(text, Dialect::word('\\'), &lookup).map(|it| format!("{:?}", it.words))
        });
    }

    #[test]
    fn a033_heredoc_bodies_keep_their_quotes() {
        check_table(include_str!("../../testdata/words/body.txt"), |text| {
            expand(text, Dialect::heredoc_body(), &lookup).map(|it| it.text)
        });
    }

    #[test]
    fn hostile_text_is_refused_in_linear_time() {
        assert_eq!(word(&"${a:-".repeat(10_000)), Err(ExpandErrorKind::TooDeep { limit: DEEPEST }));
        let closed = "${a:-".repeat(100) + "x" + &"}".repeat(100);
        assert_eq!(word(&closed).as_deref(), Ok("x"));
        for text in ["$", "${A}", "'", "\"", "\\", "${A//a/b}"] {
            let _ = word(&text.repeat(65_535 / text.len()));
        }
    }

    #[test]
    fn a_pattern_that_would_take_long_is_refused() {
        let large = |_: &str| Some("a".repeat(LONGEST / 2));
        let expand = |text: &str| expand(text, Dialect::word('\\'), &large).map(|it| it.text.len());
        assert_eq!(expand("${A##*aa}"), Err(ExpandErrorKind::PatternTooLong { limit: 2 }));
        assert_eq!(expand("${A##*}"), Ok(0));
    }

    #[test]
    fn a_value_has_a_largest_size() {
        let large = |_: &str| Some("x".repeat(LONGEST / 2));
        let expand = |text: &str| expand(text, Dialect::word('\\'), &large).map(|it| it.text.len());
        assert_eq!(expand("\"$A$A\""), Ok(LONGEST));
        assert_eq!(expand("\"$A$A\"."), Err(ExpandErrorKind::TooLong { limit: LONGEST }));
        assert_eq!(expand("\"$A$A.$A\""), Err(ExpandErrorKind::TooLong { limit: LONGEST }));
    }
}
