//! A check's report as SARIF 2.1.0, which code review tools read.
//!
//! Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use serde_json::{Value, json};

use crate::build::BuildError;
use crate::build::Report;
use crate::cli::failure;
use crate::dockerfile::RULES;
use crate::dockerfile::Rule;
use crate::dockerfile::Source;
use crate::dockerfile::Span;
use crate::dockerfile::Warning;

/// The rule that mistakes belong to, after all checks.
const ERROR: &str = "DockerfileError";

/// One run with all checks, and a result for each remark and each error.
pub(crate) fn report(report: &Report, source: &Source) -> String {
    let mut rules: Vec<Value> = RULES.iter().map(rule).collect();
    rules.push(json!({
        "id": ERROR,
        "name": ERROR,
        "shortDescription": {"text": "The Dockerfile cannot be built"},
        "helpUri": "https://docs.docker.com/reference/dockerfile/",
        "defaultConfiguration": {"level": "error"},
    }));
    let level = if report.fatal { "error" } else { "warning" };
    let remarks = report.warnings.iter().map(|it| remark(it, source, level));
    let errors = report.errors.iter().map(|it| error(it, source));
    let results: Vec<Value> = remarks.chain(errors).collect();
    let value = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "coracle",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{value:#}\n")
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.name,
        "name": rule.name,
        "shortDescription": {"text": rule.description},
        "helpUri": rule.url(),
        "defaultConfiguration": {"level": "warning", "enabled": !rule.experimental},
    })
}

fn remark(warning: &Warning, source: &Source, level: &str) -> Value {
    let index = RULES.iter().position(|rule| rule.name == warning.rule);
    json!({
        "ruleId": warning.rule,
        "ruleIndex": index.map_or(-1, |it| i64::try_from(it).unwrap_or(-1)),
        "level": level,
        "message": {"text": warning.message},
        "locations": [location(source.first_line(warning.span), source)],
    })
}

fn error(error: &BuildError, source: &Source) -> Value {
    let mut text = failure::message(error, source);
    if let Some(hint) = error.kind.hint() {
        text = format!("{text} ({hint})");
    }
    let span = error.span.map(|span| source.first_line(span)).unwrap_or_default();
    json!({
        "ruleId": ERROR,
        "ruleIndex": RULES.len(),
        "level": "error",
        "message": {"text": text},
        "locations": [location(span, source)],
    })
}

fn location(span: Span, source: &Source) -> Value {
    let (line, column) = source.position(span.start);
    let (end_line, end_column) = source.position(span.end);
    json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(source.name())},
        "region": {
            "startLine": line,
            "startColumn": column,
            "endLine": end_line,
            "endColumn": end_column,
        },
    }})
}

/// A path as a relative reference: what is not plain is percent-encoded.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    path.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_names_its_rule_and_its_place() {
        let source = Source::new("build me/Dockerfile", "FROM scratch\nENV é=1 a b\n");
        let message = "text".to_owned();
        let warning = Warning { rule: "UndefinedVar", message, span: Span::new(17..21) };
        let found = Report { warnings: vec![warning], ..Report::default() };
        let value: Value = serde_json::from_str(&report(&found, &source)).expect("JSON");
        assert_eq!(value["version"], "2.1.0");
        let run = &value["runs"][0];
        let result = &run["results"][0];
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("fits");
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "UndefinedVar");
        assert_eq!(result["level"], "warning");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "build%20me/Dockerfile");
        assert_eq!(
            place["region"],
            json!({"startLine": 2, "startColumn": 5, "endLine": 2, "endColumn": 8})
        );
    }
}
