//! Heredocs: `<<NAME` on a line, and the lines up to one that says `NAME`.
//!
//! Only `RUN`, `COPY`, `ADD`, and `ONBUILD` of these have them. A heredoc is a whole shell word, so
//! neither `a<<b` nor `"<<b"` is one. Its name is read as a shell reads it, and with the backslash as
//! escape character whatever the Dockerfile's own is (rule A005). The body is taken as it stands.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#here-documents>; rules A015 to A017.

use std::ops::Range;

use crate::dockerfile::line::{Fragment, Lines};
use crate::dockerfile::{Heredoc, Span};

/// A `<<NAME` on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeredocWord {
    /// The bytes of the logical line that it covers.
    pub(crate) range: Range<usize>,
    /// The name without its quotes.
    pub(crate) name: String,
    quoted: bool,
    strip_tabs: bool,
    file_descriptor: Option<u32>,
}

/// Finds the heredocs on a line, in order.
///
/// A line with an unclosed quote has none: the shell will complain about the quote.
pub(crate) fn find(line: Fragment<'_>) -> Vec<HeredocWord> {
    let Some(words) = shell_words(line.text()) else { return Vec::new() };
    let heredoc = |range: Range<usize>| {
        let fragment = line.slice(range);
        read_word(fragment.text(), fragment.range())
    };
    words.into_iter().filter_map(heredoc).collect()
}

/// Reads the body of a heredoc; `None` if the file ends before it does (rule A016).
pub(crate) fn read_body(word: &HeredocWord, lines: &mut Lines<'_>) -> Option<Heredoc> {
    let start = lines.position();
    let mut body = String::new();
    while let Some(line) = lines.next_physical() {
        let text = |text| if word.strip_tabs { str::trim_start_matches(text, '\t') } else { text };
        if text(line.text.trim_end_matches('\r')) == word.name {
            return Some(Heredoc {
                name: word.name.clone(),
                body,
                expand: !word.quoted,
                strip_tabs: word.strip_tabs,
                file_descriptor: word.file_descriptor,
                span: Span::new(start..line.span.start),
            });
        }
        body.push_str(text(line.full));
    }
    None
}

/// The words of a line as a shell sees them; `None` if a quote is not closed.
///
/// Blanks between `<<` and the name belong to the word.
fn shell_words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        match char {
            '\\' => drop(chars.next()),
            '\'' => drop(chars.find(|(_, it)| *it == '\'')?),
            '"' => loop {
                match chars.next()?.1 {
                    '\\' => drop(chars.next()),
                    '"' => break,
                    _ => {}
                }
            },
            '<' if chars.next_if(|(_, it)| *it == '<').is_some() => {
                if chars.peek().is_some_and(|(_, it)| *it == '-') {
                    chars.next();
                }
                while chars.next_if(|(_, it)| it.is_whitespace()).is_some() {}
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| start..line.len()));
    Some(words)
}

/// Reads a word as a heredoc, if it is one.
fn read_word(word: &str, range: Range<usize>) -> Option<HeredocWord> {
    let number_end = word.find(|it: char| !it.is_ascii_digit())?;
    let (number, rest) = word.split_at(number_end);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.contains('<') {
        return None;
    }
    let (name, quoted) = unquote(rest.trim_start())?;
    Some(HeredocWord { range, name, quoted, strip_tabs, file_descriptor: number.parse().ok() })
}

/// The name without quotes and escapes, and whether there were quotes; `None` if it is empty.
fn unquote(text: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => name.extend(chars.next()),
            '\'' | '"' => {
                quoted = true;
                while let Some(inner) = chars.next().filter(|it| *it != char) {
                    let may_escape = inner == '\\' && char == '"';
                    let escaped = chars.next_if(|it| may_escape && matches!(it, '"' | '$' | '\\'));
                    name.push(escaped.unwrap_or(inner));
                }
            }
            char => name.push(char),
        }
    }
    (!name.trim().is_empty()).then_some((name, quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
        find(line.fragment()).into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn a015_heredocs_are_whole_shell_words() {
        let check = |text: &str, expected: &[&str]| assert_eq!(names(text), expected, "{text}");
        check("RUN <<EOF", &["EOF"]);
        check("RUN cat <<A > /a && cat <<B", &["A", "B"]);
        check("RUN <<-EOF", &["EOF"]);
        check("RUN cat << EOF > x", &["EOF"]);
        check("RUN cat 3<<IN <&3", &["IN"]);
        check("RUN cat <<< word", &[]);
        check("RUN cat <<<word", &[]);
        check("RUN a<<EOF", &[]);
        check("RUN echo $((1<<4))", &[]);
        check("RUN echo \"a <<EOF b\"", &[]);
        check("RUN echo 'x <<EOF'", &[]);
        check("RUN echo \\<<EOF", &[]);
        check("RUN echo it's <<EOF", &[]);
        check("RUN <<$EOF", &["$EOF"]);
        check("RUN cat <<", &[]);
        check("COPY <<one.txt <<two.txt /many/", &["one.txt", "two.txt"]);
    }

    #[test]
    fn a017_a_quoted_name_forbids_expansion() {
        let check = |text: &str, name: &str, quoted| {
            let line = Lines::new(text, 0, '\\').next_logical().expect("a line");
            let found = find(line.fragment());
            assert_eq!((found[0].name.as_str(), found[0].quoted), (name, quoted), "{text}");
        };
        check("RUN <<EOF", "EOF", false);
        check("RUN <<\"EOF\"", "EOF", true);
        check("RUN <<'EOF'", "EOF", true);
        check("RUN <<E\"O\"F", "EOF", true);
        check("RUN <<'a b'", "a b", true);
        check("RUN <<E\\OF", "EOF", false);
    }

    #[test]
    fn a016_a_body_ends_at_its_name() {
        let check = |text: &str, body: Option<&str>, rest: &str| {
            let mut lines = Lines::new(text, 0, '\\');
            let line = lines.next_logical().expect("a line");
            let found = read_body(&find(line.fragment())[0], &mut lines);
            assert_eq!(found.map(|it| it.body).as_deref(), body, "{text:?}");
            assert_eq!(&text[lines.position()..], rest, "{text:?}");
        };
        check("RUN <<E\na\nE\nRUN b", Some("a\n"), "RUN b");
        check("RUN <<E\nE", Some(""), "");
        check("RUN <<E\r\na\r\nE\r\n", Some("a\r\n"), "");
        check("RUN <<E\n E\nE \nxE\n# c\\\nE\n", Some(" E\nE \nxE\n# c\\\n"), "");
        check("RUN <<-E\n\t\ta\n\t b\n\tE\n", Some("a\n b\n"), "");
        check("RUN <<E\n\tE\n", None, "");
        check("RUN <<E\n", None, "");
    }
}
