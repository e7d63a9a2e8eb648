//! A step that tries to get at the builder, at its store and at the machine: it gets nothing.
//!
//! The attempts are in `testdata/hostile/attempts.py`, a line of output each.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::coracle::Who;
use crate::support::requirement::require;
use crate::support::stand_in;

const ATTEMPTS: &str = include_str!("../../testdata/hostile/attempts.py");

fn check(isolation: &str, who: Who, allowed: &[&str]) {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let coracle = require!(Coracle::run_by(who));
    let canary = coracle.home("canary");
    std::fs::write(&canary, "the builder's own").expect("home is writable");
    let name = format!("coracle-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let _listener = UnixListener::bind_addr(&address).expect("nobody else has the name");

    let context = Scratch::new();
    context.write("attempts.py", ATTEMPTS);
    // Without a shell: it kills all that it may, but itself.
    let step = format!(
        "RUN --mount=target=/a [\"python3\", \"/a/attempts.py\", \"{}\", \"{name}\", \"/report\"]",
        canary.display()
    );
    context.write("Dockerfile", format!("FROM python:3.6-slim\n{step}\n"));
    let options = ["--isolation", isolation, "--network=host"];
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &options);
    let report = image.top()["report"].text();
    for line in report.lines() {
        let is_denied = line.contains(": denied") || line == "survived: everything";
        let is_allowed = allowed.iter().any(|allowed| line.contains(allowed));
        assert!(is_denied || is_allowed, "{isolation}: {line}\n{report}");
    }
    assert!(report.lines().count() > 45, "{report}");
    assert!(report.ends_with("survived: everything\n"), "{report}");
    let canary = std::fs::read_to_string(&canary).expect("it is still there");
    assert_eq!(canary, "the builder's own");
    coracle.assert_nothing_left();
}

#[test]
fn gets_nothing_in_namespaces() {
    // A second `chroot` climbs to the root of the namespace, which is the step's own, and so is its
    // first process. Abstract sockets go with the network, which it was given. What the kernel tells of
    // itself it tells in Docker, too.
    let own = [
        "a second chroot: GOT",
        ": GOT [1]",
        "abstract sockets: GOT",
        "/proc/config.gz: GOT",
        "/proc/sys/kernel/core_pattern: GOT",
        "reopen for writing: GOT",
    ];
    check("namespaces", Who::Subordinate, &own);
}

#[test]
fn gets_nothing_in_chroot() {
    check("chroot", Who::Root, &[]);
}

#[test]
fn gets_nothing_where_it_is_emulated() {
    // Its own process it may change, and what the kernel tells of itself it tells in Docker, too.
    let own = ["/proc/sys/kernel/core_pattern: GOT", "reopen for writing: GOT"];
    check("emulate", Who::Single, &own);
}
