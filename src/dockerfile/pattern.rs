//! Patterns: the right-hand side of `${name#pattern}` and its relatives.
//!
//! A pattern knows only `*` (any text), `?` (one character) and the escapes `\*`, `\?`, `\\`, `\/`
//! and `\}`; a bracket is an ordinary character (rule A027). Any number of stars is matched without
//! backtracking: what lies between two stars is looked for from left to right, each part once.
//!
//! Source: rule A027, and <https://docs.docker.com/reference/dockerfile/#environment-replacement>.

use crate::dockerfile::expand::ExpandErrorKind;

/// The longest pattern, in characters. Matching takes at most this many steps per character.
const LONGEST: usize = 1024;

/// How much of the text a pattern with stars takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greed {
    /// As little as possible: `#` and `%`.
    Shortest,
    /// As much as possible: `##`, `%%` and `/`.
    Longest,
}

/// A compiled pattern: the parts between the stars. There is always one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Vec<Token>>,
}

/// What one character of the text is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    Literal(char),
}

impl Token {
    fn matches(self, char: char) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(wanted) => wanted == char,
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, ExpandErrorKind> {
        if text.chars().count() > LONGEST {
            return Err(ExpandErrorKind::PatternTooLong { limit: LONGEST });
        }
        let mut part = Vec::new();
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '*' => parts.push(std::mem::take(&mut part)),
                '?' => part.push(Token::Any),
                '\\' => match chars.next() {
                    Some(char @ ('*' | '?' | '\\' | '/' | '}')) => part.push(Token::Literal(char)),
                    other => return Err(invalid_escape(text, other)),
                },
                char => part.push(Token::Literal(char)),
            }
        }
        parts.push(part);
        Ok(Self { parts })
    }

    /// `value` without the prefix that matches.
    pub(crate) fn trim_prefix(&self, value: &str, greed: Greed) -> String {
        let text: Vec<char> = value.chars().collect();
        let end = self.prefix(&text, greed).unwrap_or_default();
        text[end..].iter().collect()
    }

    /// `value` without the suffix that matches: a prefix, if both are read backwards.
    pub(crate) fn trim_suffix(&self, value: &str, greed: Greed) -> String {
        let text: Vec<char> = value.chars().rev().collect();
        let backwards = Self {
            parts: self.parts.iter().rev().map(|it| it.iter().rev().copied().collect()).collect(),
        };
        let end = backwards.prefix(&text, greed).unwrap_or_default();
        text[end..].iter().rev().collect()
    }

    /// `value` with the first match replaced.
    pub(crate) fn replace_first(&self, value: &str, replacement: &str) -> String {
        let text: Vec<char> = value.chars().collect();
        let Some((start, end)) = self.find(&text, 0) else { return value.to_owned() };
        let before: String = text[..start].iter().collect();
        let after: String = text[end..].iter().collect();
        before + replacement + &after
    }

    /// `value` with every match replaced; `None` if that takes more than `limit` bytes.
    ///
    /// The empty pattern matches before every character and at the end.
    pub(crate) fn replace_all(
        &self,
        value: &str,
        replacement: &str,
        limit: usize,
    ) -> Option<String> {
        let text: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut copied = 0;
        let mut from = 0;
        while let Some((start, end)) = self.find(&text, from) {
            result.extend(&text[copied..start]);
            // An empty match right behind another match is part of that one.
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            if result.len() > limit {
                return None;
            }
            copied = end;
            from = end.max(from + 1);
        }
        result.extend(&text[copied..]);
        Some(result)
    }

    /// The end of the prefix of `text` that matches.
    fn prefix(&self, text: &[char], greed: Greed) -> Option<usize> {
        let first = &self.parts[0];
        if matches_at(first, text, 0) { self.end(text, first.len(), greed) } else { None }
    }

    /// The leftmost match at or after `from`, as long as possible.
    ///
    /// If the rest does not follow the first place of the first part, it follows no later place.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let first = &self.parts[0];
        let start = position(first, text, from)?;
        let end = self.end(text, start + first.len(), Greed::Longest)?;
        Some((start, end))
    }

    /// Where a match ends whose first part ends at `at`.
    fn end(&self, text: &[char], at: usize, greed: Greed) -> Option<usize> {
        let Some((last, middle)) = self.parts[1..].split_last() else { return Some(at) };
        let mut at = at;
        for part in middle {
            at = position(part, text, at)? + part.len();
        }
        let start = match greed {
            Greed::Shortest => position(last, text, at)?,
            Greed::Longest => last_position(last, text, at)?,
        };
        Some(start + last.len())
    }
}

fn invalid_escape(pattern: &str, escaped: Option<char>) -> ExpandErrorKind {
    ExpandErrorKind::InvalidPattern {
        pattern: pattern.to_owned(),
        escape: escaped.map_or_else(|| "\\".to_owned(), |char| format!("\\{char}")),
    }
}

fn matches_at(part: &[Token], text: &[char], at: usize) -> bool {
    text.get(at..at + part.len())
        .is_some_and(|piece| part.iter().zip(piece).all(|(token, char)| token.matches(*char)))
}

fn position(part: &[Token], text: &[char], from: usize) -> Option<usize> {
    let last = text.len().checked_sub(part.len())?;
    (from..=last).find(|at| matches_at(part, text, *at))
}

fn last_position(part: &[Token], text: &[char], from: usize) -> Option<usize> {
    let last = text.len().checked_sub(part.len())?;
    (from..=last).rev().find(|at| matches_at(part, text, *at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("the pattern is well formed")
    }

    #[test]
    fn a027_prefixes_and_suffixes_are_cut() {
        let check = |text: &str, value: &str, expected: [&str; 4]| {
            let it = pattern(text);
            let found = [
                it.trim_prefix(value, Greed::Shortest),
                it.trim_prefix(value, Greed::Longest),
                it.trim_suffix(value, Greed::Shortest),
                it.trim_suffix(value, Greed::Longest),
            ];
            assert_eq!(found, expected, "{text} on {value}");
        };
        check("*", "abc", ["abc", "", "abc", ""]);
        check("*/", "/a/b/", ["a/b/", "", "/a/b", ""]);
        check("*.*", "a.b.c", ["b.c", "", "a.b", ""]);
        check("a", "aba", ["ba", "ba", "ab", "ab"]);
        check("?", "ü¡", ["¡", "¡", "ü", "ü"]);
        check("a*b", "aXbXb", ["Xb", "", "", ""]);
        check("b*", "abXb", ["abXb", "abXb", "abX", "a"]);
        check("[a]", "[a]", ["", "", "", ""]);
        check("none", "abc", ["abc", "abc", "abc", "abc"]);
        check("", "abc", ["abc", "abc", "abc", "abc"]);
        check("\\*", "*a*", ["a*", "a*", "*a", "*a"]);
    }

    #[test]
    fn a027_matches_are_replaced() {
        let check = |text: &str, value: &str, first: &str, all: &str| {
            assert_eq!(pattern(text).replace_first(value, "X"), first, "{text} on {value}");
            assert_eq!(pattern(text).replace_all(value, "X", 100).as_deref(), Some(all), "{text}");
        };
        check("o", "foo", "fXo", "fXX");
        check("oo", "foooo", "fXoo", "fXX");
        check("*", "foo", "X", "X");
        check("", "ab", "Xab", "XaXbX");
        check("", "", "X", "X");
        check("b*", "abc", "aX", "aX");
        check("*c", "abcd", "Xd", "Xd");
        check("?", "ab", "Xb", "XX");
        check("a*b*c", "zabbccz", "zXz", "zXz");
        check("a*b", "ba", "ba", "ba");
    }

    #[test]
    fn a_replacement_that_grows_too_large_is_refused() {
        assert_eq!(pattern("").replace_all("aaaa", "0123456789", 30), None);
    }

    #[test]
    fn a028_only_some_characters_can_be_escaped() {
        let check = |text: &str, escape: &str| {
            assert_eq!(
                Pattern::parse(text),
                Err(ExpandErrorKind::InvalidPattern {
                    pattern: text.to_owned(),
                    escape: escape.to_owned()
                })
            );
        };
        check("a\\b", "\\b");
        check("a\\", "\\");
        assert!(Pattern::parse("\\*\\?\\\\\\/\\}").is_ok());
    }

    #[test]
    fn a_pattern_of_stars_takes_linear_time() {
        let stars = "*a".repeat(500) + "b";
        let value = "a".repeat(50_000);
        assert_eq!(pattern(&stars).trim_prefix(&value, Greed::Longest), value);
        assert!(Pattern::parse(&"x".repeat(LONGEST + 1)).is_err());
    }
}
