//! Patterns: ignore files, and those of COPY and ADD.

use coracle::context::glob::Glob;
use coracle::context::ignore::Patterns;
use coracle::oci::ImagePath;

use crate::notation::{compare, rows};

/// The paths in a cell; `-` is none.
fn paths(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(' ').filter(|path| *path != "-")
}

#[test]
fn a143_to_a149_ignore_files_exclude_what_the_table_says() {
    let mut differences = Vec::new();
    for row in rows(include_str!("../../testdata/ignore/ignore.txt"), 75) {
        let expected = row.cells[1..].join(" | ");
        let found = match Patterns::parse(&row.cells[0]) {
            Err(error) => {
                let cause = std::error::Error::source(&error).expect("there is a cause");
                format!("! {error}: {cause}")
            }
            Ok(patterns) => {
                let all = row.cells[1..].iter().flat_map(|cell| paths(cell));
                let (out, kept): (Vec<&str>, Vec<&str>) =
                    all.partition(|path| patterns.of(&ImagePath::new(path)).excluded());
                let list = |it: Vec<&str>| if it.is_empty() { "-".into() } else { it.join(" ") };
                format!("{} | {}", list(out), list(kept))
            }
        };
        if found != expected {
            differences.push((row.line, expected, found));
        }
    }
    compare(&differences);
}

#[test]
fn a111_patterns_match_what_the_table_says() {
    let mut differences = Vec::new();
    for row in rows(include_str!("../../testdata/globs/match.txt"), 50) {
        let expected = row.cells[1..].join(" | ");
        let found = match Glob::new(&row.cells[0]) {
            Err(_) => "!".to_owned(),
            Ok(glob) => {
                let all = row.cells[1..].iter().flat_map(|cell| paths(cell));
                let (matched, others): (Vec<&str>, Vec<&str>) =
                    all.partition(|path| glob.matches(path.as_bytes()));
                let list = |it: Vec<&str>| if it.is_empty() { "-".into() } else { it.join(" ") };
                format!("{} | {}", list(matched), list(others))
            }
        };
        if found != expected {
            differences.push((row.line, expected, found));
        }
    }
    compare(&differences);
}
