//! Transfers that go on where an earlier process was stopped.

use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use axum::http::Method;
use rustix::process::Signal;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::proxy::Fault;
use crate::support::requirement::require;

/// A context with a file that does not compress, of so many MiB.
fn context(mebibytes: u64) -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", "FROM scratch\nCOPY big /\n");
    let mut file = std::fs::File::create(context.join("big")).expect("scratch is writable");
    let mut state = 1_u64;
    for _ in 0..mebibytes {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&piece).expect("there is space");
    }
    context
}

fn build(coracle: &Coracle, context: &Scratch, name: &str) {
    let directory = context.path().display().to_string();
    coracle.run(&["build", "-t", name, &directory]).ok();
}

#[test]
fn b057_a_pull_goes_on_where_an_earlier_one_failed() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let direct = format!("{}/team/app:1", registry.address());
    build(&coracle, &context(12), &direct);
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

#[test]
fn b078_a_push_goes_on_where_a_killed_one_was() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let proxy = Proxy::start(&registry.address());
    let name = format!("{}/team/app:1", proxy.address());
    // Six chunks, the last with the end.
    build(&coracle, &context(190), &name);
    proxy.fail_after(3, 1, Method::PATCH, "/blobs/uploads/", Fault::Hang);
    let mut process = coracle.start(&["push", &name], "push");
    let deadline = Instant::now() + Duration::from_secs(120);
    while proxy.count(&Method::PATCH, "/blobs/uploads/") < 3 {
        assert!(Instant::now() < deadline, "{}", coracle.written("push"));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    process.signal(Signal::KILL);
    process.wait();
    coracle.run(&["push", &name]).ok();
    let sent = proxy.count(&Method::PATCH, "/blobs/uploads/");
    assert_eq!(sent, 5, "{:#?}", proxy.seen());
    Image::from_registry(&registry, "team/app", "1");
}
