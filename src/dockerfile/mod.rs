//! The Dockerfile language: from text to instructions, with a span for every word.
//!
//! Pure: text in, values or errors out. Nothing here reads a file, knows of images, or expands a
//! variable on its own: [`Word`]s stay as they were written, and whoever plans the build expands
//! them with the variables that are in force ([`Word::expand`]).
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>; the rules A001 to A165 that tests cite
//! are listed in `testdata/README.md`.

mod expand;
mod instruction;
mod pattern;
mod source;
mod stage;
mod word;

pub use expand::ExpandErrorKind;
pub use instruction::*;
pub use source::{Source, Span, Spanned};
pub use stage::{Dockerfile, Stage};
pub use word::{ExpandError, Word};
