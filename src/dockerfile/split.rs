//! Splitting: an instruction's operands into words.
//!
//! There are three ways, and each instruction has its own (rule A018): at white space with no
//! regard for quotes, at white space outside quotes, or as a JSON array. Quotes stay in the words;
//! expansion removes them.

use serde_json::value::RawValue;

use crate::dockerfile::line::Fragment;
use crate::dockerfile::{Span, Spanned};

/// The separators of words. A line cannot contain a newline.
pub(crate) fn is_blank(char: char) -> bool {
    matches!(char, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits at every run of blanks; quotes mean nothing.
pub(crate) fn at_blanks(operands: Fragment<'_>) -> Vec<Fragment<'_>> {
    let mut words = Vec::new();
    let mut rest = operands;
    while !rest.is_empty() {
        let (word, tail) = rest.split_first(is_blank);
        if !word.is_empty() {
            words.push(word);
        }
        rest = tail;
    }
    words
}

/// Splits at white space that is neither quoted nor escaped. Quotes and escapes stay.
///
/// A quote that is never closed makes one word of all that follows; expansion will complain.
pub(crate) fn outside_quotes(operands: Fragment<'_>) -> Vec<Fragment<'_>> {
    let escape = operands.escape();
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = operands.text().char_indices();
    let mut end = operands.text().len();
    while let Some((at, char)) = chars.next() {
        if start.is_none() && char.is_whitespace() {
            continue;
        }
        let word = *start.get_or_insert(at);
        if char == escape && quote != Some('\'') {
            if chars.next().is_none() {
                // An escape character at the very end escapes nothing, and is dropped.
                end = at;
            }
        } else if quote == Some(char) {
            quote = None;
        } else if quote.is_none() && (char == '\'' || char == '"') {
            quote = Some(char);
        } else if quote.is_none() && char.is_whitespace() {
            words.push(operands.slice(word..at));
            start = None;
        }
    }
    if let Some(word) = start.filter(|word| *word < end) {
        words.push(operands.slice(word..end));
    }
    words
}

/// The JSON form: an array of strings (rule A014).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// It is one.
    Strings(Vec<Spanned<String>>),
    /// An array, but this element of it is no string.
    NotAString(Span),
    /// Not JSON, or no array: the other form applies.
    No,
}

/// Reads operands as a JSON array.
pub(crate) fn json(operands: Fragment<'_>) -> Json {
    let text = operands.text();
    if !text.starts_with('[') {
        return Json::No;
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Json::No };
    let mut strings = Vec::new();
    let mut stranger = None;
    for element in elements {
        let raw = element.get();
        // An element borrows from the text, so that the distance is its offset.
        let start = raw.as_ptr().addr() - text.as_ptr().addr();
        let span = operands.slice(start..start + raw.len()).span();
        if !raw.starts_with('"') {
            stranger = stranger.or(Some(span));
        } else if let Ok(value) = serde_json::from_str(raw) {
            strings.push(Spanned::new(value, span));
        } else {
            return Json::No;
        }
    }
    stranger.map_or(Json::Strings(strings), Json::NotAString)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::line::Lines;

    fn words(text: &str, split: fn(Fragment<'_>) -> Vec<Fragment<'_>>) -> Vec<String> {
        let Some(line) = Lines::new(text, 0, '\\').next_logical() else { return Vec::new() };
        split(line.fragment()).iter().map(|word| word.text().to_owned()).collect()
    }

    #[test]
    fn a018_some_instructions_split_at_blanks() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text, at_blanks), expected);
        check("a  b\tc", &["a", "b", "c"]);
        check("\"a b\" c", &["\"a", "b\"", "c"]);
        check("a\u{a0}b", &["a\u{a0}b"]);
        check("a b  ", &["a", "b"]);
    }

    #[test]
    fn a018_others_respect_quotes() {
        let check =
            |text: &str, expected: &[&str]| assert_eq!(words(text, outside_quotes), expected);
        check("a=1  b=2", &["a=1", "b=2"]);
        check("a=\"x y\" b='p q'r", &["a=\"x y\"", "b='p q'r"]);
        check("a=x\\ y b", &["a=x\\ y", "b"]);
        check("a=\\\" b", &["a=\\\"", "b"]);
        check("a=\"\\\" x\" b", &["a=\"\\\" x\"", "b"]);
        check("a='\\' b", &["a='\\'", "b"]);
        check("a=\"open b", &["a=\"open b"]);
        check("'' \"\"", &["''", "\"\""]);
        check("a=${X:-one two}", &["a=${X:-one", "two}"]);
        check("a=b\\\\", &["a=b\\\\"]);
        check("größe=1\u{a0}b=ü", &["größe=1", "b=ü"]);
    }

    #[test]
    fn a014_json_is_an_array_of_strings() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            let found = match json(line.fragment()) {
                Json::Strings(strings) => {
                    Some(strings.into_iter().map(|it| it.value).collect::<Vec<_>>())
                }
                _ => None,
            };
            let expected = expected.map(|it| it.iter().map(ToString::to_string).collect());
            assert_eq!(found, expected, "{text}");
        };
        check(r#"["a", "b c"]"#, Some(&["a", "b c"]));
        check(r#"[ "\u00e9" , "\ud83d\udea3", "\t\"\\" ]"#, Some(&["é", "🚣", "\t\"\\"]));
        check("[]", Some(&[]));
        check("['a']", None);
        check(r#"["a""#, None);
        check(r#"["a" b]"#, None);
        check(r#"["a"] && b"#, None);
        check(r#"["\q"]"#, None);
        check("plain", None);
    }

    #[test]
    fn a014_other_elements_are_found_where_they_stand() {
        let check = |text: &str, start, end| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            assert_eq!(json(line.fragment()), Json::NotAString(Span::new(start..end)), "{text}");
        };
        check(r#"["sleep", 10]"#, 10, 12);
        check(r#"["a", true, 1]"#, 6, 10);
        check(r#"[["a"]]"#, 1, 6);
    }
}
