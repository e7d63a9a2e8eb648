//! The Dockerfile language: lines, directives, forms, heredocs, and the errors of all of it.

use coracle::dockerfile::{Source, parse};
use coracle::oci::ImageConfig;
use coracle::plan::{Bases, PlanOptions, missing_bases, plan};

use crate::notation::{compare, rows};
use crate::written;

/// What the tables write of a file: its instructions, or `!` and its errors.
fn described(text: &str) -> String {
    let source = Source::new("Dockerfile", text);
    match parse(source.clone()) {
        Ok(file) => {
            let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
            instructions.map(written::instruction).collect::<Vec<_>>().join(" ;; ")
        }
        Err(errors) => {
            let line = |start| source.line(start);
            let errors = errors.iter().map(|it| format!("{}: {it}", line(it.instruction.start)));
            format!("! {}", errors.collect::<Vec<_>>().join(" ;; "))
        }
    }
}

#[track_caller]
fn check(table: &str, before: &str, least: usize) {
    let mut differences = Vec::new();
    for row in rows(table, least) {
        let found = described(&format!("{before}{}", row.cells[0]));
        // Where all is on one line, its number goes without saying.
        let expected = match row.cells[1].strip_prefix("! ") {
            Some(error) if !error.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("! 2: {error}")
            }
            _ => row.cells[1].clone(),
        };
        if found != expected {
            differences.push((row.line, expected, found));
        }
    }
    compare(&differences);
}

#[test]
fn a001_to_a012_lines_are_read_as_the_table_says() {
    check(include_str!("../../testdata/lines/lines.txt"), "FROM x\n", 60);
}

#[test]
fn a003_to_a006_directives_are_read_as_the_table_says() {
    check(include_str!("../../testdata/lines/directives.txt"), "", 30);
}

#[test]
fn a013_a014_a018_operands_are_read_as_the_table_says() {
    check(include_str!("../../testdata/lines/forms.txt"), "FROM x\n", 110);
}

#[test]
fn a015_to_a017_heredocs_are_read_as_the_table_says() {
    check(include_str!("../../testdata/heredocs/heredocs.txt"), "FROM x\n", 80);
}

/// What is wrong with a file, if every base image is there.
fn errors(text: &str) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let at = |start| source.line(start);
    let dockerfile = match parse(source.clone()) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            return errors.iter().map(|it| format!("{}: {it}", at(it.instruction.start))).collect();
        }
    };
    let options = PlanOptions {
        build_platform: "linux/amd64".parse().expect("a platform"),
        ..PlanOptions::default()
    };
    let mut bases = Bases::new();
    let result = loop {
        match missing_bases(&dockerfile, &options, &bases) {
            Ok(missing) if missing.is_empty() => break plan(&dockerfile, &options, &bases),
            Ok(missing) => {
                bases.extend(missing.into_iter().map(|it| (it.base, ImageConfig::default())));
            }
            Err(errors) => break Err(errors),
        }
    };
    result
        .err()
        .unwrap_or_default()
        .iter()
        .map(|it| format!("{}: {it}", at(it.span.start)))
        .collect()
}

#[test]
fn a161_errors_have_the_words_and_lines_that_the_table_says() {
    let mut differences = Vec::new();
    for row in rows(include_str!("../../testdata/errors/errors.txt"), 95) {
        let found = errors(&row.cells[0]).join(" ;; ");
        if found != row.cells[1] {
            differences.push((row.line, row.cells[1].clone(), found));
        }
    }
    compare(&differences);
}
