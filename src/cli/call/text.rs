//! A check's report for people: each remark under its line, and how many there are.

use std::io::IsTerminal as _;

use annotate_snippets::Renderer;

use crate::build::Report;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::failure;
use crate::dockerfile::Rule;
use crate::dockerfile::Source;
use crate::dockerfile::Warning;

/// The whole report.
pub(crate) fn report(report: &Report, source: &Source, colour: bool) -> String {
    let colour = colour && std::io::stdout().is_terminal();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let remarks = report.warnings.iter().map(|it| remark(it, source, report.fatal));
    let mistakes = failure::build(&report.errors, source).diagnostics;
    let mut text = String::new();
    for diagnostic in remarks.chain(mistakes) {
        text += &diagnostic.render(&renderer);
        text += "\n\n";
    }
    text + &summary(report)
}

/// One remark. With `# check=error=true` it is an error.
fn remark(warning: &Warning, source: &Source, fatal: bool) -> Diagnostic {
    let title = format!("{}: {}", warning.rule, warning.message);
    let diagnostic = if fatal { Diagnostic::new(title) } else { Diagnostic::warning(title) };
    let url = Rule::find(warning.rule).map(Rule::url).unwrap_or_default();
    diagnostic.at(source, source.first_line(warning.span)).note("see", url)
}

fn summary(report: &Report) -> String {
    let (errors, warnings) = (report.errors.len(), report.warnings.len());
    let count = |count: usize, name: &str| match count {
        0 => None,
        1 => Some(format!("1 {name}")),
        count => Some(format!("{count} {name}s")),
    };
    let counts: Vec<String> =
        [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
    match &counts[..] {
        [] => "no warnings\n".to_owned(),
        counts if report.fatal && errors == 0 => {
            let mut rules: Vec<&str> = report.warnings.iter().map(|it| it.rule).collect();
            rules.sort_unstable();
            rules.dedup();
            let rules = rules.join(", ");
            format!("{}\nerror: lint violation found for rules: {rules}\n", counts.join(", "))
        }
        counts => format!("{}\n", counts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    #[test]
    fn a_remark_has_its_line_its_page_and_a_caret() {
        let source = Source::new("Dockerfile", "FROM scratch AS Build\nRUN a \\\n  b\n");
        let message = "Stage name 'Build' should be lowercase".to_owned();
        let warning = Warning { rule: "StageNameCasing", message, span: Span::new(16..21) };
        let mut found = Report { warnings: vec![warning], ..Report::default() };
        let expected = "\
warning: StageNameCasing: Stage name 'Build' should be lowercase
 --> Dockerfile:1:17
  |
1 | FROM scratch AS Build
  |                 ^^^^^
  |
  = see: https://docs.docker.com/go/dockerfile/rule/stage-name-casing/

1 warning
";
        assert_eq!(report(&found, &source, false), expected);
        found.fatal = true;
        let text = report(&found, &source, false);
        assert!(text.starts_with("error: StageNameCasing"), "{text}");
        assert!(text.ends_with("lint violation found for rules: StageNameCasing\n"), "{text}");
        assert_eq!(report(&Report::default(), &source, false), "no warnings\n");
    }
}
