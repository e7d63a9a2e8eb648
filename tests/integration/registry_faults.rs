//! Registries that refuse, break off, lie, or send elsewhere.

use std::time::Duration;
use std::time::Instant;

use axum::http::Method;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::proxy::Fault;
use crate::support::registry::Auth;
use crate::support::requirement::require;

struct Bench {
    registry: Registry,
    proxy: Proxy,
    coracle: Coracle,
    context: Scratch,
}

impl Bench {
    fn new() -> Result<Self, String> {
        Self::with(&Auth::None)
    }

    fn with(auth: &Auth<'_>) -> Result<Self, String> {
        let registry = Registry::start(auth)?;
        base::push_busybox(&registry)?;
        let proxy = Proxy::start(&registry.address());
        let context = Scratch::new();
        let bench = Self { registry, proxy, coracle: Coracle::new()?, context };
        bench.write_dockerfile();
        Ok(bench)
    }

    /// A base named by the proxy's address: a mirror would not be worth several attempts (B097).
    fn write_dockerfile(&self) {
        let base = format!("{}/library/busybox", self.proxy.address());
        self.context.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /hello\n"));
    }

    fn arguments(&self) -> [String; 4] {
        let directory = self.context.path().display().to_string();
        ["build".to_owned(), "--registry-mirror".to_owned(), self.proxy.as_docker_hub(), directory]
    }

    fn build(&self) -> Image {
        self.coracle.build(self.context.path(), &self.proxy.as_docker_hub(), &[])
    }
}

#[test]
fn an_unknown_image_is_named() {
    let bench = require!(Bench::new());
    let name = format!("{}/nobody/nothing:1.2", bench.proxy.address());
    bench.context.write("Dockerfile", format!("FROM {name}\n"));
    bench.coracle.run(&bench.arguments()).fails(3, &[&name, "Dockerfile:1"]);
}

#[test]
fn a_mirror_that_was_passed_over_is_named_when_the_registry_fails_too() {
    let bench = require!(Bench::new());
    // No name under `invalid` ever exists: nothing beyond loopback is reached.
    let mirror = format!("registry.invalid=http://{}", bench.proxy.address());
    bench.proxy.fail(100, Method::GET, "/v2/", Fault::Status(500, None));
    let arguments = ["pull", "--registry-mirror", &mirror, "registry.invalid/library/busybox"];
    let words = [bench.proxy.address(), "500".to_owned(), "registry.invalid".to_owned()];
    bench.coracle.run(&arguments).fails(3, &words.each_ref().map(String::as_str));
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let coracle = require!(Coracle::new());
    let address = format!("127.0.0.1:{}", crate::support::process::free_port());
    let name = format!("{address}/team/app:1");
    coracle.run(&["pull", &name]).fails(3, &[&address]);
}

#[test]
fn another_content_than_promised_is_refused_and_leaves_the_store_whole() {
    let bench = require!(Bench::new());
    bench.proxy.fail(100, Method::GET, "/blobs/", Fault::Corrupt);
    bench.coracle.run(&bench.arguments()).fails(3, &["digest"]);
    let sound = Bench { proxy: Proxy::start(&bench.registry.address()), ..bench };
    sound.write_dockerfile();
    assert_eq!(sound.build().files()["hello"].text(), "hello\n");
}

#[test]
fn a_broken_download_is_taken_up_again() {
    let bench = require!(Bench::new());
    bench.proxy.fail(2, Method::GET, "/blobs/", Fault::Cut(300));
    assert_eq!(bench.build().files()["hello"].text(), "hello\n");
}

#[test]
fn a_registry_that_is_busy_for_a_moment_is_asked_again() {
    let bench = require!(Bench::new());
    bench.proxy.fail(1, Method::GET, "/manifests/", Fault::Status(503, None));
    bench.proxy.fail(1, Method::GET, "/blobs/", Fault::Status(502, None));
    bench.build();
}

#[test]
fn retry_after_is_kept() {
    let bench = require!(Bench::new());
    bench.proxy.fail(1, Method::GET, "/manifests/", Fault::Status(429, Some(2)));
    let begun = Instant::now();
    bench.build();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it took {:?}", begun.elapsed());
}

#[test]
fn a_slow_answer_is_waited_for() {
    let bench = require!(Bench::new());
    bench.proxy.fail(1, Method::GET, "/manifests/", Fault::Delay(Duration::from_secs(2)));
    bench.build();
}

#[test]
fn the_time_limit_ends_what_would_be_waited_for() {
    let bench = require!(Bench::new());
    let name = format!("{}/library/busybox:latest", bench.proxy.address());
    bench.proxy.fail(100, Method::GET, "/blobs/", Fault::Hang);
    let begun = Instant::now();
    let pull = ["pull", "--registry-timeout", "2s", &name];
    bench.coracle.run(&pull).fails(3, &[&bench.proxy.address(), "2 seconds", "registry-timeout"]);
    let took = begun.elapsed();
    assert!((2..10).contains(&took.as_secs()), "it took {took:?}");
    // A longer pause than there is time for is not begun.
    bench.proxy.fail(100, Method::HEAD, "/manifests/", Fault::Status(503, Some(30)));
    bench.coracle.run(&["pull", "--registry-timeout=20s", &name]).fails(3, &["20 seconds"]);
    assert!(begun.elapsed() < took + Duration::from_secs(10), "it waited");
    bench.coracle.run(&["pull", "--registry-timeout=20", &name]).fails(2, &["90s"]);
}

#[test]
fn an_interrupted_upload_is_begun_again() {
    let bench = require!(Bench::new());
    let name = format!("{}/team/app:1", bench.proxy.address());
    let mut arguments = bench.arguments().to_vec();
    arguments.extend(["-t".to_owned(), name]);
    bench.coracle.run(&arguments).ok();
    bench.proxy.fail(1, Method::POST, "/blobs/uploads/", Fault::Status(503, None));
    bench.proxy.fail(1, Method::PUT, "/blobs/uploads/", Fault::Status(500, None));
    bench.coracle.run(&["push", &arguments[5]]).ok();
    Image::from_registry(&bench.registry, "team/app", "1");
}

#[test]
fn b012_credentials_do_not_follow_a_redirect_to_another_host() {
    let bench = require!(Bench::with(&Auth::Basic("alice", "the-password")));
    let twin = require!(bench.registry.twin());
    let elsewhere = Proxy::start(&twin.address());
    let address = bench.proxy.address();
    let login = ["login", &address, "-u", "alice", "--password-stdin"];
    bench.coracle.run_with(&login, "the-password").ok();
    bench.proxy.forget();
    bench.proxy.fail(100, Method::GET, "/blobs/", Fault::Redirect(elsewhere.address()));
    bench.build();
    assert!(bench.proxy.seen().iter().any(|seen| seen.authorization.is_some()));
    assert!(elsewhere.downloads() >= 2, "{:#?}", elsewhere.seen());
    for seen in elsewhere.seen() {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }
}

#[test]
fn a_build_without_permission_says_what_to_do() {
    let bench = require!(Bench::with(&Auth::Basic("alice", "the-password")));
    let name = format!("{}/library/busybox:latest", bench.proxy.address());
    bench.coracle.run(&["pull", &name]).fails(3, &[&bench.proxy.address(), "coracle login"]);
}
