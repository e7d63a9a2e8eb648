//! Commands about what registries hold: lists, manifests, copies, removal, indexes.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::base;
use crate::support::requirement::require;

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
