//! A Dockerfile's text, and ranges in it.

use std::{ops::Range, sync::Arc};

/// The text of a Dockerfile and the name to show for it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Where the newlines are.
    newlines: Arc<[usize]>,
    /// What was no UTF-8: where its substitutes are, and the first byte that each stands for.
    undecoded: Arc<[(usize, u8)]>,
}

impl Source {
    /// A text that errors will call `name`.
    pub fn new(name: &str, text: &str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { name: name.into(), text: text.into(), newlines, undecoded: Arc::default() }
    }

    /// The text that these bytes are. What is no UTF-8 has a U+FFFD in its place, and is a mistake
    /// wherever it matters: in comments it does not.
    pub fn decode(name: &str, bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut undecoded = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if let Some(first) = chunk.invalid().first() {
                undecoded.push((text.len(), *first));
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Self { undecoded: undecoded.into(), ..Self::new(name, &text) }
    }

    /// The first thing within `span` that was no UTF-8: its substitute, and the byte.
    pub(crate) fn undecoded(&self, span: Span) -> Option<(Span, u8)> {
        let first = self.undecoded.partition_point(|(at, _)| *at < span.start);
        let (at, byte) = *self.undecoded.get(first).filter(|(at, _)| *at < span.end)?;
        Some((Span::new(at..at + char::REPLACEMENT_CHARACTER.len_utf8()), byte))
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The 1-based number of the line that holds the byte at `offset`.
    pub fn line(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }

    /// The 1-based line and column, in characters, of the byte at `offset`.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (self.line(offset), before[line_start..].chars().count() + 1)
    }

    /// The part of `span` on its first line, without blanks at the end.
    pub fn first_line(&self, span: Span) -> Span {
        let line = self.slice(span).lines().next().unwrap_or_default();
        Span::new(span.start..span.start + line.trim_end().len())
    }

    /// Where an error about a word of an instruction is: at the word, unless it stands outside, or
    /// on a later line, as BuildKit names the first one (rule A161).
    pub fn place(&self, instruction: Span, word: Span) -> Span {
        let is_inside = word.start >= instruction.start && word.end <= instruction.end;
        let before = Span { start: instruction.start, end: word.start };
        if is_inside && !self.slice(before).contains('\n') { word } else { instruction }
    }

    /// The text of `span`; empty where the span lies outside.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// A range of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The span of `range`.
    pub fn new(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value that was written at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source::new("Dockerfile", "a\n\nbc\n");
        let lines: Vec<usize> = (0..=7).map(|offset| source.line(offset)).collect();
        assert_eq!(lines, [1, 1, 2, 3, 3, 3, 4, 4]);
    }
}
