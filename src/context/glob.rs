//! Glob patterns, as Go's `filepath.Match` and moby's `patternmatcher` read them.
//!
//! `*` is any run of characters but `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` a class,
//! and `\` takes the next character literally. In the dialect of `.dockerignore`, `**` is any
//! number of whole directories as well. Characters are Unicode's; a byte that is not UTF-8 counts
//! as one.
//!
//! A match takes time in proportion to pattern times path, whatever the pattern: all ways through
//! it are followed at once, so there is nothing to go back to.
//!
//! Spec: <https://pkg.go.dev/path/filepath#Match>.

use std::iter::Peekable;
use std::str::Chars;

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    program: Vec<Token>,
}

/// The pattern is malformed. The wording is Go's, which people search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `**` means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// It is `*` written twice.
    Match,
    /// It is any number of directories (rule A147).
    Ignore,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(u32),
    /// `?`
    One,
    /// `[…]`: bounds, inclusive.
    Class { negated: bool, ranges: Vec<(u32, u32)> },
    /// `*`
    Star,
    /// `**/`: may be skipped together with the [`Token::Directories`] that follows it.
    Optional,
    /// Anything up to and including a `/`.
    Directories,
    /// `**` at the end: anything.
    Everything,
}

const SLASH: u32 = '/' as u32;

impl Glob {
    /// Reads a pattern for `filepath.Match`, which `COPY` sources are (rule A111).
    ///
    /// # Errors
    ///
    /// [`BadPattern`] for an open or empty class, or a `\` at the end.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        Self::parse(pattern, Dialect::Match)
    }

    /// Reads a pattern in which `**` crosses directories (rule A147).
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_double_stars(pattern: &str) -> Result<Self, BadPattern> {
        Self::parse(pattern, Dialect::Ignore)
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.run(characters(path)).last() == Some(&true)
    }

    /// Whether there can be a path below `directory` that matches.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        let states = self.run(characters(directory).chain([SLASH]));
        // The last state has used up the pattern: it matches the directory, and nothing below.
        states[..self.program.len()].contains(&true)
    }

    fn parse(pattern: &str, dialect: Dialect) -> Result<Self, BadPattern> {
        let mut rest = pattern.chars().peekable();
        let mut program = Vec::new();
        while let Some(character) = rest.next() {
            match character {
                '*' if dialect == Dialect::Ignore && rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    if rest.peek().is_none() {
                        program.push(Token::Everything);
                    } else {
                        program.extend([Token::Optional, Token::Directories]);
                    }
                }
                '*' => program.push(Token::Star),
                '?' => program.push(Token::One),
                '[' => program.push(class(&mut rest)?),
                '\\' => program.push(Token::Literal(rest.next().ok_or(BadPattern)?.into())),
                other => program.push(Token::Literal(other.into())),
            }
        }
        Ok(Self { program })
    }

    /// Which places in the program are reached after all of `characters`.
    fn run(&self, characters: impl Iterator<Item = u32>) -> Vec<bool> {
        let mut states = vec![false; self.program.len() + 1];
        let mut next = states.clone();
        states[0] = true;
        self.skip(&mut states);
        for character in characters {
            next.fill(false);
            for (place, token) in self.program.iter().enumerate() {
                if !states[place] {
                    continue;
                }
                let (stays, moves) = token.step(character);
                next[place] |= stays;
                next[place + 1] |= moves;
            }
            // What is inside `**/` must reach a slash: it was not skipped, so it cannot be now.
            self.skip(&mut next);
            std::mem::swap(&mut states, &mut next);
            if !states.contains(&true) {
                break;
            }
        }
        states
    }

    /// Adds the places that are reached without using up a character.
    fn skip(&self, states: &mut [bool]) {
        for (place, token) in self.program.iter().enumerate() {
            if states[place] {
                match token {
                    Token::Star | Token::Everything => states[place + 1] = true,
                    Token::Optional => {
                        states[place + 1] = true;
                        states[place + 2] = true;
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Token {
    /// Whether `character` can be used up by staying here, and by moving on.
    fn step(&self, character: u32) -> (bool, bool) {
        match self {
            Self::Literal(literal) => (false, *literal == character),
            Self::One => (false, character != SLASH),
            Self::Class { negated, ranges } => {
                let within = |(low, high): &(u32, u32)| (*low..=*high).contains(&character);
                (false, ranges.iter().any(within) != *negated)
            }
            Self::Star => (character != SLASH, false),
            Self::Optional => (false, false),
            Self::Directories => (true, character == SLASH),
            Self::Everything => (true, false),
        }
    }
}

fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_member(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { class_member(rest)? } else { low };
        ranges.push((low, high));
    }
}

fn class_member(rest: &mut Peekable<Chars<'_>>) -> Result<u32, BadPattern> {
    match rest.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => rest.next().map(u32::from).ok_or(BadPattern),
        Some(other) => Ok(other.into()),
    }
}

/// The characters of a name; bytes that are not UTF-8 get numbers beyond Unicode.
fn characters(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|byte| 0x0011_0000 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a111_go_matches_these() {
        let check = |pattern: &str, path: &str, expected: Result<bool, BadPattern>| {
            let matched = Glob::new(pattern).map(|glob| glob.matches(path.as_bytes()));
            assert_eq!(matched, expected, "{pattern} on {path}");
        };
        check("abc", "abc", Ok(true));
        check("*", "abc", Ok(true));
        check("*c", "abc", Ok(true));
        check("a*", "ab/c", Ok(false));
        check("a*/b", "abc/b", Ok(true));
        check("a*/b", "a/c/b", Ok(false));
        check("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true));
        check("a*b?c*x", "abxbbxdbxebxczzx", Ok(true));
        check("a*b?c*x", "abxbbxdbxebxczzy", Ok(false));
        check("ab[b-d]", "abc", Ok(true));
        check("ab[e-g]", "abc", Ok(false));
        check("ab[^e-g]", "abc", Ok(true));
        check(r"a\*b", "a*b", Ok(true));
        check(r"a\*b", "ab", Ok(false));
        check("a?b", "a☺b", Ok(true));
        check("a[^a]b", "a☺b", Ok(true));
        check("a???b", "a☺b", Ok(false));
        check("[a-ζ]*", "α", Ok(true));
        check("a?b", "a/b", Ok(false));
        check(r"[\]a]", "]", Ok(true));
        check(r"[\-x]", "-", Ok(true));
        check("[[]odd]", "[odd]", Ok(true));
        check("*x", "xxx", Ok(true));
        check("**", "a/b", Ok(false));
        check("*", ".hidden", Ok(true));
        check("", "", Ok(true));
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", r"\", "a[", "ab["]
        {
            check(bad, "a", Err(BadPattern));
        }
    }

    #[test]
    fn a147_two_stars_cross_directories() {
        let check = |pattern: &str, path: &str, expected: bool| {
            let glob = Glob::with_double_stars(pattern).expect(pattern);
            assert_eq!(glob.matches(path.as_bytes()), expected, "{pattern} on {path}");
        };
        check("**", "a/b/c", true);
        check("a/**", "a/b/c", true);
        check("a/**", "a", false);
        check("**/*.md", "x.md", true);
        check("**/*.md", "docs/deep/x.md", true);
        check("src/**/*.o", "src/x.o", true);
        check("src/**/*.o", "src/lib/deep/x.o", true);
        check("src/**/*.o", "srcs/x.o", false);
        check("a/**/b", "a/xb", false);
        check("a**b", "ab", true);
        check("a**b", "ax/b", true);
        check("a**b", "axb", false);
        check("***/x", "a/x", true);
    }

    #[test]
    fn a147_directories_in_which_nothing_can_match_are_known() {
        let check = |pattern: &str, directory: &str, expected: bool| {
            let glob = Glob::with_double_stars(pattern).expect(pattern);
            assert_eq!(glob.may_match_below(directory.as_bytes()), expected, "{pattern}");
        };
        check("a/b/c", "a", true);
        check("a/b/c", "a/b", true);
        check("a/b/c", "a/b/c", false);
        check("a/b/c", "x", false);
        check("*.txt", "a", false);
        check("*/x", "a", true);
        check("**/x", "a/b", true);
    }

    #[test]
    fn many_stars_take_no_time() {
        let glob = Glob::new(&"*a".repeat(100)).expect("valid");
        assert!(!glob.matches("a".repeat(1000).as_bytes().split_last().map_or(b"", |_| b"b")));
        assert!(!glob.matches(format!("{}b", "a".repeat(5000)).as_bytes()));
    }

    #[test]
    fn bytes_that_are_not_text_are_one_character_each() {
        let glob = Glob::new("a??").expect("valid");
        assert!(glob.matches(b"a\xff\xfe"));
        assert!(!glob.matches(b"a\xff"));
    }
}
