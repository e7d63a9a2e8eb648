//! Remarks: BuildKit's checks, by their names and in their words (rule A163).
//!
//! Only the checks that follow from planning are here. None of them stops a build.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Span};
use crate::oci::Platform;
use crate::plan::Warning;
use crate::plan::graph::{Graph, Node, Origin};
use crate::plan::scope::Scope;
use crate::plan::suggest::nearest;

/// `MaintainerDeprecated`
pub(crate) const MAINTAINER: &str = "Maintainer instruction is deprecated in favor of using label";

/// `DuplicateStageName` and `ReservedStageName` (rule A056).
pub(crate) fn of_stage_names(dockerfile: &Dockerfile) -> Vec<Warning> {
    let mut seen = BTreeSet::new();
    let mut warnings = Vec::new();
    for stage in &dockerfile.stages {
        let Some(name) = &stage.name else { continue };
        let (name, span) = (name.value.as_str(), stage.from.span);
        if matches!(name, "scratch" | "context") {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            warnings.push(Warning { rule: "ReservedStageName", message, span });
        }
        if !seen.insert(name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            warnings.push(Warning { rule: "DuplicateStageName", message, span });
        }
    }
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

/// `MultipleInstructionsDisallowed`, at the instruction that does not count.
pub(crate) fn used_twice(keyword: &str, earlier: Span) -> Warning {
    let message = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    Warning { rule: "MultipleInstructionsDisallowed", message, span: earlier }
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

/// `UndefinedVar`
pub(crate) fn undefined(name: &str, scope: &Scope) -> String {
    let nearest = nearest(name, scope.names());
    let suggestion = nearest.map(|it| format!(" (did you mean ${it}?)")).unwrap_or_default();
    format!("Usage of undefined variable '${name}'{suggestion}")
}

/// Whether `$name` or `${name}` stands in the text. `${name:-x}` expects that there is no value.
pub(crate) fn is_plain_use(text: &str, name: &str) -> bool {
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    text.match_indices('$').any(|(at, _)| {
        let rest = &text[at + 1..];
        match rest.strip_prefix('{') {
            Some(braced) => braced.strip_prefix(name).is_some_and(|rest| rest.starts_with('}')),
            None => rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_name)),
        }
    })
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
        let check = |text: &str, expected| assert_eq!(is_plain_use(text, "X"), expected, "{text}");
        check("a$X", true);
        check("${X}", true);
        check("$X/y", true);
        check("$XY", false);
        check("${X:-y}", false);
        check("X", false);
    }
}
