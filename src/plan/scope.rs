//! Variables in force: what `ARG` and `ENV` have set so far.
//!
//! `ENV` and `ARG` share one scope, in which the later line wins (rule A042). What is in it is both
//! what words are expanded with and the environment of `RUN`.

use std::collections::BTreeMap;

/// Values by name, in the order in which the names first appeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InOrder<V> {
    entries: Vec<(String, V)>,
    places: BTreeMap<String, usize>,
}

/// Variables with their values.
pub(crate) type Scope = InOrder<String>;

/// Every `ARG` so far, each once, with its last value.
pub(crate) type Declared = InOrder<Option<String>>;

impl<V> Default for InOrder<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), places: BTreeMap::new() }
    }
}

impl<V> InOrder<V> {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&V> {
        self.places.get(name).map(|place| &self.entries[*place].1)
    }

    /// Whether there is a value of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Puts in a value, in the place of the one that is there.
    pub(crate) fn insert(&mut self, name: String, value: V) {
        if let Some(place) = self.places.get(&name) {
            self.entries[*place].1 = value;
            return;
        }
        self.places.insert(name.clone(), self.entries.len());
        self.entries.push((name, value));
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Scope {
    /// The value of a variable; `None` if it is unset.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(String::as_str)
    }

    /// Sets a variable, in place if it is set already.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.insert(name.to_owned(), value.to_owned());
    }

    /// The names that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// `NAME=value` for each variable.
    pub(crate) fn to_environment(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Splits `NAME=value`; a name alone has an empty value.
pub(crate) fn split_pair(variable: &str) -> (&str, &str) {
    variable.split_once('=').unwrap_or((variable, ""))
}

/// Where the variables of a config's `Env` stand in it. Of several with one name, the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(BTreeMap<String, usize>);

impl Places {
    /// Looks through `environment`.
    pub(crate) fn of(environment: &[String]) -> Self {
        let names = environment.iter().map(|variable| split_pair(variable).0.to_owned());
        // Backwards, so that the first one stays.
        Self(names.zip(0..).collect::<Vec<_>>().into_iter().rev().collect())
    }

    /// Whether there is a variable of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a variable: in place if it is there, at the end if not (rule A050).
    pub(crate) fn set(&mut self, environment: &mut Vec<String>, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        if let Some(place) = self.0.get(name) {
            environment[*place] = pair;
            return;
        }
        // The name may have a `=` of its own, and is known by what stands before that.
        self.0.entry(split_pair(&pair).0.to_owned()).or_insert(environment.len());
        environment.push(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a042_the_later_value_wins_and_keeps_its_place() {
        let mut scope = Scope::default();
        for (name, value) in [("A", "1"), ("B", ""), ("A", "2")] {
            scope.set(name, value);
        }
        assert_eq!(scope.to_environment(), ["A=2", "B="]);
        assert_eq!((scope.get("B"), scope.get("C")), (Some(""), None));
    }

    #[test]
    fn a050_env_replaces_in_place_and_appends_what_is_new() {
        let mut environment: Vec<String> = ["A=1", "B=2", "A=3", "D"].map(str::to_owned).into();
        let mut places = Places::of(&environment);
        for (name, value) in [("A", "x=y"), ("C", ""), ("D", "4"), ("C", "5"), ("E=f", "6")] {
            places.set(&mut environment, name, value);
        }
        assert_eq!(environment, ["A=x=y", "B=2", "A=3", "D=4", "C=5", "E=f=6"]);
    }
}
