//! Manifests and blobs on their way out.

use std::{fs::File, io::Write as _, sync::Arc};

use crate::oci::{Digest, MediaType};
use crate::registry::tests::fake::{Fake, Reply, Seen, reply};
use crate::registry::tests::{MANIFEST, blob, client, client_with, manifest, named};
use crate::registry::{Client, FileBody, Offer, PutManifest, RegistryError};

pub(crate) fn content(bytes: &[u8]) -> FileBody {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    let file: Arc<File> = Arc::new(file);
    FileBody { file, start: 0, size: bytes.len() as u64, sent: Arc::new(|_| {}) }
}

/// A registry that lacks all blobs, and takes uploads.
fn taking(seen: &Seen) -> Reply {
    match seen.method.as_str() {
        "HEAD" => reply(404),
        "POST" => reply(202).header("location", "/v2/a/up/1?_state=x%3D"),
        "PUT" => reply(201),
        _ => reply(204),
    }
}

async fn push(client: &Client, fake: &Fake, bytes: &[u8]) -> Result<(), RegistryError> {
    let (target, descriptor) = (named(fake, "a:1"), blob(bytes));
    match client.offer(&target, &descriptor, &[]).await? {
        Offer::Wanted(session) => {
            client.upload(&target, &descriptor, &content(bytes), session, &|_| {}).await
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn b068_b073_an_upload_is_a_head_a_post_and_a_put() {
    for bytes in [vec![5_u8; 700_000], Vec::new()] {
        let fake = Fake::start(|seen, _| taking(seen)).await;
        push(&client(), &fake, &bytes).await.expect("uploaded");
        let digest = Digest::of(&bytes);
        let expected = [
            format!("HEAD /v2/a/blobs/{digest}"),
            "POST /v2/a/blobs/uploads/".to_owned(),
            format!("PUT /v2/a/up/1?_state=x%3D&digest=sha256%3A{}", digest.hex()),
        ];
        assert_eq!(fake.requests(), expected);
        assert_eq!(fake.seen()[2].body, bytes);
    }
}

#[tokio::test]
async fn b079_b080_b093_a_put_that_fails_begins_a_new_session() {
    let fake = Fake::start(|seen, count| match (seen.method.as_str(), count) {
        ("PUT", 0) => reply(500),
        ("PUT", 1) => reply(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
        _ => taking(seen),
    })
    .await;
    push(&client(), &fake, b"bytes").await.expect("uploaded");
    let of = |method: &str| fake.seen().iter().filter(|seen| seen.method == method).count();
    assert_eq!((of("HEAD"), of("POST"), of("PUT")), (3, 3, 3));

    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "PUT" => reply(400).body(r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#),
        _ => taking(seen),
    })
    .await;
    let error = push(&client(), &fake, b"bytes").await.expect_err("refused");
    assert!(error.to_string().contains("no (DIGEST_INVALID)"), "{error}");
    assert_eq!(fake.requests().last().map(String::as_str), Some("DELETE /v2/a/up/1?_state=x%3D"));
}

#[tokio::test]
async fn b068_b070_locations_that_cannot_be_used() {
    for location in [None, Some("http://169.254.169.254/latest"), Some("ftp://x/y")] {
        let fake = Fake::start(move |seen, _| match (seen.method.as_str(), location) {
            ("POST", None) => reply(202),
            ("POST", Some(location)) => reply(202).header("location", location),
            _ => taking(seen),
        })
        .await;
        let error = push(&client(), &fake, b"bytes").await.expect_err("nowhere to go");
        assert!(matches!(error, RegistryError::Misbehaved { .. }), "{error}");
    }
}

#[tokio::test]
async fn b070_no_authorization_goes_to_signed_storage() {
    let storage = Fake::start(|_, _| reply(200)).await;
    let to = format!("http://{}/bucket?sig=a%2Fb", storage.address);
    let registry =
        Fake::start(move |seen, _| match (seen.authorization.is_some(), &*seen.method) {
            (false, _) => reply(401).header("www-authenticate", "Basic realm=\"x\""),
            (true, "POST") => reply(202).header("location", to.clone()),
            (true, _) => taking(seen),
        })
        .await;
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, registry.address));
    push(&client, &registry, b"bytes").await.expect("uploaded");
    let put = &storage.seen()[0];
    assert_eq!((put.authorization.as_deref(), &put.body[..]), (None, &b"bytes"[..]));
    assert!(put.path.starts_with("/bucket?sig=a%2Fb&digest="), "{}", put.path);
}

#[tokio::test]
async fn b066_a_mount_that_fails_never_fails_the_push() {
    for status in [201, 202, 400, 401, 403, 404, 405, 500] {
        let fake = Fake::start(move |seen, _| match seen.path.contains("mount=") {
            true if status == 202 => reply(202).header("location", "/v2/a/up/mounted"),
            true => reply(status),
            false => taking(seen),
        })
        .await;
        let (client, target) = (client(), named(&fake, "a:1"));
        let from = named(&fake, "base/python:3");
        let descriptor = blob(b"bytes");
        let offer = client.offer(&target, &descriptor, &[from]).await.expect("an answer");
        match offer {
            Offer::Mounted(_) => assert_eq!(status, 201),
            Offer::Existing => panic!("it is not there"),
            Offer::Wanted(session) => {
                assert_ne!(status, 201);
                let content = content(b"bytes");
                client
                    .upload(&target, &descriptor, &content, session, &|_| {})
                    .await
                    .expect("uploaded");
                let put = fake.requests().into_iter().find(|it| it.starts_with("PUT"));
                let used = put.is_some_and(|put| put.contains("/up/mounted"));
                assert_eq!(used, status == 202, "the session of a failed mount is used");
            }
        }
        let mount = format!("mount={}&from=base/python", descriptor.digest);
        assert!(fake.requests().iter().any(|it| it.contains(&mount)), "{:?}", fake.requests());
    }
}

#[tokio::test]
async fn b082_b089_a_manifest_is_put_as_it_is_unless_the_tag_means_it() {
    let fake = Fake::start(|seen, _| match (&*seen.method, &*seen.path) {
        ("HEAD", "/v2/a/manifests/old") => manifest(seen),
        ("HEAD", _) => reply(404),
        (_, "/v2/a/manifests/liar") => {
            reply(201).header("docker-content-digest", Digest::of("other").to_string())
        }
        (_, "/v2/a/manifests/choosy") => {
            reply(400).body(r#"{"errors":[{"code":"MANIFEST_INVALID","message":"what?"}]}"#)
        }
        _ => reply(201),
    })
    .await;
    let (client, target) = (client(), named(&fake, "a:1"));
    let put = async |name: &str| {
        client.put_manifest(&target, name, &MediaType::OciManifest, MANIFEST.as_bytes()).await
    };
    assert_eq!(put("old").await.expect("there"), PutManifest::Existing);
    assert_eq!(put("new").await.expect("put"), PutManifest::Written);
    let sent = fake.seen().into_iter().find(|seen| seen.method == "PUT").expect("sent");
    assert_eq!(sent.body, MANIFEST.as_bytes());
    assert!(matches!(put("liar").await, Err(RegistryError::Misbehaved { .. })));
    let refused = put("choosy").await.expect_err("refused");
    assert!(refused.hint().is_some_and(|hint| hint.contains("OCI images")), "{refused}");
}
