//! The report for people.

use crate::cli::doctor::Report;
use crate::cli::doctor::registry::RegistryReport;
use crate::cli::size::human;
use crate::sandbox::Identity;
use crate::sandbox::Judgement;
use crate::sandbox::Lack;
use crate::sandbox::Probe;
use crate::sandbox::Technique;
use crate::sandbox::Verdict;

/// The report, with a newline at its end.
pub(super) fn render(report: &Report) -> String {
    let mut lines = vec![headline(report)];
    let taken = report.judgements.iter().find(|it| Some(it.rung) == report.rung());
    for lack in taken.into_iter().flat_map(|judgement| &judgement.misses) {
        describe(lack, "but ", &mut lines);
    }
    let better = report.better();
    for (index, judgement) in better.iter().enumerate() {
        // What two rungs lack alike is said of the lower one.
        if better.get(index + 1).is_none_or(|next| next.lacks != judgement.lacks) {
            lines.push(String::new());
            not(judgement, &mut lines);
        }
    }
    lines.extend([String::new(), store(report), String::new()]);
    lines.push(format!("What was tried, in {} ms:", report.probe.took.as_millis()));
    lines.extend(Technique::ALL.iter().map(|technique| {
        let verdict = verdict(report.probe.verdict(*technique));
        format!("  {:18} {verdict}", technique.name())
    }));
    if let Some(registry) = &report.registry {
        lines.push(String::new());
        describe_registry(registry, &mut lines);
    }
    lines.join("\n") + "\n"
}

fn headline(report: &Report) -> String {
    match (report.rung(), &report.choice) {
        (Some(rung), _) => {
            let ids = ids(rung.identity(&report.probe));
            format!("Commands will run. Isolation: {}, {ids}.", rung.isolation())
        }
        (None, None) => "Commands will not run: `--isolation none` forbids it.".to_owned(),
        (None, Some(Err(none))) => format!("Commands will not run: {none}."),
        (None, Some(Ok(_))) => unreachable!("a choice has a rung"),
    }
}

fn ids(identity: Identity) -> String {
    match identity {
        Identity::Root => "root of this machine".to_owned(),
        Identity::Range(count) => format!("{count} ids"),
        Identity::Single => "one id; other owners are recorded beside the files".to_owned(),
        Identity::Emulated => "emulated ids".to_owned(),
    }
}

/// Why a better rung is out of reach, and the way to it.
fn not(judgement: &Judgement, lines: &mut Vec<String>) {
    if judgement.lacks.is_empty() {
        lines.push(format!("{}: works, and is not asked for", judgement.rung.name()));
    }
    for lack in &judgement.lacks {
        describe(lack, &format!("Not {}: ", judgement.rung.name()), lines);
    }
}

fn describe(lack: &Lack, prefix: &str, lines: &mut Vec<String>) {
    let errno = lack.errno.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
    lines.push(format!("{prefix}{} ({}{errno})", lack.reason, lack.technique));
    for remedy in &lack.remedies {
        let mut words = remedy.lines.iter();
        let first = words.next().map(String::as_str).unwrap_or_default();
        lines.push(format!("  {:11} {first}", format!("{}:", remedy.at.name())));
        lines.extend(words.map(|line| format!("  {:11} {line}", "")));
    }
}

fn store(report: &Report) -> String {
    let file_system = &report.file_system;
    let overlay = match can_overlay(&report.probe) {
        Some(true) => "overlay works",
        Some(false) => "no overlay",
        None => "overlay not tried",
    };
    let xattrs = match report.probe.verdict(Technique::UserAttributes) {
        Verdict::Works(_) => "user xattrs",
        _ => "no user xattrs",
    };
    let no_exec = if file_system.no_exec { ", noexec" } else { "" };
    format!(
        "Store: {} on {}, {} of {} free, {overlay}, {xattrs}{no_exec}",
        report.store.display(),
        file_system.kind,
        human(file_system.free),
        human(file_system.size),
    )
}

/// Whether overlayfs can keep changes in the store; `None` if it could not be tried.
pub(super) fn can_overlay(probe: &Probe) -> Option<bool> {
    let verdicts = [Technique::OverlayUser, Technique::OverlayTrusted].map(|it| probe.verdict(it));
    let was_tried = verdicts.iter().any(|verdict| **verdict != Verdict::Untried);
    was_tried.then(|| verdicts.iter().any(|verdict| verdict.works()))
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Untried => "-".to_owned(),
        Verdict::Works(None) => "ok".to_owned(),
        Verdict::Works(Some(number)) => format!("ok ({number})"),
        Verdict::Died => "killed".to_owned(),
        Verdict::Refused { errno, said } => {
            let said = said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
            format!("{}{said}", crate::sandbox::errno_name(*errno))
        }
    }
}

fn describe_registry(report: &RegistryReport, lines: &mut Vec<String>) {
    lines.push(format!("Registry, for {}:", report.reference));
    for check in &report.checks {
        let mark = if check.is_well { "ok" } else { "no" };
        lines.push(format!("  {:12} {mark}: {}", check.name, check.detail));
        lines.extend(check.hint.iter().map(|hint| format!("  {:12} hint: {hint}", "")));
    }
}
