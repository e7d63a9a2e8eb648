//! Pushing: what a registry has is not sent to it again.

use std::time::Duration;

use axum::http::Method;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::files::Answer;
use crate::support::files::FileServer;
use crate::support::requirement::require;

fn context() -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nCOPY hello /hello\n");
    context.write("hello", "hello");
    context
}

#[test]
fn each_blob_goes_up_once_for_each_registry() {
    let bases = require!(Registry::open());
    require!(base::push_busybox(&bases));
    let registries = [require!(Registry::open()), require!(Registry::open())];
    let proxies = registries.each_ref().map(|registry| Proxy::start(&registry.address()));
    let coracle = require!(Coracle::new());
    let names = proxies.each_ref().map(|proxy| format!("{}/team/app:1", proxy.address()));
    let second = format!("{}/team/app:2", proxies[0].address());
    let context = context();
    let directory = context.path().display().to_string();
    let mirror = bases.as_docker_hub();
    let build = ["build", "--registry-mirror", &mirror, "-t", &names[0], &directory];
    coracle.run(&build).ok();
    coracle.run(&["tag", &names[0], &names[1]]).ok();
    coracle.run(&["tag", &names[0], &second]).ok();
    coracle.run(&["push", &names[0], &names[1], &second]).ok();
    let image = Image::from_registry(&registries[0], "team/app", "1");
    assert_eq!(image.digest, Image::from_registry(&registries[0], "team/app", "2").digest);
    assert_eq!(image.digest, Image::from_registry(&registries[1], "team/app", "1").digest);
    for proxy in &proxies {
        let puts = proxy.count(&Method::PUT, "/blobs/uploads/");
        assert_eq!(puts, image.layers.len() + 1, "{:#?}", proxy.seen());
        proxy.forget();
    }
    coracle.run(&["push", &names[0], &names[1], &second]).ok();
    for proxy in &proxies {
        assert_eq!(proxy.uploads(), 0, "{:#?}", proxy.seen());
    }
}

#[test]
fn base_layers_are_mounted_from_the_repository_they_came_from() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let proxy = Proxy::start(&registry.address());
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let address = proxy.address();
    context.write("Dockerfile", format!("FROM {address}/library/busybox\nCOPY hello /hello\n"));
    context.write("hello", "hello");
    let name = format!("{address}/team/app:1");
    let directory = context.path().display().to_string();
    coracle.run(&["build", "-t", &name, "--push", &directory]).ok();
    let image = Image::from_registry(&registry, "team/app", "1");
    assert_eq!(image.layers.len(), 3);
    // The own layer and the config.
    assert_eq!(proxy.count(&Method::PUT, "/blobs/uploads/"), 2, "{:#?}", proxy.seen());
    assert!(proxy.count(&Method::POST, "mount=sha256") >= 2, "{:#?}", proxy.seen());
}

#[test]
fn base_layers_are_mounted_from_the_mirror_that_they_came_through() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let proxy = Proxy::start(&registry.address());
    let coracle = require!(Coracle::new());
    let context = context();
    let name = format!("{}/team/app:1", proxy.address());
    let (mirror, directory) = (proxy.as_docker_hub(), context.path().display().to_string());
    let build = ["build", "--registry-mirror", &mirror, "-t", &name, "--push", &directory];
    coracle.run(&build).ok();
    assert_eq!(Image::from_registry(&registry, "team/app", "1").layers.len(), 3);
    // The own layer and the config.
    assert_eq!(proxy.count(&Method::PUT, "/blobs/uploads/"), 2, "{:#?}", proxy.seen());
}

#[test]
fn a_large_layer_goes_up_while_later_steps_run() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let proxy = Proxy::start(&registry.address());
    let coracle = require!(Coracle::new());
    let (context, files) = (Scratch::new(), FileServer::start());
    context.write_noise("big", 72);
    // The second step ends when something of the first one's layer has arrived.
    let url = files.url("/arrived");
    let step = format!("RUN until wget -q -O /dev/null {url}; do sleep 0.1; done");
    context.write("Dockerfile", format!("FROM busybox\nCOPY big /\n{step}\n"));
    let name = format!("{}/team/app:1", proxy.address());
    let (mirror, directory) = (registry.as_docker_hub(), context.path().display().to_string());
    let build = ["build", "--registry-mirror", &mirror, "--push", "-t", &name, &directory];
    let mut process = coracle.start(&build, "build");
    while proxy.count(&Method::PATCH, "/blobs/uploads/") == 0 {
        assert_eq!(process.ended(), None, "{}", coracle.written("build"));
        std::thread::sleep(Duration::from_millis(10));
    }
    files.put("/arrived", Answer::default());
    assert!(process.wait().success(), "{}", coracle.written("build"));
    let image = Image::from_registry(&registry, "team/app", "1");
    let sent = proxy.count(&Method::PATCH, "/blobs/uploads/");
    assert_eq!((image.layers.len(), sent), (4, 2), "{:#?}", proxy.seen());
    // What was built once is known, even where the cache must not be read: it is asked for first.
    proxy.forget();
    let again = [
        &["build", "--no-cache", "--push", "-t", &name][..],
        &["--registry-mirror", &mirror, &directory],
    ];
    coracle.run(&again.concat()).ok();
    assert_eq!(proxy.count(&Method::PATCH, "/blobs/uploads/"), 0, "{:#?}", proxy.seen());
}

#[test]
fn a_base_that_nobody_reads_is_not_downloaded() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let proxy = Proxy::start(&registry.address());
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let address = proxy.address();
    context.write("Dockerfile", format!("FROM {address}/library/busybox\nENV A=b\n"));
    let name = format!("{address}/team/app:1");
    let directory = context.path().display().to_string();
    coracle.run(&["build", "-t", &name, "--push", &directory]).ok();
    Image::from_registry(&registry, "team/app", "1");
    // Only the config.
    assert_eq!(proxy.downloads(), 1, "{:#?}", proxy.seen());
}
