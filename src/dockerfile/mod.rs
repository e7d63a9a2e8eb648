//! The Dockerfile language: from text to instructions, with a span for every word.
//!
//! Pure: text in, values or errors out. Nothing here reads a file, knows of images, or expands a
//! variable on its own: [`Word`]s stay as they were written, and whoever plans the build expands
//! them with the variables that are in force ([`Word::expand`]).
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>; the rules A001 to A165 that tests cite
//! are listed in `testdata/README.md`.

mod check;
mod directive;
mod duration;
mod error;
mod expand;
mod flag;
mod heredoc;
mod instruction;
mod keyword;
mod line;
mod lint;
mod parse_command;
mod parse_copy;
mod parse_from;
mod parse_healthcheck;
mod parse_pairs;
mod parse_words;
mod parser;
mod pattern;
mod rule;
mod source;
mod split;
mod stage;
mod statement;
mod suggest;
mod word;

pub use check::{Checks, Warning};
pub use directive::check_frontend;
pub(crate) use duration::{GoDuration, parse as parse_duration};
pub use error::{ParseError, ParseErrorKind};
pub use expand::ExpandErrorKind;
pub use instruction::*;
pub use parser::{Rejected, parse, parse_instruction, parse_with};
pub use rule::{RULES, Rule};
pub use source::{Source, Span, Spanned};
pub use stage::{Dockerfile, Stage};
pub use suggest::{is_slip, nearest};
pub use word::{ExpandError, Word};
