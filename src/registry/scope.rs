//! Scopes: what a token is asked to allow.
//!
//! Scopes are compared as text by token servers, so the actions have one order, and some registries
//! read the first scope alone, so the one that matters most stands first. Rules B032 to B037.
//!
//! Spec: <https://github.com/distribution/distribution/blob/main/docs/content/spec/auth/scope.md>.

/// What a request needs to be allowed to do, most important first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    /// To be known, no more.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// To read from `repository`.
    pub(crate) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    /// To read from `repository` and to write to it: asked for together, so that one token serves a
    /// whole push (rule B035).
    pub(crate) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// To remove from `repository`.
    pub(crate) fn delete(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:delete,pull")])
    }

    /// Besides, to read from `repository` (rule B037).
    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }

    /// Adds what a registry demands, in front, unless it is asked for anyway (rule B032).
    pub(crate) fn and_demanded(&self, demanded: Option<&str>) -> Self {
        let missing = demanded
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter(|scope| !self.0.iter().any(|ours| covers(ours, scope)))
            .map(str::to_owned);
        Self(missing.chain(self.0.iter().cloned()).collect())
    }

    /// The scopes, in the order in which they are sent.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// One text for the set, whatever its order (rule B030).
    pub(crate) fn key(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.join(" ")
    }
}

/// Whether `ours` allows everything that `theirs` does. Names may hold colons (rule B036).
fn covers(ours: &str, theirs: &str) -> bool {
    match (ours.rsplit_once(':'), theirs.rsplit_once(':')) {
        (Some((our_name, our_actions)), Some((their_name, their_actions))) => {
            our_name == their_name
                && their_actions.split(',').all(|it| our_actions.split(',').any(|own| own == it))
        }
        _ => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b032_b036_a_demanded_scope_goes_first_unless_it_is_covered() {
        let check = |ours: &Scopes, demanded: &str, expected: &[&str]| {
            let all = ours.and_demanded(Some(demanded));
            assert_eq!(all.iter().collect::<Vec<_>>(), expected, "{demanded}");
        };
        let push = Scopes::push("a/b");
        check(&push, "repository:a/b:pull", &["repository:a/b:pull,push"]);
        check(&push, "repository:a/b:push,pull", &["repository:a/b:pull,push"]);
        check(&push, "", &["repository:a/b:pull,push"]);
        check(
            &Scopes::pull("a"),
            "repository:a:pull,push  registry:catalog:*",
            &["repository:a:pull,push", "registry:catalog:*", "repository:a:pull"],
        );
        let port = Scopes::pull("h:5000/a");
        check(&port, "repository:h:5000/a:pull", &["repository:h:5000/a:pull"]);
        check(&push, "nonsense", &["nonsense", "repository:a/b:pull,push"]);
    }

    #[test]
    fn b030_the_key_does_not_depend_on_order() {
        let one = Scopes(vec!["b".into(), "a".into()]);
        let other = Scopes(vec!["a".into(), "b".into()]);
        assert_eq!(one.key(), other.key());
        assert_eq!(Scopes::none().key(), "");
    }

    #[test]
    fn b035_b037_the_push_scope_comes_first() {
        let scopes = Scopes::push("to").and_pull("from");
        let expected = ["repository:to:pull,push", "repository:from:pull"];
        assert_eq!(scopes.iter().collect::<Vec<_>>(), expected);
    }
}
