//! Rules about whole images, with a store and no registry, or one that says what a test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::oci::{
    Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, MediaType, Platform, Reference,
};
use crate::progress::{Progress, Silent};
use crate::registry::tests::client;
use crate::registry::tests::fake::{Fake, reply};
use crate::store::Store;
use crate::transfer::tests::push;
use crate::transfer::{TransferError, find};

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&directory.path().join("store")).expect("a store");
    (directory, store)
}

fn layer(store: &Store, kind: &str) -> Descriptor {
    store.put(kind.as_bytes(), MediaType::from(kind)).expect("stored")
}

fn image(store: &Store, layers: Vec<Descriptor>, diff_ids: usize, os: &str) -> Descriptor {
    let platform = Platform { os: os.to_owned(), ..Platform::host() };
    let mut config = ImageConfig { platform, ..ImageConfig::default() };
    config.rootfs.diff_ids = vec![DiffId(Digest::of("x")); diff_ids];
    let config = Document::new(config);
    let config = store.put(config.bytes(), MediaType::OciConfig).expect("stored");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    store.put(Document::new(manifest).bytes(), MediaType::OciManifest).expect("stored")
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[test]
fn b050_as_many_layers_as_the_config_says() {
    let (_directory, store) = store();
    let name: Reference = "a:1".parse().expect("a reference");
    let image = image(&store, vec![layer(&store, LAYER)], 2, "linux");
    store.tag(&name, &image).expect("tagged");
    let error = find(&store, &name, &Platform::host()).expect_err("one is missing");
    assert!(matches!(error, TransferError::LayerCount { layers: 1, diff_ids: 2, .. }), "{error}");
}

#[test]
fn b054_a_lone_image_for_something_else_is_a_warning() {
    let (_directory, store) = store();
    let name: Reference = "a:1".parse().expect("a reference");
    for (os, warns) in [("linux", false), ("windows", true)] {
        store.tag(&name, &image(&store, Vec::new(), 0, os)).expect("tagged");
        let found = find(&store, &name, &Platform::host()).expect("readable").expect("there");
        let warning = found.other_platform(&Platform::host());
        assert_eq!(warning.is_some_and(|text| text.contains("windows")), warns);
    }
}

#[tokio::test]
async fn b055_foreign_layers_stay_where_they_are() {
    let (_directory, store) = store();
    let mut foreign = layer(&store, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    foreign.urls = vec!["https://x.example/layer".to_owned()];
    let own = layer(&store, LAYER);
    let image = image(&store, vec![foreign.clone(), own.clone()], 2, "linux");
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "HEAD" => reply(404),
        "POST" => reply(202).header("location", "/v2/a/up/1"),
        _ => reply(201),
    })
    .await;
    let target = [format!("{}/a:1", fake.address).parse().expect("a reference")];
    let progress: Arc<dyn Progress> = Arc::new(Silent);
    push(&client(), &store, &image, &target, &BTreeMap::new(), &progress).await.expect("pushed");
    let asked = fake.requests().join("\n");
    assert!(!asked.contains(&foreign.digest.hex()) && asked.contains(&own.digest.hex()), "{asked}");
}

#[tokio::test]
async fn b085_a_registry_that_does_not_see_its_blobs_yet_is_given_them_again() {
    let (_directory, store) = store();
    let image = image(&store, vec![layer(&store, LAYER)], 1, "linux");
    let refused: Mutex<bool> = Mutex::new(false);
    let fake = Fake::start(move |seen, count| match (seen.method.as_str(), &*seen.path) {
        ("HEAD", path) if path.contains("/blobs/") && count > 0 => reply(200),
        ("HEAD", _) => reply(404),
        ("POST", _) => reply(202).header("location", "/v2/a/up/1"),
        ("PUT", path) if path.contains("/manifests/") => {
            let mut refused = refused.lock().expect("no panic while locked");
            if std::mem::replace(&mut *refused, true) {
                return reply(201);
            }
            reply(400).body(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#)
        }
        _ => reply(201),
    })
    .await;
    let target = [format!("{}/a:1", fake.address).parse().expect("a reference")];
    let progress: Arc<dyn Progress> = Arc::new(Silent);
    let pushed = push(&client(), &store, &image, &target, &BTreeMap::new(), &progress).await;
    assert_eq!(pushed.expect("pushed")[0].existing, 2);
}
