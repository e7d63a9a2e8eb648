//! Logical lines: what one instruction says, with its continuation lines joined.
//!
//! Joining removes the escape character, the newline, comments and blank lines in between, and
//! inserts nothing (rule A009). A [`Line`] remembers where each piece came from, so that a
//! [`Fragment`] of the joined text still knows its place in the source. Heredoc bodies are not
//! joined; `heredoc` reads them, line by line, from the same [`Lines`].
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#format>; rules A001, A007 to A011.

use std::ops::Range;

use crate::dockerfile::{Span, Spanned, Word};

/// The longest line that is allowed, in bytes, without its newline (rule A001).
pub(crate) const LONGEST_LINE: usize = 65_535;

/// One line of the file.
#[derive(Debug, Clone)]
pub(crate) struct PhysicalLine<'a> {
    /// Without the newline, and without the carriage return before it.
    pub(crate) text: &'a str,
    /// With them.
    pub(crate) full: &'a str,
    /// Where [`text`](Self::text) stands.
    pub(crate) span: Span,
}

/// Reads a text line by line, or instruction by instruction.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    position: usize,
    last_end: usize,
    escape: char,
}

impl<'a> Lines<'a> {
    /// Reads `text` from `position` on.
    pub(crate) fn new(text: &'a str, position: usize, escape: char) -> Self {
        Self { text, position, last_end: position, escape }
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Where the last line that was read ends, without its newline.
    pub(crate) fn end_of_last_line(&self) -> usize {
        self.last_end
    }

    /// The next line of the file. Only a newline ends one (rule A001).
    pub(crate) fn next_physical(&mut self) -> Option<PhysicalLine<'a>> {
        let start = self.position;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let full = rest.find('\n').map_or(rest, |newline| &rest[..=newline]);
        let text = full.strip_suffix('\n').unwrap_or(full);
        let text = text.strip_suffix('\r').unwrap_or(text);
        self.position = start + full.len();
        self.last_end = start + text.len();
        Some(PhysicalLine { text, full, span: Span::new(start..start + text.len()) })
    }

    /// The next instruction's line; comments and blank lines before it are passed over.
    pub(crate) fn next_logical(&mut self) -> Option<Line> {
        let mut comments = Vec::new();
        while let Some(first) = self.next_physical() {
            match comment(first.text) {
                Some("") => comments.clear(),
                Some(text) => comments.push(text.to_owned()),
                None if is_blank(first.text) => comments.clear(),
                None => {
                    let mut line = self.join(&first);
                    if !is_blank(&line.text) {
                        line.comments = comments;
                        return Some(line);
                    }
                }
            }
        }
        None
    }

    /// Joins the lines that continue `first` to it (rules A007 to A011).
    fn join(&mut self, first: &PhysicalLine<'a>) -> Line {
        let indent = first.text.len() - first.text.trim_start().len();
        let mut line = Line::new(first.span.start + indent, self.escape);
        let mut more = line.push(&first.text[indent..], first.span.start + indent);
        while more {
            let Some(next) = self.next_physical() else { break };
            if comment(next.text).is_some() {
                continue;
            }
            if is_blank(next.text) {
                line.empty_continuations.push(next.span);
                continue;
            }
            more = line.push(next.text, next.span.start);
        }
        line
    }
}

/// An instruction's text in one piece.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// From its first character to the end of its last line.
    pub(crate) span: Span,
    /// Comments directly above, without `#`.
    pub(crate) comments: Vec<String>,
    /// Blank lines among its continuation lines (rule A010).
    pub(crate) empty_continuations: Vec<Span>,
    text: String,
    /// Where in the source each piece of `text` begins; ascending, the first at 0.
    pieces: Vec<Piece>,
    escape: char,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    joined: usize,
    source: usize,
}

impl Line {
    fn new(start: usize, escape: char) -> Self {
        Self {
            span: Span::new(start..start),
            comments: Vec::new(),
            empty_continuations: Vec::new(),
            text: String::new(),
            pieces: Vec::new(),
            escape,
        }
    }

    /// Appends a line of the file that begins at `source`; tells whether another one follows.
    fn push(&mut self, text: &str, source: usize) -> bool {
        let continued = without_continuation(text, self.escape);
        self.pieces.push(Piece { joined: self.text.len(), source });
        self.text.push_str(continued.unwrap_or(text));
        self.span.end = source + text.trim_end().len();
        continued.is_some()
    }

    /// All of it.
    pub(crate) fn fragment(&self) -> Fragment<'_> {
        Fragment { line: self, start: 0, end: self.text.len() }
    }

    /// The place in the source of the character at `joined`.
    fn source_offset(&self, joined: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.joined <= joined);
        let piece = self.pieces[after.saturating_sub(1)];
        piece.source + (joined - piece.joined)
    }
}

/// A part of a [`Line`] that knows where it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fragment<'a> {
    line: &'a Line,
    start: usize,
    end: usize,
}

impl<'a> Fragment<'a> {
    /// The text.
    pub(crate) fn text(self) -> &'a str {
        &self.line.text[self.start..self.end]
    }

    /// The escape character in force.
    pub(crate) fn escape(self) -> char {
        self.line.escape
    }

    /// Where it was written. If it goes over several lines, so does the span.
    pub(crate) fn span(self) -> Span {
        let start = self.line.source_offset(self.start);
        if self.start == self.end {
            return Span::new(start..start);
        }
        // The last byte's place, not that of the byte behind it: that one may be a line further.
        Span::new(start..self.line.source_offset(self.end - 1) + 1)
    }

    /// The bytes of the line that it covers.
    pub(crate) fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The part of the same line that covers these bytes.
    pub(crate) fn of_line(self, range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end, ..self }
    }

    /// A part of it, in bytes from its beginning.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        self.of_line(self.start + range.start..self.start + range.end)
    }

    /// The part from `start` to the end.
    pub(crate) fn from(self, start: usize) -> Self {
        self.slice(start..self.end - self.start)
    }

    /// The same without white space around it.
    pub(crate) fn trim(self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.slice(start..start + text.trim().len())
    }

    /// The text up to the first of `separators`, and what follows that run of separators.
    pub(crate) fn split_first(self, is_separator: impl Fn(char) -> bool) -> (Self, Self) {
        let text = self.text();
        let end = text.find(&is_separator).unwrap_or(text.len());
        let rest = text[end..].trim_start_matches(is_separator);
        (self.slice(0..end), self.from(text.len() - rest.len()))
    }

    /// Whether it is empty.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The text as a word that can be expanded.
    pub(crate) fn word(self) -> Word {
        Word { raw: self.text().to_owned(), span: self.span(), escape: self.line.escape }
    }

    /// The text as it stands.
    pub(crate) fn spanned(self) -> Spanned<String> {
        Spanned::new(self.text().to_owned(), self.span())
    }
}

/// The text of a comment line, without `#` and blanks around it.
pub(crate) fn comment(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('#').map(str::trim)
}

fn is_blank(line: &str) -> bool {
    line.trim_start().is_empty()
}

/// The line without its continuation character, if it has one: a single escape character, then
/// at most blanks and tabs (rule A008).
fn without_continuation(line: &str, escape: char) -> Option<&str> {
    let rest = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    if rest.ends_with(escape) { None } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<String> {
        let mut lines = Lines::new(text, 0, '\\');
        std::iter::from_fn(|| lines.next_logical()).map(|line| line.text).collect()
    }

    #[test]
    fn a007_to_a011_lines_are_joined() {
        let check = |text: &str, expected: &[&str]| assert_eq!(logical(text), expected, "{text:?}");
        check("A\nB\n", &["A", "B"]);
        check("A\r\nB", &["A", "B"]);
        check("  A b \\\n  c", &["A b   c"]);
        check("A b\\\nc", &["A bc"]);
        check("A b \\ \t \nc", &["A b c"]);
        check("A b \\\n# dropped \\\n  # too\nc\nD", &["A b c", "D"]);
        check("A b \\\n\n  \nc", &["A b c"]);
        check("A b\\\\\nC", &["A b\\\\", "C"]);
        check("A b \\", &["A b "]);
        check("A b \\\n\\\nc", &["A b c"]);
        check("# only \\\nA", &["A"]);
        check("\\\nA", &["A"]);
        check("\\\n\n", &[]);
        check("A # no comment", &["A # no comment"]);
    }

    #[test]
    fn a010_blank_continuation_lines_are_remembered() {
        let line = Lines::new("A \\\n\n \nb", 0, '\\').next_logical().expect("a line");
        assert_eq!(line.empty_continuations, [Span::new(4..4), Span::new(5..6)]);
    }

    #[test]
    fn fragments_know_their_place_in_the_source() {
        let text = "  RUN one \\\n# comment\n  two \\\n three\n";
        let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
        assert_eq!(
            &text[line.span.start..line.span.end],
            "RUN one \\\n# comment\n  two \\\n three"
        );
        for word in ["RUN", "one", "two", "three"] {
            let start = line.text.find(word).expect("the word is in the line");
            let span = line.fragment().slice(start..start + word.len()).span();
            assert_eq!(&text[span.start..span.end], word);
        }
    }

    #[test]
    fn a164_comments_directly_above_are_kept() {
        let check = |text: &str, expected: &[&str]| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            assert_eq!(line.comments, expected, "{text:?}");
        };
        check("# a\n#b\nRUN x", &["a", "b"]);
        check("# a\n\n# b\nRUN x", &["b"]);
        check("# a\n#\nRUN x", &[]);
    }
}
