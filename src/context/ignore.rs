//! Ignore patterns: the lines of a `.dockerignore`, and which paths they exclude.
//!
//! The rules are those of moby's `patternmatcher`, not of `.gitignore`: every pattern is rooted at
//! the context, the last pattern that matches decides, and one that begins with `!` takes back.
//! A pattern that matches a directory matches all that is in it.
//!
//! A walk goes from a directory to its children, so [`Matches`] of the directory are handed in: as
//! in `BuildKit`, what a pattern said of the directory holds for the child. Nothing here does I/O.
//!
//! Spec: <https://docs.docker.com/build/concepts/context/#dockerignore-files>.

use crate::context::glob::{BadPattern, Glob};
use crate::oci::ImagePath;

/// Patterns in force, in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// As it was written, without blanks around it.
    text: String,
    /// Counted from 1; for patterns that come from no file, their place in the list.
    line: usize,
    exception: bool,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// The path itself.
    Exact(Vec<u8>),
    /// `**` and plain text: the end of the path. `**x` matches `ax`, unlike what `a**x` would.
    Suffix(Vec<u8>),
    Glob(Glob),
}

/// What the patterns say of one path. The default is what they say of the root: nothing.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    /// For each pattern, whether it matched the path or a directory above it.
    hits: Vec<bool>,
    /// The pattern that excludes the path.
    excluded_by: Option<usize>,
}

impl Matches {
    /// Whether the path is excluded.
    pub fn excluded(&self) -> bool {
        self.excluded_by.is_some()
    }
}

/// Why a list of patterns cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` in line {line}")]
pub struct PatternError {
    /// The pattern as written.
    pub text: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub source: PatternErrorKind,
}

/// What can be wrong with a pattern. The wordings are moby's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternErrorKind {
    /// A `!` with nothing after it (rule A144).
    #[error("illegal exclusion pattern: \"!\"")]
    NothingToTakeBack,
    /// A class that does not end, or a `\` at the end.
    #[error(transparent)]
    Syntax(#[from] BadPattern),
}

impl Patterns {
    /// Reads the text of a `.dockerignore` (rules A143 and A144).
    ///
    /// # Errors
    ///
    /// [`PatternError`] with the line of a pattern that is malformed.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let patterns = lines.filter_map(|(number, line)| {
            let written = line.trim();
            let (mark, pattern) =
                written.strip_prefix('!').map_or(("", written), |rest| ("!", rest.trim()));
            if written.is_empty() {
                return None;
            }
            let mut cleaned = if pattern.is_empty() { String::new() } else { clean(pattern) };
            if cleaned.len() > 1 && cleaned.starts_with('/') {
                cleaned.remove(0);
            }
            Some(Pattern::new(written, number + 1, &format!("{mark}{cleaned}")))
        });
        Ok(Self { patterns: patterns.filter_map(Result::transpose).collect::<Result<_, _>>()? })
    }

    /// Takes patterns one by one, as `--exclude` gives them (rule A129). A leading `/` stays, so
    /// such a pattern matches nothing.
    ///
    /// # Errors
    ///
    /// [`PatternError`] whose line is the pattern's place in the list.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let patterns = patterns.into_iter().enumerate();
        let patterns = patterns.map(|(place, text)| Pattern::new(text.trim(), place + 1, text));
        Ok(Self { patterns: patterns.filter_map(Result::transpose).collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the patterns say of `path`, given what they say of the directory that holds it.
    pub fn below(&self, parent: &Matches, path: &ImagePath) -> Matches {
        let name = relative(path);
        let mut matches = Matches { hits: vec![false; self.patterns.len()], excluded_by: None };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let inherited = parent.hits.get(index).copied().unwrap_or(false);
            // A pattern that would change nothing is not even tried, and so is not inherited.
            let matters = pattern.exception == matches.excluded();
            if inherited || (matters && pattern.matches(name)) {
                matches.hits[index] = true;
                matches.excluded_by = (!pattern.exception).then_some(index);
            }
        }
        matches
    }

    /// What the patterns say of `path`.
    pub fn of(&self, path: &ImagePath) -> Matches {
        let mut here = ImagePath::root();
        path.components().fold(Matches::default(), |parent, name| {
            here = here.join(name);
            self.below(&parent, &here)
        })
    }

    /// Whether something below `directory`, which is excluded, may be taken back (rule A146).
    pub fn may_take_back_below(&self, directory: &ImagePath) -> bool {
        self.may_match_below(directory, |pattern| pattern.exception)
    }

    /// Whether something below `directory`, which no pattern matched, may be matched.
    pub fn may_exclude_below(&self, directory: &ImagePath) -> bool {
        self.may_match_below(directory, |pattern| !pattern.exception)
    }

    /// The pattern that excludes, as written, and its line.
    pub fn decisive(&self, matches: &Matches) -> Option<(&str, usize)> {
        let pattern = self.patterns.get(matches.excluded_by?)?;
        Some((&pattern.text, pattern.line))
    }

    fn may_match_below(&self, directory: &ImagePath, which: impl Fn(&Pattern) -> bool) -> bool {
        let name = relative(directory);
        let beneath = [name, if name.is_empty() { b"" } else { b"/" }].concat();
        self.patterns.iter().filter(|pattern| which(pattern)).any(|pattern| {
            match &pattern.matcher {
                Matcher::Exact(path) => path.starts_with(&beneath),
                Matcher::Suffix(_) => true,
                Matcher::Glob(glob) => name.is_empty() || glob.may_match_below(name),
            }
        })
    }
}

impl Pattern {
    /// `None` for a blank pattern. `pattern` is cleaned here once more, as moby does.
    fn new(text: &str, line: usize, pattern: &str) -> Result<Option<Self>, PatternError> {
        let fail = |source| PatternError { text: text.to_owned(), line, source };
        let pattern = pattern.trim();
        if pattern.is_empty() {
            return Ok(None);
        }
        let cleaned = clean(pattern);
        let (exception, body) =
            cleaned.strip_prefix('!').map_or((false, cleaned.as_str()), |rest| (true, rest));
        if exception && body.is_empty() {
            return Err(fail(PatternErrorKind::NothingToTakeBack));
        }
        let matcher = Matcher::new(body).map_err(|source| fail(source.into()))?;
        Ok(Some(Self { text: text.to_owned(), line, exception, matcher }))
    }

    fn matches(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact(exact) => path == exact,
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Matcher::Glob(glob) => glob.matches(path),
        }
    }
}

impl Matcher {
    fn new(pattern: &str) -> Result<Self, BadPattern> {
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        Ok(match pattern.strip_prefix("**") {
            Some(rest) if !special(rest) => Self::Suffix(rest.into()),
            None if !special(pattern) => Self::Exact(pattern.into()),
            _ => Self::Glob(Glob::with_double_stars(pattern)?),
        })
    }
}

fn relative(path: &ImagePath) -> &[u8] {
    &path.as_bytes()[1..]
}

/// Go's `filepath.Clean`: dots and doubled slashes resolved by text alone.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            name => parts.push(name),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, excluded: &[&str], included: &[&str]) {
        let patterns = Patterns::parse(text).expect(text);
        let is_excluded = |path: &&str| patterns.of(&ImagePath::new(path)).excluded();
        for path in excluded {
            assert!(is_excluded(path), "{path} should be excluded by {text:?}");
        }
        for path in included {
            assert!(!is_excluded(path), "{path} should not be excluded by {text:?}");
        }
    }

    #[test]
    fn a143_lines_are_trimmed_and_cleaned() {
        check(
            "\u{feff}a.txt\n# b.md\n\n   README.md   \n  # docs\n\t.env\t\nsrc #main",
            &["a.txt", "README.md", "# docs", ".env", "src #main"],
            &["b.md", "docs", "src"],
        );
        check("a.txt\r\ndocs\r\n!docs/keep.md\r\n", &["a.txt", "docs/x"], &["docs/keep.md"]);
        check(
            "/src/\n./docs/deep\nsub//modules/\nmodules/../b.txt\n/.git\n",
            &["src/x", "docs/deep", "sub/modules/y", "b.txt", ".git/config"],
            &["docs", "modules", "sub"],
        );
        check("../a.txt\n..\n../..\n.\n/\nb.md/\n", &["b.md"], &["a.txt", "x/y"]);
    }

    #[test]
    fn a144_malformed_patterns_are_named_with_their_line() {
        let check = |text: &str, written: &str, line, source| {
            let error = Patterns::parse(text).expect_err(text);
            assert_eq!(error, PatternError { text: written.to_owned(), line, source });
        };
        check("a.txt\n!\n", "!", 2, PatternErrorKind::NothingToTakeBack);
        check("#\n\n ! ", "!", 3, PatternErrorKind::NothingToTakeBack);
        check("[a-", "[a-", 1, PatternErrorKind::Syntax(BadPattern));
        assert_eq!(BadPattern.to_string(), "syntax error in pattern");
    }

    #[test]
    fn a145_the_last_match_decides_and_directories_carry_their_content() {
        check("docs", &["docs", "docs/a", "docs/a/b"], &["docsx", "x/docs"]);
        check(
            "!a.txt\n*.txt\n*.md\n!*.md\nREADME.md\n!src/main.o\nsrc\n",
            &["a.txt", "README.md", "src/main.o"],
            &["b.md"],
        );
        check(
            "**/*.md\n!README.md\n!docs/keep.md\ndocs/deep\n!docs/deep/d.md\n",
            &["x.md", "docs/x.md", "docs/deep/x"],
            &["README.md", "docs/keep.md", "docs/deep/d.md"],
        );
    }

    #[test]
    fn a146_what_is_in_an_excluded_directory_can_be_taken_back() {
        check(
            "*\n!src/lib/x.o\n!docs\ndocs/deep\n",
            &["a", "src", "src/main.o", "src/lib/y", "docs/deep", "docs/deep/z"],
            &["src/lib/x.o", "docs", "docs/x"],
        );
        let patterns = Patterns::parse("*\n!a/b.jar\n!c/**/d").expect("valid");
        let check = |path: &str, expected| {
            assert_eq!(patterns.may_take_back_below(&ImagePath::new(path)), expected, "{path}");
        };
        check("a", true);
        check("b", false);
        check("a/b.jar", false);
        check("c/x/y", true);
        check("/", true);
    }

    #[test]
    fn a147_patterns_are_rooted_at_the_context() {
        check("*.md\nlib", &["x.md", "lib/x"], &["docs/x.md", "src/lib"]);
        check("**/*.md\n**/lib", &["x.md", "docs/x.md", "src/lib/x"], &["libx"]);
        check("**.o\n**end", &["a/b.o", ".o", "a/the-end", "end"], &["a.ox"]);
        check("a/**", &["a/b", "a/b/c"], &["a"]);
        check("**", &["a", "a/b"], &[]);
        check("?.txt\nmain.[oc]", &["a.txt", "main.o"], &["ab.txt", "main.h"]);
        check("\\#hash\n\\!bang\nwith\\*star", &["#hash", "!bang", "with*star"], &["withxstar"]);
        check("a(b)+.{c}$", &["a(b)+.{c}$"], &["abbc"]);
    }

    #[test]
    fn a149_case_matters() {
        check("readme.md\nSRC", &["readme.md", "SRC/x"], &["README.md", "src/x"]);
    }

    #[test]
    fn the_pattern_that_excludes_is_named() {
        let patterns = Patterns::parse("# all\n *.txt \n!b.txt\n").expect("valid");
        let check = |path: &str, expected| {
            assert_eq!(patterns.decisive(&patterns.of(&ImagePath::new(path))), expected);
        };
        check("a.txt", Some(("*.txt", 2)));
        check("b.txt", None);
    }

    #[test]
    fn a129_patterns_of_a_flag_are_taken_one_by_one() {
        let patterns = Patterns::new(["sub/*", " ", "!sub/keep.txt"]).expect("valid");
        let excluded = |path: &str| patterns.of(&ImagePath::new(path)).excluded();
        assert!(excluded("sub/a"));
        assert!(!excluded("sub/keep.txt"));
        assert!(!excluded("sub"));
        assert!(Patterns::new(["!"]).is_err());
    }
}
