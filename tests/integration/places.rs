//! The places where builds run: the same image comes out of each, and `doctor` knows where it is.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Place;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Output;
use crate::support::coracle::Who;
use crate::support::place::Kind;
use crate::support::pod::Manifest;
use crate::support::pod::Pod;
use crate::support::registry::Auth;
use crate::support::requirement;
use crate::support::requirement::require;
use crate::support::stand_in;
use crate::support::stand_in::PackageServer;

#[test]
fn the_founding_example_is_the_same_image_in_all_seven() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    let context = packages.context();
    let mirror = registry.as_docker_hub();
    let mut digests = BTreeMap::new();
    for kind in Kind::ALL {
        let mut place = require!(Place::new(kind));
        place.set("SOURCE_DATE_EPOCH", "0");
        let directory = place.copy(context.path(), "context");
        let name = format!("{}/team/hello:{kind:?}", registry.address()).to_lowercase();
        let build = ["build", "--registry-mirror", &mirror, "-t", &name, "--push", &directory];
        let output = place.run(&build).ok();
        let isolation = format!("isolation: {},", kind.isolation());
        assert!(output.text().contains(&isolation), "{kind:?}: {output}");
        let tag = format!("{kind:?}").to_lowercase();
        let image = Image::from_registry(&registry, "team/hello", &tag);
        assert!(image.top().contains_key("usr/local/bin/helloworld"), "{kind:?}");
        digests.insert(kind, image.digest);
        place.assert_nothing_left();
    }
    let first = &digests[&Kind::Root];
    assert!(digests.values().all(|digest| digest == first), "{digests:#?}");
}

/// `doctor` names the way that is the best there, and exits with success as commands will run.
fn check_doctor(kind: Kind) {
    let place = require!(Place::new(kind));
    let (report, code) = place.doctor::<&str>(&[]);
    assert_eq!(report["isolation"], kind.isolation(), "{report:#}");
    assert_eq!(report["identity"]["kind"], kind.identity(), "{report:#}");
    assert_eq!((&report["runs_commands"], code), (&Value::Bool(true), 0), "{report:#}");
    // Everything better is named, with a reason, and with a way to it if there is one.
    for better in report["better"].as_array().expect("a list") {
        let lacks = better["lacks"].as_array().expect("a list");
        assert!(!lacks.is_empty(), "{better:#}");
        assert!(lacks.iter().all(|lack| lack["reason"].is_string()), "{better:#}");
    }
    let store = &report["store"];
    assert!(store["free"].as_u64().is_some_and(|free| free > 0), "{store}");
    assert!(store["type"].is_string() && store["noexec"] == false, "{store}");
    // The same in words.
    let text = place.run(&["doctor"]).ok();
    let headline = format!("Commands will run. Isolation: {}, ", kind.isolation());
    assert!(text.stdout.starts_with(&headline), "{text}");
    place.assert_nothing_left();
}

#[test]
fn doctor_as_root() {
    check_doctor(Kind::Root);
}

#[test]
fn doctor_with_subordinate_ids() {
    check_doctor(Kind::Subordinate);
}

#[test]
fn doctor_without_subordinate_ids() {
    check_doctor(Kind::Single);
}

#[test]
fn doctor_in_a_pod_as_root() {
    check_doctor(Kind::RootPod);
}

#[test]
fn doctor_in_a_restricted_pod() {
    check_doctor(Kind::RestrictedPod);
}

#[test]
fn doctor_in_a_pod_with_users_of_its_own() {
    check_doctor(Kind::OwnUsersPod);
}

#[test]
fn doctor_where_no_namespaces_are_allowed() {
    check_doctor(Kind::NoNamespaces);
}

/// The lines that a report gives for having the rung `name`, to be typed or written `at` some place.
fn advice(report: &Value, name: &str, at: &str) -> Vec<String> {
    let mut rungs = report["better"].as_array().expect("a list").iter();
    let rung = rungs.rfind(|rung| rung["name"] == name);
    let lack = &rung.unwrap_or_else(|| panic!("no {name} in {report:#}"))["lacks"][0];
    let mut remedies = lack["remedies"].as_array().expect("a list").iter();
    let remedy = remedies.find(|it| it["at"] == at);
    let lines = &remedy.unwrap_or_else(|| panic!("nothing {at} in {lack:#}"))["lines"];
    let lines = lines.as_array().expect("a list").iter();
    lines.map(|line| line.as_str().expect("text").to_owned()).collect()
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
}

const DOCTOR: [&str; 2] = ["doctor", "--format=json"];
const AT_LEAST: [&str; 3] = ["doctor", "--format=json", "--min-isolation=namespaces"];

#[test]
fn the_command_that_doctor_gives_lends_a_user_ids() {
    let coracle = require!(Coracle::run_by(Who::Single));
    let before = report(&coracle.run(&DOCTOR).ok());
    assert_eq!(before["identity"]["kind"], "emulated", "{before:#}");
    let [line] = &advice(&before, "namespaces", "machine")[..] else { panic!("{before:#}") };
    let after = report(&coracle.run_after(line, &DOCTOR).ok());
    assert_eq!(after["identity"]["kind"], "range", "{after:#}");
    assert_eq!(after["identity"]["ids"], 65_537, "{after:#}");
    assert_eq!(after["better"].as_array().map(Vec::len), Some(0), "{after:#}");
}

#[test]
fn the_command_that_doctor_gives_allows_namespaces() {
    let coracle = require!(Coracle::new());
    let before = report(&coracle.run_without_namespaces(&DOCTOR));
    assert_ne!(before["isolation"], "namespaces", "{before:#}");
    let [line] = &advice(&before, "namespaces", "machine")[..] else { panic!("{before:#}") };
    // The tests forbid all kinds of namespaces, and a machine usually only this one.
    let others = "for it in /proc/sys/user/max_[!u]*_namespaces /proc/sys/user/max_uts_namespaces; \
                  do echo 9999 > $it; done";
    // Nobody lends ids within the namespace that forbids them, and with one id it must be asked for.
    let output = coracle.run_without_namespaces_but(&format!("{others}; {line}"), &AT_LEAST);
    let after = report(&output.ok());
    assert_eq!(after["isolation"], "namespaces", "{after:#}");
}

#[test]
fn the_lines_that_doctor_gives_for_a_pod_allow_namespaces() {
    let pod = require!(Pod::new(Manifest::restricted()));
    let before = report(&pod.coracle(&["doctor", "--format=json", "--root=/work/store"]));
    assert_ne!(before["isolation"], "namespaces", "{before:#}");
    let lines = advice(&before, "namespaces", "kubernetes");
    let pod = require!(Pod::new(Manifest::restricted().with(&lines)));
    let doctor = [&AT_LEAST[..], &["--root=/work/store"]].concat();
    let after = report(&pod.coracle(&doctor).ok());
    assert_eq!(after["isolation"], "namespaces", "{after:#}");
    assert_eq!(after["identity"]["kind"], "single", "{after:#}");
    // What is still different there is said, with the lines for it too.
    let [missed] = &after["misses"].as_array().expect("a list")[..] else { panic!("{after:#}") };
    assert_eq!(missed["technique"], "fresh-proc", "{missed:#}");
}

#[test]
fn a_filter_that_kills_takes_only_one_trial_along() {
    let deadly = &["mknod", "mknodat"];
    let pod = require!(Pod::new(Manifest { deadly, ..Manifest::root() }));
    let report = report(&pod.coracle(&["doctor", "--format=json", "--root=/work/store"]).ok());
    let techniques = &report["techniques"];
    assert_eq!(techniques["mknod"]["works"], false, "{report:#}");
    assert_eq!(techniques["mknod"]["errno"], Value::Null, "{report:#}");
    for technique in ["chroot", "chown", "seccomp-notify", "ptrace", "landlock", "run-from-store"] {
        assert_eq!(techniques[technique]["works"], true, "{technique}: {report:#}");
    }
    assert_eq!(report["isolation"], "chroot", "{report:#}");
}

/// Builds a Dockerfile upon busybox in a place of that kind.
fn build(kind: Kind, steps: &str, options: &[&str]) -> Result<Output, String> {
    build_in(&Scratch::new(), kind, steps, options)
}

/// The same with what is in `context`.
fn build_in(
    context: &Scratch,
    kind: Kind,
    steps: &str,
    options: &[&str],
) -> Result<Output, String> {
    let registry = Registry::open()?;
    base::push_busybox(&registry)?;
    let place = Place::new(kind)?;
    context.write("Dockerfile", format!("FROM busybox\n{steps}"));
    let directory = place.copy(context.path(), "context");
    let mirror = registry.as_docker_hub();
    let fixed = ["build", "--registry-mirror", &mirror];
    Ok(place.run(&[&fixed, options, &[&directory]].concat()))
}

#[test]
fn no_isolation_is_for_dockerfiles_without_commands() {
    let none = ["--isolation", "none"];
    require!(build(Kind::Subordinate, "COPY Dockerfile /\n", &none)).ok();
    let output = require!(build(Kind::Subordinate, "RUN true\n", &none));
    output.fails(4, &["`--isolation none` forbids to run commands", "leave the option away"]);
}

#[test]
fn a_floor_is_not_undercut() {
    let floor = ["--min-isolation", "namespaces"];
    require!(build(Kind::Subordinate, "RUN true\n", &floor)).ok();
    let output = require!(build(Kind::RestrictedPod, "RUN true\n", &floor));
    let why = "no isolation as strong as `namespaces` works here; namespaces: the surrounding";
    output.fails(4, &[why, "seccomp=unconfined", "coracle doctor"]);
    let both = ["--min-isolation", "chroot", "--isolation", "emulate"];
    let output = require!(build(Kind::Subordinate, "RUN true\n", &both));
    output.fails(4, &["`emulate` is weaker than `chroot`"]);
}

#[test]
fn a_way_that_does_not_work_here_is_refused_with_the_reason() {
    let chroot = ["--isolation", "chroot"];
    let output = require!(build(Kind::RestrictedPod, "RUN true\n", &chroot));
    output.fails(4, &["the isolation `chroot` does not work here: this is not uid 0", "--user 0"]);
    // Nobody asks where nothing is run.
    require!(build(Kind::RestrictedPod, "COPY Dockerfile /\n", &chroot)).ok();
}

#[test]
fn a_weaker_way_can_be_asked_for() {
    let emulate = ["--isolation", "emulate"];
    let output = require!(build(Kind::Single, "RUN chown 7:8 /etc/passwd\n", &emulate)).ok();
    assert!(output.text().contains("isolation: emulate, emulated ids"), "{output}");
}

/// Programs that are setuid work where the kernel, or the supervisor, lets them.
fn check_setuid(kind: Kind, works: bool) {
    let context = Scratch::new();
    let text = "#include <stdio.h>\n#include <unistd.h>\n\
                int main(void) { printf(\"%d for %d\\n\", geteuid(), getuid()); return 0; }\n";
    let source = context.write("who.c", text);
    let compiler = require!(requirement::program("gcc"));
    let mut compile = Command::new(compiler);
    compile.args(["-static", "-o"]).arg(context.join("who")).arg(source);
    assert!(compile.status().expect("gcc starts").success());
    let steps = "COPY who /who\nRUN chown 0:0 /who && chmod 4755 /who\nUSER builder\nRUN /who\n";
    let output = require!(build_in(&context, kind, steps, &[])).ok();
    let expected = if works { "0 for 1234" } else { "1234 for 1234" };
    assert!(output.text().contains(expected), "{kind:?}: {output}");
}

#[test]
fn setuid_programs_work_in_namespaces_and_emulated() {
    check_setuid(Kind::Subordinate, true);
    check_setuid(Kind::RestrictedPod, true);
}

#[test]
fn setuid_programs_gain_nothing_in_chroot() {
    check_setuid(Kind::RootPod, false);
}

#[test]
fn doctor_asks_the_registry_whether_it_lets_us_in() {
    let registry = require!(Registry::start(&Auth::Basic("me", "secret")));
    let coracle = require!(Coracle::new());
    let image = format!("{}/team/app:1", registry.address());
    let doctor = |options: &[&str]| {
        let output = coracle.run(&[&DOCTOR, options, &[&image]].concat());
        (report(&output)["registry"].clone(), output)
    };
    let (found, output) = doctor(&["--creds", "me:secret"]);
    assert_eq!(output.code, 0, "{output}");
    let ok: Vec<bool> = ["reachable", "credentials", "pull", "push"]
        .map(|check| found["checks"][check]["ok"] == true)
        .to_vec();
    assert_eq!(ok, [true; 4], "{found:#}");
    assert_eq!(found["checks"]["credentials"]["detail"], "user me", "{found:#}");
    assert!(!output.text().contains("secret"), "{output}");
    let (found, output) = doctor(&["--creds", "me:wrong"]);
    assert_eq!(output.code, 3, "{output}");
    assert_eq!(found["checks"]["reachable"]["ok"], true, "{found:#}");
    assert_eq!(found["checks"]["push"]["ok"], false, "{found:#}");
    drop(registry);
    let (found, output) = doctor(&[]);
    assert_eq!(output.code, 3, "{output}");
    assert_eq!(found["checks"]["reachable"]["ok"], false, "{found:#}");
    assert_eq!(found["checks"]["push"], Value::Null, "{found:#}");
}
