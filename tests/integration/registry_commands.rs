//! Commands about what registries hold: lists, manifests, copies, removal, indexes.

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::base;
use crate::support::requirement::require;
use crate::support::skopeo;

#[test]
fn tags_are_listed_manifests_printed_and_images_copied_and_removed() {
    let (first, second) = (require!(Registry::open()), require!(Registry::open()));
    require!(base::push_busybox(&first));
    let coracle = require!(Coracle::new());
    let source = format!("{}/library/busybox:latest", first.address());
    let target = format!("{}/copy/box:1", second.address());
    coracle.run(&["copy", &source, &target]).ok();
    let printed = coracle.run(&["manifest", &source]).ok().stdout;
    assert_eq!(coracle.run(&["manifest", &target]).ok().stdout, printed);
    let tags = coracle.run(&["ls", &format!("{}/copy/box", second.address())]).ok();
    assert_eq!(tags.stdout, "1\n");
    coracle.run(&["pull", &target]).ok();
    let archive = coracle.home("box.tar").display().to_string();
    coracle.run(&["save", "--format", "oci", "-o", &archive, &target]).ok();
    let again = format!("{}/copy/again:2", second.address());
    coracle.run(&["copy", &format!("oci-archive:{archive}"), &again]).ok();
    let digest = coracle::oci::Digest::of(&printed);
    let pinned = format!("{}/copy/box@{digest}", second.address());
    coracle.run(&["rm", &pinned]).ok();
    coracle.run(&["manifest", &target]).fails(3, &["copy/box:1"]);
}

#[test]
fn an_index_is_made_of_images_and_pushed_with_them() {
    let (first, second) = (require!(Registry::open()), require!(Registry::open()));
    require!(base::push_busybox(&first));
    let coracle = require!(Coracle::new());
    let image = format!("{}/library/busybox:latest", first.address());
    let name = format!("{}/team/multi:1", second.address());
    coracle.run(&["index", "create", "--annotation", "a=b", &name, &image]).ok();
    coracle.run(&["index", "add", &name, &image]).ok();
    let shown = coracle.run(&["index", "inspect", &name]).ok().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["manifests"].as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!(shown["annotations"]["a"], "b");
    assert!(shown["manifests"][0]["platform"]["architecture"].is_string(), "{shown}");
    coracle.run(&["index", "push", &name]).ok();
    let other = require!(Coracle::new());
    other.run(&["pull", &name]).ok();
    other.run(&["index", "inspect", &name]).fails(2, &["no index"]);
}

#[test]
fn images_are_copied_between_registries_layouts_and_archives() {
    let (first, second) = (require!(Registry::open()), require!(Registry::open()));
    let digest = require!(base::push_busybox(&first));
    let coracle = require!(Coracle::new());
    let source = format!("{}/library/busybox:latest", first.address());
    let path = |name: &str| coracle.home(name).display().to_string();
    let (layout, oci, docker) = (path("layout"), path("oci.tar"), path("docker.tar"));
    let copy = |from: &str, to: &str| coracle.run(&["copy", from, to]).ok();
    copy(&source, &format!("oci:{layout}:one"));
    copy(&source, &format!("oci:{layout}:two"));
    copy(&format!("oci:{layout}:two"), &format!("oci-archive:{oci}:three"));
    copy(&format!("oci-archive:{oci}:three"), &format!("docker-archive:{docker}:a/b:4"));
    // Others read what was written.
    for place in [format!("oci:{layout}:one"), format!("oci-archive:{oci}:three")] {
        let seen = require!(skopeo::inspect(&place));
        assert_eq!(seen["Digest"], digest, "{place}");
    }
    let expected = require_config(&format!("oci:{layout}:one"));
    assert_eq!(require_config(&format!("docker-archive:{docker}:a/b:4")), expected);
    let target = format!("{}/copy/box:1", second.address());
    copy(&format!("oci-archive:{oci}"), &target);
    assert_eq!(Image::from_registry(&second, "copy/box", "1").digest, digest);
    let again = format!("docker://{}/copy/again:1", second.address());
    copy(&format!("docker-archive:{docker}:a/b:4"), &again);
    let image = Image::from_registry(&second, "copy/again", "1");
    assert_eq!(image.config.to_string(), expected.to_string());
    let usage =
        |from: &str, to: &str, words: &[&str]| coracle.run(&["copy", from, to]).fails(2, words);
    usage(&format!("docker-archive:{docker}:x:1"), &target, &["no such image", "a/b:4"]);
    usage(&format!("oci-archive:{}", path("none.tar")), &target, &["none.tar"]);
}

#[track_caller]
fn require_config(place: &str) -> serde_json::Value {
    skopeo::config(place).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_index_is_copied_whole_or_one_image_of_it() {
    let registry = require!(Registry::open());
    let images = ["amd64", "arm64"].map(|architecture| {
        let layer = crate::support::archive::LayerBuilder::new().finish();
        let config = serde_json::json!({"architecture": architecture});
        base::push(&registry, "team/multi", architecture, &[layer], &config)
    });
    let coracle = require!(Coracle::new());
    let address = registry.address();
    let name = format!("{address}/team/multi:all");
    let parts = images.each_ref().map(|digest| format!("{address}/team/multi@{digest}"));
    coracle.run(&["index", "create", &name, &parts[0], &parts[1]]).ok();
    coracle.run(&["index", "push", &name]).ok();
    let layout = coracle.home("layout").display().to_string();
    coracle.run(&["copy", &name, &format!("oci:{layout}:all")]).ok();
    let blobs = std::fs::read_dir(format!("{layout}/blobs/sha256")).expect("a layout").count();
    assert_eq!(blobs, 6, "an index, two manifests, two configs, and their one layer");
    let archive = format!("docker-archive:{}", coracle.home("docker.tar").display());
    let refused = coracle.run(&["copy", &format!("oci:{layout}:all"), &archive]);
    refused.fails(2, &["index", "--platform"]);
    let from = format!("oci:{layout}:all");
    coracle.run(&["copy", "--platform=linux/arm64", &from, &archive]).ok();
    assert_eq!(require_config(&archive)["architecture"], "arm64");
    let one = format!("{address}/team/one:1");
    coracle.run(&["copy", "--platform=linux/arm64", &name, &one]).ok();
    assert_eq!(Image::from_registry(&registry, "team/one", "1").digest, images[1]);
    let all = format!("{address}/team/copied:1");
    coracle.run(&["copy", &from, &all]).ok();
    let bytes = registry.client().manifest("team/copied", "1").expect("it was copied");
    assert_eq!(Some(bytes), registry.client().manifest("team/multi", "all"));
    let missing = ["copy", "--platform=linux/s390x", &from, &one];
    coracle.run(&missing).fails(2, &["linux/s390x"]);
}
