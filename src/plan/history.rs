//! What `history` says of each instruction: BuildKit's formats (rules A047, A066 to A081).

use crate::oci::History;
use crate::plan::scope::{Declared, Scope};

/// What BuildKit writes into the comment of each entry.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// About how many bytes an entry takes besides its text.
pub(crate) const ENTRY: usize = 200;

/// Whether an instruction makes a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MakesLayer {
    /// It changes the file system.
    Yes,
    /// It changes the config alone.
    No,
}

/// An entry without its time.
pub(crate) fn entry(created_by: String, layer: MakesLayer) -> History {
    History {
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        empty_layer: layer == MakesLayer::No,
        ..History::default()
    }
}

/// `NAME k=v k2=v2`, as `ENV` and `LABEL` have it.
pub(crate) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    std::iter::once(keyword.to_owned()).chain(pairs).collect::<Vec<_>>().join(" ")
}

/// `ARG k=v k2`: values after resolution (rule A073).
pub(crate) fn arg(args: &[(String, Option<String>)]) -> String {
    let arg = |(name, value): &(String, Option<String>)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    };
    let words = std::iter::once("ARG".to_owned()).chain(args.iter().map(arg));
    words.collect::<Vec<_>>().join(" ")
}

/// `RUN |2 a=b c=d /bin/sh -c command # buildkit`.
///
/// Each declared argument is there once, where it was first declared, with the value that the
/// command sees; one without any value is there as `NAME=` (rule A047).
pub(crate) fn run(args: &[String], declared: &Declared, scope: &Scope) -> String {
    let value = |name, own: &Option<String>| {
        scope.get(name).or(own.as_deref()).unwrap_or_default().to_owned()
    };
    let prefix: Vec<String> =
        declared.iter().map(|(name, own)| format!("{name}={}", value(name, own))).collect();
    let mut words = vec!["RUN".to_owned()];
    if !prefix.is_empty() {
        words.push(format!("|{}", prefix.len()));
    }
    words.extend(prefix);
    words.extend_from_slice(args);
    words.push("# buildkit".to_owned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a047_each_argument_once_with_the_value_in_force() {
        let mut scope = Scope::default();
        scope.set("foo", "bar2");
        scope.set("bar", "from env");
        let mut declared = Declared::default();
        for (name, value) in
            [("foo", Some("bar")), ("bar", None), ("foo", Some("bar2")), ("none", None)]
        {
            declared.insert(name.to_owned(), value.map(str::to_owned));
        }
        let args = ["/bin/sh".to_owned(), "-c".to_owned(), "x  y".to_owned()];
        let expected = "RUN |3 foo=bar2 bar=from env none= /bin/sh -c x  y # buildkit";
        assert_eq!(run(&args, &declared, &scope), expected);
        assert_eq!(run(&args[2..], &Declared::default(), &scope), "RUN x  y # buildkit");
    }

    #[test]
    fn a073_arguments_without_a_value_are_named() {
        let args = [("a".to_owned(), Some("1 2".to_owned())), ("b".to_owned(), None)];
        assert_eq!(arg(&args), "ARG a=1 2 b");
    }
}
