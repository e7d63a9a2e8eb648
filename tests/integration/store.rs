//! The local store: its commands, its neighbours, and two builds at once.

use std::path::Path;

use serde_json::Value;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement::require;
use crate::support::skopeo;

fn build(coracle: &Coracle, registry: &Registry, name: &str) {
    let context = Scratch::new();
    context.write("Dockerfile", format!("FROM busybox\nRUN echo {name} > /name\n"));
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    coracle.run(&["build", "--registry-mirror", &mirror, "-t", name, &directory]).ok();
}

#[test]
fn images_are_listed_inspected_tagged_and_removed() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    build(&coracle, &registry, "team/app:1");
    coracle.run(&["tag", "team/app:1", "team/other:2"]).ok();
    let list = coracle.run(&["images"]).ok().stdout;
    assert!(list.contains("team/app") && list.contains("team/other"), "{list}");
    let text = coracle.run(&["inspect", "team/other:2"]).ok().stdout;
    let inspected: Value = serde_json::from_str(&text).expect("inspect prints JSON");
    assert!(inspected.to_string().contains("RUN /bin/sh -c echo team/app:1"), "{inspected}");
    coracle.run(&["rmi", "team/app:1"]).ok();
    let list = coracle.run(&["images"]).ok().stdout;
    assert!(!list.contains("team/app") && list.contains("team/other"), "{list}");
    let output = coracle.run(&["inspect", "team/app:1"]);
    assert_ne!(output.code, 0, "{output}");
    assert!(output.text().contains("team/app:1"), "{output}");
}

#[test]
fn save_and_load_carry_an_image_to_another_store() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    build(&coracle, &registry, "team/app:1");
    for format in ["docker", "oci"] {
        let file = coracle.home(&format!("{format}.tar")).display().to_string();
        coracle.run(&["save", "--format", format, "-o", &file, "team/app:1"]).ok();
        let other = require!(Coracle::new());
        other.run(&["load", "-i", &file]).ok();
        let ran = other.run(&["run", "team/app:1", "cat", "/name"]).ok();
        assert_eq!(ran.stdout, "team/app:1\n", "{format}: {ran}");
    }
}

#[test]
fn pull_brings_an_image_and_save_gives_it_back_unchanged() {
    let registry = require!(Registry::open());
    let digest = require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let name = format!("{}/library/busybox:latest", registry.address());
    coracle.run(&["pull", &name]).ok();
    let file = coracle.home("image.tar");
    coracle.run(&["save", "--format", "oci", "-o", &file.display().to_string(), &name]).ok();
    assert_eq!(Image::from_oci_tar(&file).digest, digest);
}

#[test]
fn the_store_is_an_oci_layout_that_others_read() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    build(&coracle, &registry, "team/app:1");
    let index = layout(&coracle.store()).expect("the store holds an OCI layout");
    let text = std::fs::read(index.join("index.json")).expect("a layout has an index");
    let text: Value = serde_json::from_slice(&text).expect("the index is JSON");
    let name = &text["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    let name = name.as_str().expect("an image has its name");
    let copy = coracle.home("copy");
    let from = format!("oci:{}:{name}", index.display());
    require!(skopeo::copy(&from, &format!("oci:{}:1", copy.display()), &[]));
    assert_eq!(Image::from_layout(&copy).files()["name"].text(), "team/app:1\n");
}

/// The directory with an OCI layout: the store itself, or one in it.
fn layout(store: &Path) -> Option<std::path::PathBuf> {
    if store.join("oci-layout").is_file() {
        return Some(store.to_owned());
    }
    let inner = std::fs::read_dir(store).ok()?.flatten().map(|entry| entry.path());
    inner.into_iter().find(|path| path.join("oci-layout").is_file())
}

#[test]
fn two_builds_share_one_store() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let mut coracle = require!(Coracle::new());
    coracle.set("SOURCE_DATE_EPOCH", "0");
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/zero bs=1M count=10\n");
    let directory = context.path().display().to_string();
    let mirror = registry.as_docker_hub();
    let names = ["team/one:1", "team/two:1"];
    let mut running = names.map(|name| {
        let build = ["build", "--registry-mirror", &mirror, "-t", name, &directory];
        coracle.start(&build, &name.replace('/', "-"))
    });
    for (process, name) in running.iter_mut().zip(names) {
        let status = process.wait();
        assert!(status.success(), "{name}: {}", coracle.written(&name.replace('/', "-")));
    }
    let inspect = |name| coracle.run(&["inspect", name]).ok().stdout;
    let layers = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("inspect prints JSON");
        value.to_string().matches("sha256:").count()
    };
    assert_eq!(layers(&inspect(names[0])), layers(&inspect(names[1])));
    let list = coracle.run(&["images"]).ok().stdout;
    assert!(list.contains("team/one") && list.contains("team/two"), "{list}");
}

#[test]
fn prune_frees_what_no_image_and_no_cached_step_needs() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    build(&coracle, &registry, "team/app:1");
    build(&coracle, &registry, "team/kept:1");
    let snapshots = || {
        let kinds = std::fs::read_dir(coracle.store().join("snapshots")).expect("a store");
        kinds
            .map(|kind| std::fs::read_dir(kind.expect("readable").path()).expect("there").count())
            .sum::<usize>()
    };
    assert_eq!(snapshots(), 4, "two of the base, one of each step");
    coracle.run(&["rmi", "team/app:1"]).ok();
    let output = coracle.run(&["prune"]).ok();
    assert!(output.stdout.contains("freed"), "{output}");
    assert_eq!(snapshots(), 3, "the removed image's own is gone");
    // Its step is still cached, so nothing runs.
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN echo team/app:1 > /name\n");
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &[]);
    assert_eq!(image.top()["name"].content, b"team/app:1\n");

    let output = coracle.run(&["prune", "--cache"]).ok();
    assert!(output.stdout.contains("cache     2 steps forgotten"), "{output}");
    let ran = coracle.run(&["run", "team/kept:1", "cat", "/name"]).ok();
    assert_eq!(ran.stdout, "team/kept:1\n", "an image that has a name stays whole");
    coracle.run(&["rmi", "team/kept:1"]).ok();
    coracle.run(&["prune", "--unused-for", "1d"]).ok();
    assert_eq!(snapshots(), 0);
    coracle.run(&["prune", "--unused-for", "soon"]).fails(2, &["36h"]);
}
