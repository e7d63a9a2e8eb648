//! Why a step was not found in the cache: what has changed since it was last run.

use std::fmt;

use crate::cache::{CacheKey, Part};

/// How long a value may be that is shown.
const SHOWN: usize = 60;

/// What is different from the most similar step that the cache knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What has changed, in the order of the key; never empty.
    pub changes: Vec<Change>,
}

/// One thing that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What: the name of a part of the key.
    pub name: String,
    /// Values that were there then and are not now.
    pub was: Vec<String>,
    /// Values that are there now and were not then. Both are empty if only the order changed.
    pub now: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        f.write_str(&changes.join("; "))
    }
}

impl fmt::Display for Change {
    /// Such as `env changed: A=1 is now A=2`. Digests say nothing to people, and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |values: &[String]| {
            values.iter().map(|value| shorten(value)).collect::<Vec<_>>().join(" ")
        };
        let mut all = self.was.iter().chain(&self.now);
        let name = &self.name;
        if all.any(|value| value.contains("sha256:")) {
            return write!(f, "{name} changed");
        }
        match (self.was.is_empty(), self.now.is_empty()) {
            (true, true) => write!(f, "{name} changed order"),
            (true, false) => write!(f, "{name} is new: {}", shown(&self.now)),
            (false, true) => write!(f, "{name} is gone: {}", shown(&self.was)),
            (false, false) => {
                write!(f, "{name} changed: {} is now {}", shown(&self.was), shown(&self.now))
            }
        }
    }
}

fn shorten(value: &str) -> String {
    let line: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= SHOWN {
        return line;
    }
    line.chars().take(SHOWN).chain(['…']).collect()
}

/// What makes a step the one that it is, in the eyes of the person who wrote it.
const IDENTITY: [&str; 5] = ["args", "source", "inline file", "destination", "path"];

/// Compares `key` with the parts of the keys of the same instruction that the cache knows, and
/// takes the one with the fewest changes; among equals the first.
///
/// A step that differs in what it does and in what lies below it is another step, which has nothing
/// to tell about this one.
pub(crate) fn explain<'a>(
    key: &CacheKey,
    known: impl IntoIterator<Item = &'a [Part]>,
) -> Option<Explanation> {
    let is_related = |changes: &[Change]| {
        let changed = |name: &str| changes.iter().any(|change| change.name == name);
        let is_another = changed("layers below") && IDENTITY.into_iter().any(changed);
        !changes.is_empty() && !is_another
    };
    let changes = known
        .into_iter()
        .map(|parts| changes(parts, key.parts()))
        .filter(|changes| is_related(changes))
        .min_by_key(Vec::len)?;
    Some(Explanation { changes })
}

fn changes(was: &[Part], now: &[Part]) -> Vec<Change> {
    let mut names: Vec<&str> = Vec::new();
    for part in now.iter().chain(was) {
        if !names.contains(&part.name.as_str()) {
            names.push(&part.name);
        }
    }
    names.into_iter().filter_map(|name| change(name, was, now)).collect()
}

fn change(name: &str, was: &[Part], now: &[Part]) -> Option<Change> {
    let values = |parts: &[Part]| -> Vec<String> {
        parts.iter().filter(|part| part.name == name).map(|part| part.value.clone()).collect()
    };
    let (was, now) = (values(was), values(now));
    if was == now {
        return None;
    }
    let without = |values: &[String], others: &[String]| {
        values.iter().filter(|value| !others.contains(value)).cloned().collect()
    };
    Some(Change { name: name.to_owned(), was: without(&was, &now), now: without(&now, &was) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Surroundings, key};
    use crate::oci::{ChainId, Compression, DiffId, Digest, Platform};
    use crate::plan::{Network, RunStep};

    /// A `RUN` on the layer `below`, with this command and environment.
    fn run(below: &str, command: &str, env: &[&str]) -> CacheKey {
        let step = RunStep {
            args: vec![command.to_owned()],
            env: env.iter().map(|text| (*text).to_owned()).collect(),
            proxy: vec![],
            cwd: String::new(),
            user: String::new(),
            network: Network::Host,
            insecure: false,
            settings: crate::plan::RunSettings::default(),
            pipes: vec![],
            mounts: vec![],
            display: String::new(),
        };
        let surroundings = Surroundings {
            below: Some(ChainId::base(DiffId(Digest::of(below)))),
            tables: &[],
            platform: &Platform::default(),
            source_date_epoch: None,
            compression: Compression::Gzip,
        };
        key::run(&surroundings, &step, &Digest::of(""))
    }

    #[track_caller]
    fn check(known: &[CacheKey], expected: Option<&str>) {
        let key = run("base", "make", &["A=1", "B=2"]);
        let explanation = explain(&key, known.iter().map(CacheKey::parts));
        assert_eq!(explanation.map(|it| it.to_string()).as_deref(), expected);
    }

    #[test]
    fn it_names_what_changed_and_how() {
        check(&[run("base", "make", &["A=0", "B=2"])], Some("env changed: A=0 is now A=1"));
        check(&[run("base", "make", &["A=1"])], Some("env is new: B=2"));
        check(&[run("base", "make", &["A=1", "B=2", "C=3"])], Some("env is gone: C=3"));
        check(&[run("base", "make", &["B=2", "A=1"])], Some("env changed order"));
        check(&[run("base", "cmake", &["A=1", "B=2"])], Some("args changed: cmake is now make"));
        check(&[run("old", "make", &["A=1", "B=2"])], Some("layers below changed"));
    }

    #[test]
    fn the_most_similar_step_is_the_one_to_compare_with() {
        let far = run("old", "make", &["A=0", "B=2"]);
        let near = run("base", "make", &["A=0", "B=2"]);
        check(&[far, near], Some("env changed: A=0 is now A=1"));
    }

    #[test]
    fn another_step_elsewhere_explains_nothing() {
        check(&[], None);
        check(&[run("old", "other", &["A=1", "B=2"])], None);
        check(&[run("base", "make", &["A=1", "B=2"])], None);
    }

    #[test]
    fn long_values_and_control_characters_do_not_flood_the_terminal() {
        assert_eq!(shorten("a\n\u{1b}b"), "a  b");
        assert_eq!(shorten(&"x".repeat(100)).chars().count(), SHOWN + 1);
    }
}
