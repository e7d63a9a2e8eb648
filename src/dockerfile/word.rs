//! Words: text as the Dockerfile wrote it, and the way from there to its value.
//!
//! A [`Word`] still has its quotes, escapes and variables. Only [`Word::expand`] and its two
//! relatives turn it into a `String`, so that an unexpanded word is never taken for a value.
//! The work itself is done in `expand`.

use crate::dockerfile::Span;
use crate::dockerfile::expand::{Dialect, ExpandErrorKind, expand};

/// Text exactly as the Dockerfile wrote it: variables and quotes still unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written (continuation lines already joined).
    pub raw: String,
    /// Where.
    pub span: Span,
    /// The escape character in force (`\` or a backtick).
    pub escape: char,
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {:?}: {kind}", shortened(word))]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub kind: ExpandErrorKind,
}

/// A word that is too long to be read, without its middle: what is wrong with it comes after it.
fn shortened(word: &str) -> String {
    const SHOWN: usize = 60;
    let characters = word.chars().count();
    if characters <= 3 * SHOWN {
        return word.to_owned();
    }
    let tail = word.char_indices().nth(characters - SHOWN).map_or(0, |(at, _)| at);
    let head: String = word.chars().take(SHOWN).collect();
    format!("{head}...{}", &word[tail..])
}

impl ExpandError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }
}

impl Word {
    /// Expands variables and removes quotes: one word in, one string out (rules A023 to A031).
    ///
    /// `lookup` gives the value of a variable, `None` if it is unset.
    ///
    /// # Errors
    ///
    /// The first mistake in the word, or a `${name:?message}` whose variable is not set.
    pub fn expand(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
        expand(&self.raw, Dialect::word(self.escape), lookup)
            .map(|expanded| expanded.text)
            .map_err(|kind| self.error(kind))
    }

    /// Expands, then splits at unquoted white space (rule A032: `EXPOSE` alone does this).
    ///
    /// Empty words are left out, quoted or not.
    ///
    /// # Errors
    ///
    /// Those of [`expand`](Self::expand).
    pub fn expand_and_split(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, ExpandError> {
        expand(&self.raw, Dialect::word(self.escape), lookup)
            .map(|expanded| expanded.words)
            .map_err(|kind| self.error(kind))
    }

    /// Expands variables but keeps quotes: the body of an unquoted `COPY` heredoc (rule A033).
    ///
    /// The escape character of a body is always the backslash (rule A005).
    ///
    /// # Errors
    ///
    /// Those of [`expand`](Self::expand), but for unclosed quotes.
    pub fn expand_body(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ExpandError> {
        expand(&self.raw, Dialect::heredoc_body(), lookup)
            .map(|expanded| expanded.text)
            .map_err(|kind| self.error(kind))
    }

    fn error(&self, kind: ExpandErrorKind) -> ExpandError {
        ExpandError { word: self.raw.clone(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_what_is_wrong_and_a_person_gets_that_far() {
        let word = |raw: String| Word { raw, span: Span::default(), escape: '\\' };
        let message = |raw: String| word(raw).expand(&|_| None).expect_err("too deep").to_string();
        let long = message("${größe:-".repeat(200));
        assert!(long.chars().count() < 250, "{long}");
        assert!(long.ends_with("nested more than 100 levels deep"), "{long}");
        assert_eq!(
            message("a${}".to_owned()),
            "failed to process \"a${}\": syntax error: bad substitution"
        );
    }
}
