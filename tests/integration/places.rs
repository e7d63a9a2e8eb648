//! The places where builds run: the same image comes out of each, and `doctor` knows where it is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Image;
use crate::support::Place;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::finish;
use crate::support::place::Kind;
use crate::support::pod::Manifest;
use crate::support::pod::Pod;
use crate::support::requirement::require;
use crate::support::stand_in;
use crate::support::stand_in::PackageServer;

#[test]
fn the_founding_example_is_the_same_image_in_all_seven() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    let context = packages.context();
    let mirror = registry.as_docker_hub();
    let mut digests = BTreeMap::new();
    for kind in Kind::ALL {
        let mut place = require!(Place::new(kind));
        place.set("SOURCE_DATE_EPOCH", "0");
        let directory = place.copy(context.path(), "context");
        let name = format!("{}/team/hello:{kind:?}", registry.address()).to_lowercase();
        let build = ["build", "--registry-mirror", &mirror, "-t", &name, "--push", &directory];
        let output = place.run(&build).ok();
        let isolation = format!("isolation: {},", kind.isolation());
        assert!(output.text().contains(&isolation), "{kind:?}: {output}");
        let tag = format!("{kind:?}").to_lowercase();
        let image = Image::from_registry(&registry, "team/hello", &tag);
        assert!(image.top().contains_key("usr/local/bin/helloworld"), "{kind:?}");
        digests.insert(kind, image.digest);
        place.assert_nothing_left();
    }
    let first = &digests[&Kind::Root];
    assert!(digests.values().all(|digest| digest == first), "{digests:#?}");
}

/// `doctor` names the way that is the best there, and exits with success as commands will run.
fn check_doctor(kind: Kind) {
    let place = require!(Place::new(kind));
    let (report, code) = place.doctor::<&str>(&[]);
    assert_eq!(report["isolation"], kind.isolation(), "{report:#}");
    assert_eq!(report["identity"]["kind"], kind.identity(), "{report:#}");
    assert_eq!((&report["runs_commands"], code), (&Value::Bool(true), 0), "{report:#}");
    // Everything better is named, with a reason, and with a way to it if there is one.
    for better in report["better"].as_array().expect("a list") {
        let lacks = better["lacks"].as_array().expect("a list");
        assert!(!lacks.is_empty(), "{better:#}");
        assert!(lacks.iter().all(|lack| lack["reason"].is_string()), "{better:#}");
    }
    let store = &report["store"];
    assert!(store["free"].as_u64().is_some_and(|free| free > 0), "{store}");
    assert!(store["type"].is_string() && store["noexec"] == false, "{store}");
    // The same in words.
    let text = place.run(&["doctor"]).ok();
    let headline = format!("Commands will run. Isolation: {}, ", kind.isolation());
    assert!(text.stdout.starts_with(&headline), "{text}");
    place.assert_nothing_left();
}

#[test]
fn doctor_as_root() {
    check_doctor(Kind::Root);
}

#[test]
fn doctor_with_subordinate_ids() {
    check_doctor(Kind::Subordinate);
}

#[test]
fn doctor_without_subordinate_ids() {
    check_doctor(Kind::Single);
}

#[test]
fn doctor_in_a_pod_as_root() {
    check_doctor(Kind::RootPod);
}

#[test]
fn doctor_in_a_restricted_pod() {
    check_doctor(Kind::RestrictedPod);
}

#[test]
fn doctor_in_a_pod_with_users_of_its_own() {
    check_doctor(Kind::OwnUsersPod);
}

#[test]
fn doctor_where_no_namespaces_are_allowed() {
    check_doctor(Kind::NoNamespaces);
}
