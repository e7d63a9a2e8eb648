//! Remarks: BuildKit's checks, by their names and in their words (rule A163).
//!
//! Here are the checks that follow from planning. What can be seen in the text alone is the parser's.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::dockerfile::{Dockerfile, Source, Span, Warning, Word, is_slip, nearest};
use crate::oci::Platform;
use crate::plan::graph::{Graph, Node, Origin};
use crate::plan::{PlanError, PlanErrorKind};

/// All remarks that the Dockerfile wants to hear, in the order of its lines (rule A164).
///
/// # Errors
///
/// With `# check=error=true`, each of them.
pub(crate) fn wanted(
    dockerfile: &Dockerfile,
    planned: Vec<Warning>,
) -> Result<Vec<Warning>, Vec<PlanError>> {
    let warnings = sorted(dockerfile, planned);
    if warnings.is_empty() || !dockerfile.checks.fatal {
        return Ok(warnings);
    }
    let violation =
        |it: Warning| PlanErrorKind::Violation { rule: it.rule, message: it.message }.at(it.span);
    Err(warnings.into_iter().map(violation).collect())
}

/// The same, fatal or not.
pub(crate) fn sorted(dockerfile: &Dockerfile, planned: Vec<Warning>) -> Vec<Warning> {
    let planned = planned.into_iter().filter(|it| dockerfile.checks.wants(it.rule, it.span));
    let mut warnings: Vec<Warning> = dockerfile.warnings.iter().cloned().chain(planned).collect();
    warnings.sort_by_key(|warning| warning.span.start);
    warnings
}

/// `InvalidBaseImagePlatform` (rule A060).
pub(crate) fn of_base(graph: &Graph<'_>, node: &Node<'_>, actual: &Platform) -> Option<Warning> {
    let Origin::Image(base) = &node.base else { return None };
    let (expected, actual) = (base.platform.normalised(), actual.normalised());
    if expected.os == actual.os && expected.architecture == actual.architecture {
        return None;
    }
    let lookup = |name: &str| graph.globals.get(name).map(str::to_owned);
    let name = node.stage.from.image.expand(&lookup).unwrap_or_default();
    let message = format!(
        "Base image {name} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
    );
    Some(Warning { rule: "InvalidBaseImagePlatform", message, span: node.stage.from.span })
}

/// `JSONArgsRecommended`
pub(crate) fn json_recommended(keyword: &str) -> String {
    format!(
        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
    )
}

/// `WorkdirRelativePath`
pub(crate) fn relative_workdir(path: &str) -> String {
    format!("Relative workdir {path:?} can have unexpected results if the base image changes")
}

/// `ExposeProtoCasing`
pub(crate) fn protocol_casing(protocol: &str) -> String {
    format!("Defined protocol '{protocol}' in EXPOSE instruction should be lowercase")
}

/// `ExposeInvalidFormat`
pub(crate) fn expose_host(port: &str) -> String {
    format!(
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
    )
}

/// `SecretsUsedInArgOrEnv`
pub(crate) fn secret(keyword: &str, name: &str) -> String {
    format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})")
}

/// Whether one of the name's words says that the value is a secret.
pub(crate) fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

/// Among how many names the one is looked for that was perhaps meant.
pub(crate) const MOST_NAMES: usize = 200;

/// `UndefinedVar`
pub(crate) fn undefined(name: &str, known: &[&str]) -> String {
    let nearest = nearest(name, known);
    let suggestion = nearest.map(|it| format!(" (did you mean ${it}?)")).unwrap_or_default();
    format!("Usage of undefined variable '${name}'{suggestion}")
}

/// Whether the environment of an image that nobody has seen may have a variable of this name. By
/// custom such names are in capitals; one that is a slip away from a known name is a slip.
pub(crate) fn may_be_of_image(name: &str, known: &[&str]) -> bool {
    let is_capital = !name.chars().any(char::is_lowercase);
    is_capital && !known.iter().any(|known| is_slip(name, known))
}

/// Which variables a word uses as `$name` or `${name}`, and where. `${name:-x}` expects that there
/// is no value.
#[derive(Debug)]
pub(crate) struct Uses<'w> {
    word: Span,
    joined: BTreeMap<&'w str, Range<usize>>,
    in_source: BTreeMap<&'w str, Range<usize>>,
}

impl<'w> Uses<'w> {
    /// Looks through a word of `source`, once for all its variables.
    pub(crate) fn of(word: &'w Word, source: &'w Source) -> Self {
        let in_source = plain_uses(source.slice(word.span));
        Self { word: word.span, joined: plain_uses(&word.raw), in_source }
    }

    /// Where the variable is used first; `None` if it is not.
    pub(crate) fn place(&self, name: &str) -> Option<Span> {
        self.joined.get(name)?;
        // A name may go over several lines.
        let place = self.in_source.get(name);
        let start = self.word.start;
        Some(place.map_or(self.word, |it| Span::new(start + it.start..start + it.end)))
    }
}

fn plain_uses(text: &str) -> BTreeMap<&str, Range<usize>> {
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    let mut uses = BTreeMap::new();
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let (braced, rest) = rest.strip_prefix('{').map_or((false, rest), |rest| (true, rest));
        let end = match rest.find(|c| !is_name(c)) {
            // `$@` and its like have one character.
            Some(0) => rest.chars().next().map_or(0, char::len_utf8),
            end => end.unwrap_or(rest.len()),
        };
        let (name, after) = rest.split_at(end);
        let ends = if braced { after.starts_with('}') } else { !after.starts_with(is_name) };
        if ends {
            let length = 1 + end + if braced { 2 } else { 0 };
            uses.entry(name).or_insert(at..at + length);
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a163_secrets_are_known_by_a_word_of_their_name() {
        let check = |name: &str, expected| assert_eq!(looks_secret(name), expected, "{name}");
        check("DATABASE_PASSWORD", true);
        check("api_key", true);
        check("AUTH", true);
        check("KEYBOARD", false);
        check("PUBLIC_KEY", false);
        check("TOKEN_FILE", false);
    }

    #[test]
    fn a163_a_variable_with_a_default_may_be_undefined() {
        let check = |text: &str, expected| {
            assert_eq!(plain_uses(text).contains_key("X"), expected, "{text}");
        };
        check("a$X", true);
        check("${X}", true);
        check("$X/y", true);
        check("$XY", false);
        check("${X:-y}", false);
        check("X", false);
        check("${X $X", true);
        check("$", false);
        assert_eq!(plain_uses("a$XY${X}$X")["X"], 4..8);
    }
}
