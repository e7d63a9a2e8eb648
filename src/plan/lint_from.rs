//! Remarks about `FROM`: arguments that it does not see, and platforms that it need not name.
//!
//! Rule A163.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{FromInstruction, Span, Warning, Word, nearest};
use crate::oci::{Platform, Reference};
use crate::plan::graph::Graph;
use crate::plan::lint::Uses;
use crate::plan::scope::Scope;

/// Looks at the `FROM` of every stage.
pub(crate) fn check(graph: &Graph<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let declared = graph.dockerfile.global_args.iter().flat_map(|it| &it.args);
    let declared: BTreeSet<&str> = declared.map(|arg| arg.name.value.as_str()).collect();
    for stage in &graph.dockerfile.stages {
        let mut warn = |span: Span, rule: &'static str, message: String| {
            warnings.push(Warning { rule, message, span });
        };
        for (name, span) in undeclared(graph, &stage.from, &declared) {
            let known = graph.global_names();
            let suggestion = nearest(&name, &known).map(|it| format!(" (did you mean {it}?)"));
            let suggestion = suggestion.unwrap_or_default();
            warn(
                span,
                "UndefinedArgInFrom",
                format!("FROM argument '{name}' is not declared{suggestion}"),
            );
        }
        let Some(platform) = &stage.from.platform else { continue };
        let name = stage.name.as_ref().map_or("", |name| name.value.as_str());
        if is_redundant(graph, platform) {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.raw
            );
            warn(platform.span, "RedundantTargetPlatform", message);
        }
        if let Some(constant) = constant_platform(platform, name) {
            let message =
                format!("FROM --platform flag should not use constant value {constant:?}");
            warn(platform.span, "FromPlatformFlagConstDisallowed", message);
        }
    }
    warnings.extend(invalid_defaults(graph));
    warnings
}

/// The variables that a word asks for, with what they are.
fn variables(word: &Word, scope: &Scope) -> (String, Vec<(String, Option<String>)>) {
    let asked = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let value = scope.get(name).map(str::to_owned);
        asked.borrow_mut().push((name.to_owned(), value.clone()));
        value
    };
    (word.expand(&lookup).unwrap_or_default(), asked.into_inner())
}

fn undeclared(
    graph: &Graph<'_>,
    from: &FromInstruction,
    declared: &BTreeSet<&str>,
) -> Vec<(String, Span)> {
    let mut undeclared = Vec::new();
    let mut seen = BTreeSet::new();
    for word in std::iter::once(&from.image).chain(&from.platform) {
        let uses = Uses::of(word, &graph.dockerfile.source);
        for (name, value) in variables(word, &graph.globals).1 {
            let Some(place) = uses.place(&name).filter(|_| value.is_none()) else { continue };
            if !declared.contains(name.as_str()) && seen.insert(name.clone()) {
                undeclared.push((name, place));
            }
        }
    }
    undeclared
}

/// `--platform=$TARGETPLATFORM`
fn is_redundant(graph: &Graph<'_>, platform: &Word) -> bool {
    const TARGET: &str = "TARGETPLATFORM";
    let (text, asked) = variables(platform, &graph.globals);
    !asked.is_empty()
        && asked.iter().all(|(name, _)| name == TARGET)
        && graph.globals.get(TARGET) == Some(&text)
}

/// A platform without variables, in a stage whose name does not say that it is for that platform.
fn constant_platform(platform: &Word, stage: &str) -> Option<String> {
    let (text, asked) = variables(platform, &Scope::default());
    let parsed: Platform = text.parse().ok()?;
    let is_named = stage.contains(&parsed.os) || stage.contains(&parsed.architecture);
    (asked.is_empty() && !is_named).then_some(text)
}

/// Bases that are no images unless a build argument is given.
fn invalid_defaults(graph: &Graph<'_>) -> Vec<Warning> {
    let Ok(scope) = graph.global_scope(&BTreeMap::new()) else { return Vec::new() };
    let mut warnings = Vec::new();
    for stage in &graph.dockerfile.stages {
        let from = &stage.from;
        let lookup = |name: &str| scope.get(name).map(str::to_owned);
        let Ok(name) = from.image.expand(&lookup) else { return warnings };
        if name.parse::<Reference>().is_err() {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                from.image.raw
            );
            let span = from.image.span;
            warnings.push(Warning { rule: "InvalidDefaultArgInFrom", message, span });
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::Setup;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let setup = Setup::default().build_arg("GIVEN", "busybox");
        let warnings = setup.plan(text).expect(text).warnings;
        let rules: Vec<_> = warnings.iter().map(|it| it.rule).collect();
        assert_eq!(rules, expected, "{text}");
    }

    #[test]
    fn a163_from_sees_only_global_arguments() {
        check("FROM busybox:1$TAG\n", &["UndefinedArgInFrom"]);
        check("FROM busybox:${TAG:-1}\n", &[]);
        check("ARG TAG\nFROM busybox:1$TAG\n", &[]);
        check("ARG GIVEN\nFROM $GIVEN\n", &["InvalidDefaultArgInFrom"]);
    }

    #[test]
    fn a163_platforms_that_need_not_be_named() {
        check("FROM --platform=$TARGETPLATFORM busybox\n", &["RedundantTargetPlatform"]);
        check("FROM --platform=linux/amd64 busybox\n", &["FromPlatformFlagConstDisallowed"]);
        check("FROM --platform=linux/amd64 busybox AS build-amd64\n", &[]);
        check("FROM --platform=$BUILDPLATFORM busybox\n", &[]);
    }
}
