//! The report as JSON. Keys and names stay what they are; new ones may come.

use serde_json::{Value, json};

use crate::cli::doctor::Report;
use crate::cli::doctor::registry::RegistryReport;
use crate::sandbox::Identity;
use crate::sandbox::Judgement;
use crate::sandbox::Lack;
use crate::sandbox::Probe;
use crate::sandbox::Technique;
use crate::sandbox::Verdict;
use crate::sandbox::errno_name;

/// The report, with a newline at its end.
pub(super) fn render(report: &Report) -> String {
    let value = json!({
        "runs_commands": report.rung().is_some(),
        "isolation": report.rung().map(|rung| rung.isolation().name()),
        "identity": report.rung().map(|rung| identity(rung.identity(&report.probe))),
        "uid": report.probe.uid,
        "better": report.better().iter().map(judgement).collect::<Vec<_>>(),
        "misses": misses(report),
        "techniques": techniques(&report.probe),
        "probe_milliseconds": u64::try_from(report.probe.took.as_millis()).unwrap_or(u64::MAX),
        "store": {
            "path": report.store.display().to_string(),
            "type": report.file_system.kind,
            "free": report.file_system.free,
            "size": report.file_system.size,
            "free_files": report.file_system.free_files,
            "noexec": report.file_system.no_exec,
            "overlay": super::text::can_overlay(&report.probe),
            "user_xattrs": known(report.probe.verdict(Technique::UserAttributes)),
        },
        "registry": report.registry.as_ref().map(registry),
    });
    let text = serde_json::to_string_pretty(&value).expect("all keys are strings");
    format!("{text}\n")
}

fn identity(identity: Identity) -> Value {
    match identity {
        Identity::Root => json!({ "kind": "root" }),
        Identity::Range(count) => json!({ "kind": "range", "ids": count }),
        Identity::Single => json!({ "kind": "single", "ids": 1 }),
        Identity::Emulated => json!({ "kind": "emulated" }),
    }
}

fn judgement(judgement: &Judgement) -> Value {
    json!({
        "isolation": judgement.rung.isolation().name(),
        "name": judgement.rung.name(),
        "lacks": judgement.lacks.iter().map(lack).collect::<Vec<_>>(),
    })
}

fn misses(report: &Report) -> Vec<Value> {
    let taken = report.judgements.iter().find(|it| Some(it.rung) == report.rung());
    taken.into_iter().flat_map(|judgement| &judgement.misses).map(lack).collect()
}

fn lack(lack: &Lack) -> Value {
    let remedies = lack.remedies.iter();
    let remedies: Vec<Value> =
        remedies.map(|it| json!({ "at": it.at.name(), "lines": it.lines })).collect();
    json!({
        "technique": lack.technique.name(),
        "errno": lack.errno,
        "reason": lack.reason,
        "remedies": remedies,
    })
}

fn techniques(probe: &Probe) -> Value {
    let entry = |technique: &Technique| {
        let verdict = probe.verdict(*technique);
        let errno = verdict.errno().map(errno_name);
        let value = json!({
            "works": known(verdict),
            "number": verdict.number(),
            "errno": errno,
        });
        (technique.name().to_owned(), value)
    };
    Value::Object(Technique::ALL.iter().map(entry).collect())
}

/// Whether something works; `null` if nobody tried.
fn known(verdict: &Verdict) -> Option<bool> {
    (*verdict != Verdict::Untried).then(|| verdict.works())
}

fn registry(report: &RegistryReport) -> Value {
    let checks = report.checks.iter().map(|check| {
        let value = json!({ "ok": check.is_well, "detail": check.detail, "hint": check.hint });
        (check.name.to_owned(), value)
    });
    json!({
        "reference": report.reference.to_string(),
        "ok": report.is_well(),
        "checks": Value::Object(checks.collect()),
    })
}
