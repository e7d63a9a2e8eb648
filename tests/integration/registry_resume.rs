//! Transfers that go on where an earlier process was stopped, in any way.
//!
//! What crosses the wire is counted. `CORACLE_RESUME_MIB` makes the layer larger than CI has time for.

use std::time::Duration;
use std::time::Instant;

use axum::http::Method;
use rustix::process::Signal;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::Wire;
use crate::support::proxy::Fault;
use crate::support::requirement::require;
use crate::support::show;

const MIB: u64 = 1 << 20;

/// What a wire carries in a second.
const SPEED: u64 = 150 * MIB;

/// How large the layer of the tests with a wire is.
fn size() -> u64 {
    let wanted = std::env::var("CORACLE_RESUME_MIB").ok().and_then(|it| it.parse().ok());
    wanted.unwrap_or(160)
}

/// Half-way, in the middle of a piece of an upload.
fn middle() -> u64 {
    (size() / 64 * 32 + 16) * MIB
}

/// A context with a file that does not compress, of so many MiB.
fn context(mebibytes: u64) -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", "FROM scratch\nCOPY big /\n");
    context.write_noise("big", mebibytes);
    context
}

/// Builds an image with one layer of so many MiB.
fn build(coracle: &Coracle, mebibytes: u64, name: &str) {
    let context = context(mebibytes);
    let directory = context.path().display().to_string();
    coracle.run(&["build", "-t", name, &directory]).ok();
}

/// Starts the program, and sends it `signal` once `reached`.
fn stop(coracle: &Coracle, arguments: &[&str], signal: Signal, reached: impl Fn() -> bool) {
    let mut process = coracle.start(arguments, "stopped");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !reached() {
        assert!(Instant::now() < deadline, "{}", coracle.written("stopped"));
        assert_eq!(process.ended(), None, "too early: {}", coracle.written("stopped"));
        std::thread::sleep(Duration::from_millis(1));
    }
    process.signal(signal);
    process.wait();
}

/// Neither building, pushing nor pulling took memory that depends on the layer.
#[track_caller]
fn assert_modest(coracle: &Coracle) {
    let log = coracle.debug_log();
    let peaks = log.lines().filter_map(|line| line.split_once("peak memory ")?.1.split_once(' '));
    let peaks: Vec<u64> = peaks.filter_map(|(number, _)| number.parse().ok()).collect();
    show(&format!("peak memory in KiB: {peaks:?}"));
    assert!(!peaks.is_empty() && peaks.iter().all(|peak| *peak < 100 * 1024), "{peaks:?} KiB");
}

#[test]
fn b057_a_pull_goes_on_where_an_earlier_one_failed() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let direct = format!("{}/team/app:1", registry.address());
    build(&coracle, 12, &direct);
    coracle.run(&["push", &direct]).ok();
    let proxy = Proxy::start(&registry.address());
    let layer =
        Image::from_registry(&registry, "team/app", "1").manifest["layers"][0]["digest"].clone();
    let path = format!("/blobs/{}", layer.as_str().expect("a digest"));
    proxy.fail(1, Method::GET, &path, Fault::Cut(8 << 20));
    proxy.fail(1, Method::GET, &path, Fault::Status(404, None));
    let (other, name) = (require!(Coracle::new()), format!("{}/team/app:1", proxy.address()));
    other.run(&["pull", &name]).fails(3, &["told to fail"]);
    proxy.forget();
    other.run(&["pull", &name]).ok();
    let seen = proxy.seen().into_iter().find(|seen| seen.path.contains(&path)).expect("asked");
    let from = seen.range.as_deref().and_then(|it| it.strip_prefix("bytes=")?.strip_suffix('-'));
    let from: u64 = from.expect("only the rest").parse().expect("a number");
    assert!(from >= 7 << 20, "{seen:?}");
}

/// What crossed the wire until the program was stopped in the middle, and when it was run again: no
/// more than 1.2 times what was missing. A small layer is given the piece that was cut besides.
#[track_caller]
fn check(what: &str, before: u64, after: u64, coracle: &Coracle) {
    let remaining = size() * MIB - before;
    show(&format!("{what}: {before} bytes, then {after} for the {remaining} that were missing"));
    let piece = if size() < 1000 { 32 * MIB } else { 0 };
    let most = remaining / 10 * 12 + piece;
    assert!(after < most, "{after} for {remaining}\n{}", coracle.debug_log());
}

#[test]
fn b057_a_pull_goes_on_where_a_killed_one_was() {
    let registry = require!(Registry::open());
    let maker = require!(Coracle::new());
    let name = format!("{}/team/app:1", registry.address());
    build(&maker, size(), &name);
    maker.run(&["push", &name]).ok();
    let wire = Wire::slow(&registry.address(), SPEED);
    let name = format!("{}/team/app:1", wire.address());
    let coracle = require!(Coracle::new());
    stop(&coracle, &["pull", &name], Signal::KILL, || wire.received() >= middle());
    let before = wire.received();
    wire.forget();
    coracle.run(&["pull", &name]).ok();
    check("pull, SIGKILL", before, wire.received(), &coracle);
    let manifest = registry.client().manifest("team/app", "1").expect("it was pushed");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let digest = manifest["layers"][0]["digest"].as_str().expect("it has a layer").to_owned();
    let blob = coracle.store().join("blobs").join(digest.replace(':', "/"));
    let bytes = std::fs::read(blob).expect("it was pulled");
    assert_eq!(coracle::oci::Digest::of(bytes).to_string(), digest);
    assert_modest(&coracle);
}

/// Behind a proxy that passes on whole requests only, as nginx does unless it is told otherwise.
#[test]
fn b078_a_push_goes_on_where_a_killed_one_was() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let proxy = Proxy::start(&registry.address());
    let wire = Wire::slow(&proxy.address(), SPEED);
    let name = format!("{}/team/app:1", wire.address());
    build(&coracle, size(), &name);
    stop(&coracle, &["push", &name], Signal::KILL, || wire.sent() >= middle());
    let before = wire.sent();
    wire.forget();
    coracle.run(&["push", &name]).ok();
    check("push, SIGKILL, a proxy that buffers", before, wire.sent(), &coracle);
    assert_modest(&coracle);
    Image::from_registry(&registry, "team/app", "1");
}

/// The registry itself forgets an upload that breaks off within a piece; between two it does not.
#[test]
fn b078_a_push_goes_on_where_an_interrupted_one_was() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let wire = Wire::slow(&registry.address(), SPEED);
    let name = format!("{}/team/app:1", wire.address());
    build(&coracle, size(), &name);
    stop(&coracle, &["push", &name], Signal::TERM, || wire.sent() >= middle());
    let before = wire.sent();
    wire.forget();
    coracle.run(&["push", &name]).ok();
    check("push, SIGTERM", before, wire.sent(), &coracle);
    Image::from_registry(&registry, "team/app", "1");
}
