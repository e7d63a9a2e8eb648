//! How registries are reached and as whom: proxies, certificates, files of other tools, pipelines.

use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use crate::support::Coracle;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::registry::Auth;
use crate::support::requirement::require;

#[test]
fn b010_a_proxy_is_asked_unless_the_host_is_excepted() {
    let mut coracle = require!(Coracle::new());
    let proxy = Proxy::start("127.0.0.1:1");
    let address = format!("http://{}", proxy.address());
    coracle.set("HTTP_PROXY", &address);
    coracle.set("https_proxy", &address);
    let name = "registry.invalid/a:1";
    let pull = ["pull", "--insecure-registry", "registry.invalid", name];
    coracle.run(&pull).fails(3, &["registry.invalid"]);
    assert!(proxy.seen().iter().any(|seen| seen.path.contains("registry.invalid")));
    proxy.forget();
    coracle.set("NO_PROXY", ".invalid");
    coracle.run(&pull).fails(3, &["registry.invalid"]);
    assert!(proxy.seen().is_empty(), "{:#?}", proxy.seen());
}

#[test]
fn b104_a_runtime_directory_that_is_missing_is_a_warning() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let mut coracle = require!(Coracle::new());
    coracle.set("XDG_RUNTIME_DIR", "/nonexistent/run");
    let name = format!("{}/library/busybox", registry.address());
    let output = coracle.run(&["pull", "--progress=plain", &name]).ok();
    assert!(output.text().contains("/nonexistent/run"), "{output}");
}

#[test]
fn b112_b114_registries_conf_is_heeded() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let directory = coracle.home(".config/containers");
    coracle.own(&directory);
    let text = format!(
        "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\n\
         [[registry]]\nlocation = \"bad.example\"\nblocked = true\n",
        registry.address()
    );
    std::fs::write(directory.join("registries.conf"), text).expect("it is writable");
    coracle.run(&["pull", "busybox"]).ok();
    coracle.run(&["pull", "bad.example/a"]).fails(3, &["bad.example/a", "blocked"]);
    let map = format!("r.invalid/hub={}/library", registry.address());
    coracle.run(&["pull", "--registry-map", &map, "r.invalid/hub/busybox"]).ok();
}

#[test]
fn b109_credentials_come_from_arguments_files_and_pipelines() {
    let registry = require!(Registry::start(&Auth::Basic("alice", "the-password")));
    require!(base::push_busybox(&registry));
    let mut coracle = require!(Coracle::new());
    let name = format!("{}/library/busybox", registry.address());
    coracle.run(&["pull", &name]).fails(3, &["login"]);
    coracle.run(&["pull", "--creds", "alice:the-password", &name]).ok();
    let wrong = coracle.run(&["pull", "--creds", "alice:not-the-password", &name]);
    assert!(!wrong.fails(3, &[&name]).text().contains("not-the-password"));
    let file = coracle.home("auth.json").display().to_string();
    let address = registry.address();
    let login = ["login", &address, "--authfile", &file, "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").ok();
    coracle.run(&["pull", "--authfile", &file, &name]).ok();
    let who = coracle.run(&["login", "--get-login", "--authfile", &file, &address]).ok();
    assert_eq!(who.stdout, "alice\n");
    coracle.run(&["login", "--get-login", &address]).fails(3, &["nobody"]);
    coracle.set("CI_REGISTRY", &address);
    coracle.set("CI_REGISTRY_USER", "alice");
    coracle.set("CI_REGISTRY_PASSWORD", "the-password");
    coracle.run(&["pull", &name]).ok();
}

#[test]
fn b034_a_missing_right_to_push_stops_a_build_before_its_first_step() {
    let bases = require!(Registry::open());
    require!(base::push_busybox(&bases));
    let target = require!(Registry::start(&Auth::Basic("alice", "the-password")));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN sleep 30\n");
    let name = format!("{}/team/app:1", target.address());
    let (mirror, directory) = (bases.as_docker_hub(), context.path().display().to_string());
    let build = ["build", "--registry-mirror", &mirror, "-t", &name, "--push", &directory];
    let begun = Instant::now();
    coracle.run(&build).fails(3, &["team/app", "login"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn b080_a_registry_that_fails_three_requests_of_ten_gets_and_gives_everything() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let mut dockerfile = "FROM busybox\n".to_owned();
    for number in 0..8 {
        context.write(&format!("f{number}"), format!("{number}").repeat(20_000 + number));
        writeln!(dockerfile, "COPY f{number} /").expect("a String takes all");
    }
    context.write("Dockerfile", dockerfile);
    let mirror = registry.as_docker_hub();
    let expected = coracle.build_digest(context.path(), &mirror, &["-t", "made:1"]);
    let proxy = Proxy::start(&registry.address());
    // CI runs a few; fifty are run by hand with `CORACLE_FAULT_RUNS=50`.
    let runs = std::env::var("CORACLE_FAULT_RUNS").ok().and_then(|it| it.parse().ok());
    for run in 0..runs.unwrap_or(5_u64) {
        let repository = format!("faults/run{run}");
        let name = format!("{}/{repository}:1", proxy.address());
        proxy.fail_at_random(30, 4711 + run);
        coracle.run(&["tag", "made:1", &name]).ok();
        coracle.run(&["push", &name]).ok();
        let image = crate::support::Image::from_registry(&registry, &repository, "1");
        assert_eq!(image.digest, expected, "run {run}");
        let other = require!(Coracle::new());
        other.run(&["pull", &name]).ok();
        let again = format!("{}/{repository}:again", registry.address());
        other.run(&["tag", &name, &again]).ok();
        other.run(&["push", &again]).ok();
        let back = crate::support::Image::from_registry(&registry, &repository, "again");
        assert_eq!(back.digest, expected, "run {run}");
    }
    assert!(proxy.seen().iter().any(|seen| seen.status.is_server_error()));
}
