//! What a command may use up: time, memory, processes.

use std::time::Duration;
use std::time::Instant;

use crate::support::Place;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Output;
use crate::support::place::Kind;
use crate::support::requirement::require;

/// Builds `steps` upon busybox in a place of that kind.
fn build(kind: Kind, steps: &str, options: &[&str]) -> Result<Output, String> {
    let registry = Registry::open()?;
    base::push_busybox(&registry)?;
    let place = Place::new(kind)?;
    let context = Scratch::new();
    context.write("Dockerfile", format!("FROM busybox\n{steps}"));
    let directory = place.copy(context.path(), "context");
    let mirror = registry.as_docker_hub();
    let fixed = ["build", "--registry-mirror", &mirror];
    let output = place.run(&[&fixed, options, &[&directory]].concat());
    place.assert_nothing_left();
    Ok(output)
}

/// The step would take an hour, with processes that do not listen and one that has left its session.
const FOREVER: &str = "RUN trap '' TERM INT HUP; (setsid sleep 3600 &) ; sleep 3600 & sleep 3600\n";

#[track_caller]
fn check_timeout(kind: Kind) {
    let started = Instant::now();
    let output = require!(build(kind, FOREVER, &["--timeout", "1500ms"]));
    output.fails(1, &["did not complete successfully: it took longer than 1.5s", "--timeout"]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_step_that_takes_too_long_is_ended_for_root() {
    check_timeout(Kind::Root);
}

#[test]
fn a_step_that_takes_too_long_is_ended_for_a_user() {
    check_timeout(Kind::Subordinate);
}

#[test]
fn a_step_that_takes_too_long_is_ended_in_a_pod() {
    check_timeout(Kind::RootPod);
}

#[test]
fn a_step_that_takes_too_long_is_ended_in_a_restricted_pod() {
    check_timeout(Kind::RestrictedPod);
}

#[test]
fn a_step_in_time_is_left_alone() {
    require!(build(Kind::Subordinate, "RUN sleep 0\n", &["--timeout", "10m"])).ok();
}

/// `dd` takes its block size as one piece of memory.
const GREEDY: &str = "RUN dd if=/dev/zero of=/dev/null bs=300M count=1\n";

#[track_caller]
fn check_memory(kind: Kind) {
    let output = require!(build(kind, GREEDY, &["--memory", "64m"]));
    let output = output.fails(1, &["did not complete successfully"]);
    // No control group is delegated to the tests' users, and that is not hidden.
    assert!(output.text().contains("data of each process by itself"), "{output}");
    require!(build(kind, GREEDY, &["--memory", "1g"])).ok();
}

#[test]
fn a_step_that_wants_too_much_memory_fails_for_root() {
    check_memory(Kind::Root);
}

#[test]
fn a_step_that_wants_too_much_memory_fails_for_a_user() {
    check_memory(Kind::Subordinate);
}

#[test]
fn a_step_that_wants_too_much_memory_fails_in_a_pod() {
    check_memory(Kind::RootPod);
}

#[test]
fn a_step_that_wants_too_much_memory_fails_in_a_restricted_pod() {
    check_memory(Kind::RestrictedPod);
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let output = require!(build(Kind::Subordinate, "RUN true\n", &["--timeout", "90"]));
    output.fails(2, &["--timeout 90", "90s"]);
    let output = require!(build(Kind::Subordinate, "RUN true\n", &["--memory", "lots"]));
    output.fails(2, &["--memory lots", "512m"]);
}
