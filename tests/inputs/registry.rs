//! What registries and their users write: references and challenges.

use coracle::oci::Reference;
use coracle::registry::Challenge;

use crate::notation::{compare, rows};

#[test]
fn b001_to_b006_references_mean_what_the_table_says() {
    let mut differences = Vec::new();
    for row in rows(include_str!("../../testdata/references/references.txt"), 35) {
        let expected = row.cells[1..].join(" | ");
        let found = match row.cells[0].parse::<Reference>() {
            Err(error) => format!("! {error}"),
            Ok(reference) => format!("{reference} | {}", reference.familiar()),
        };
        if found != expected {
            differences.push((row.line, expected, found));
        }
    }
    compare(&differences);
}

#[test]
fn b021_to_b023_challenges_are_understood_as_the_table_says() {
    let mut differences = Vec::new();
    for row in rows(include_str!("../../testdata/challenges/challenges.txt"), 35) {
        let found = match Challenge::choose(row.cells[0].lines()) {
            None => "-".to_owned(),
            Some(Challenge::Basic) => "Basic".to_owned(),
            Some(Challenge::Bearer(it)) => {
                let named = [("realm", it.realm), ("service", it.service)];
                let named = named.into_iter().chain([("scope", it.scope), ("error", it.error)]);
                let words = named.filter_map(|(name, value)| Some(format!(" {name}={}", value?)));
                words.fold("Bearer".to_owned(), |text, word| text + &word)
            }
        };
        if found != row.cells[1] {
            differences.push((row.line, row.cells[1].clone(), found));
        }
    }
    compare(&differences);
}
