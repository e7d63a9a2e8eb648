//! Words: unexpanded text, and the expansion of variables and quotes in it.

use crate::dockerfile::Span;

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

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process \"{word}\": {message}")]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it, in BuildKit's words.
    pub message: String,
}

impl Word {
    /// Expands variables and removes quotes: one word in, one string out (rules A023 to A031).
    ///
    /// `lookup` gives the value of a variable, `None` if it is unset.
    pub fn expand(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
        let _ = lookup;
        todo!("helper: dockerfile")
    }

    /// Expands, then splits at unquoted white space (rule A032: `EXPOSE` alone does this).
    pub fn expand_and_split(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, ExpandError> {
        let _ = lookup;
        todo!("helper: dockerfile")
    }

    /// Expands variables but keeps quotes: the body of an unquoted `COPY` heredoc (rule A033).
    pub fn expand_body(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ExpandError> {
        let _ = lookup;
        todo!("helper: dockerfile")
    }
}
