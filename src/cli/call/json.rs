//! Checks, outlines and targets as JSON, with the keys that BuildKit gives them.
//!
//! Besides `buildError`, the first error, there is `errors` with all of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::build::BuildError;
use crate::build::Report;
use crate::cli::failure;
use crate::dockerfile::Rule;
use crate::dockerfile::Source;
use crate::dockerfile::Span;
use crate::dockerfile::Warning;
use crate::plan::Outline;
use crate::plan::OutlineMount;
use crate::plan::Target;

/// `--check`
pub(crate) fn report(report: &Report, source: &Source) -> String {
    let warnings: Vec<Value> = report.warnings.iter().map(|it| warning(it, source)).collect();
    let errors: Vec<Value> = report.errors.iter().map(|it| error(it, source)).collect();
    let mut value = json!({
        "warnings": warnings,
        "sources": [{
            "fileName": source.name(),
            "language": "Dockerfile",
            "data": STANDARD.encode(source.text()),
        }],
    });
    if let Some(first) = errors.first() {
        value["buildError"] = first.clone();
        value["errors"] = errors.into();
    } else if report.failed() {
        let mut rules: Vec<&str> = report.warnings.iter().map(|it| it.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        let message = format!("lint violation found for rules: {}", rules.join(", "));
        value["buildError"] =
            json!({"message": message, "location": location(report.warnings[0].span, source)});
    }
    pretty(&value)
}

fn warning(warning: &Warning, source: &Source) -> Value {
    let rule = Rule::find(warning.rule);
    json!({
        "ruleName": warning.rule,
        "description": rule.map(|rule| rule.description).unwrap_or_default(),
        "url": rule.map(Rule::url).unwrap_or_default(),
        "detail": warning.message,
        "level": 1,
        "location": location(source.first_line(warning.span), source),
    })
}

fn error(error: &BuildError, source: &Source) -> Value {
    let mut value = json!({"message": failure::message(error, source)});
    if let Some(span) = error.span {
        value["location"] = location(source.first_line(span), source);
    }
    if let Some(hint) = error.kind.hint() {
        value["hint"] = hint.into();
    }
    value
}

/// `--call=outline`
pub(crate) fn outline(outline: &Outline, source: &Source) -> String {
    let mut value = json!({});
    set(&mut value, "name", outline.name.as_deref());
    set(&mut value, "description", outline.description.as_deref());
    let args = outline.args.iter().map(|arg| {
        let mut value = json!({"name": arg.name});
        set(&mut value, "description", arg.description.as_deref());
        set(&mut value, "default", arg.default.as_deref());
        set(&mut value, "value", arg.value.as_deref());
        value["location"] = location(arg.span, source);
        value
    });
    let mount = |mount: &OutlineMount| {
        let mut value = json!({"name": mount.id, "location": location(mount.span, source)});
        if mount.required {
            value["required"] = true.into();
        }
        value
    };
    let cache =
        |mount: &OutlineMount| json!({"ID": mount.id, "location": location(mount.span, source)});
    let lists: [(&str, Vec<Value>); 4] = [
        ("args", args.collect()),
        ("secrets", outline.secrets.iter().map(mount).collect()),
        ("ssh", outline.ssh.iter().map(mount).collect()),
        ("cache", outline.caches.iter().map(cache).collect()),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            value[key] = list.into();
        }
    }
    value["sources"] = json!([STANDARD.encode(source.text())]);
    pretty(&value)
}

/// `--call=targets`
pub(crate) fn targets(targets: &[Target], source: &Source) -> String {
    let targets = targets.iter().map(|target| {
        let mut value = json!({"base": target.base});
        set(&mut value, "name", target.name.as_deref());
        set(&mut value, "description", target.description.as_deref());
        set(&mut value, "platform", target.platform.as_deref());
        if target.is_default {
            value["default"] = true.into();
        }
        value["location"] = location(target.span, source);
        value
    });
    let targets: Vec<Value> = targets.collect();
    pretty(&json!({"targets": targets, "sources": [STANDARD.encode(source.text())]}))
}

fn set(value: &mut Value, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        value[key] = text.into();
    }
}

/// Lines are counted from 1, characters from 0, as BuildKit does.
fn location(span: Span, source: &Source) -> Value {
    let position = |offset: usize| {
        let (line, column) = source.position(offset);
        json!({"line": line, "character": column - 1})
    };
    json!({"ranges": [{"start": position(span.start), "end": position(span.end)}]})
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_has_buildkits_keys() {
        let source = Source::new("Dockerfile", "FROM scratch\nENV a b\n");
        let message = "text".to_owned();
        let warning = Warning { rule: "LegacyKeyValueFormat", message, span: Span::new(13..20) };
        let found = Report { warnings: vec![warning], fatal: true, ..Report::default() };
        let value: Value = serde_json::from_str(&report(&found, &source)).expect("JSON");
        assert_eq!(
            value["warnings"][0],
            json!({
                "ruleName": "LegacyKeyValueFormat",
                "description": "Legacy key/value format with whitespace separator should not be used",
                "url": "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
                "detail": "text",
                "level": 1,
                "location": {"ranges": [{
                    "start": {"line": 2, "character": 0},
                    "end": {"line": 2, "character": 7},
                }]},
            })
        );
        assert_eq!(
            value["buildError"]["message"],
            "lint violation found for rules: LegacyKeyValueFormat"
        );
    }
}
