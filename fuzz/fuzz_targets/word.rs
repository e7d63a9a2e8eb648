//! Expansion of words in all three ways, with variables out of the input.
//!
//! The input: `e` for a backtick as escape character or anything else for a backslash, the word, and
//! then, each behind a zero byte, variables `NAME=value`. An unknown name that begins with `L` has
//! a value of 64 KiB.

#![no_main]

use std::collections::BTreeMap;

use coracle::dockerfile::{Span, Word};
use libfuzzer_sys::fuzz_target;

/// What the product documents as the longest value.
const LONGEST: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let mut raw = parts.next().unwrap_or_default().chars();
    let escape = if raw.next() == Some('e') { '`' } else { '\\' };
    let variables: BTreeMap<&str, &str> =
        parts.filter_map(|variable| variable.split_once('=')).collect();
    let lookup = |name: &str| match variables.get(name) {
        Some(value) => Some((*value).to_owned()),
        None => name.starts_with('L').then(|| "long/".repeat(13_107)),
    };
    let word = Word { raw: raw.as_str().to_owned(), span: Span::default(), escape };
    let whole = word.expand(&lookup);
    let words = word.expand_and_split(&lookup);
    let body = word.expand_body(&lookup);
    match (&whole, &words) {
        (Ok(whole), Ok(words)) => {
            let sum: usize = words.iter().map(String::len).sum();
            assert!(whole.len() <= LONGEST && sum <= whole.len(), "{} and {sum}", whole.len());
            assert!(words.iter().all(|word| !word.is_empty()), "an empty word");
        }
        (Err(whole), Err(words)) => {
            assert_eq!(whole, words);
            let _ = (whole.to_string(), whole.hint());
        }
        _ => panic!("{whole:?}, but {words:?}"),
    }
    assert!(body.is_err() || body.is_ok_and(|it| it.len() <= LONGEST));
});
