//! Variables in force: what `ARG` and `ENV` have set so far.
//!
//! `ENV` and `ARG` share one scope, in which the later line wins (rule A042). What is in it is both
//! what words are expanded with and the environment of `RUN`.

/// Names and values, in the order in which the names first appeared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    variables: Vec<(String, String)>,
}

impl Scope {
    /// The value of a variable; `None` if it is unset.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Sets a variable, in place if it is set already.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.variables.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The names that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }

    /// `NAME=value` for each variable.
    pub(crate) fn to_environment(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Splits `NAME=value`; a name alone has an empty value.
pub(crate) fn split_pair(variable: &str) -> (&str, &str) {
    variable.split_once('=').unwrap_or((variable, ""))
}

/// Sets a variable in a config's `Env`: in place if it is there, at the end if not (rule A050).
pub(crate) fn set_in_config(environment: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    match environment.iter_mut().find(|old| split_pair(old).0 == name) {
        Some(old) => *old = pair,
        None => environment.push(pair),
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
        let mut environment = vec!["A=1".to_owned(), "B=2".to_owned()];
        set_in_config(&mut environment, "A", "x=y");
        set_in_config(&mut environment, "C", "");
        assert_eq!(environment, ["A=x=y", "B=2", "C="]);
    }
}
