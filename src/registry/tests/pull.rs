//! Manifests and blobs on their way in, redirects, retries and mirrors.

use bytes::Bytes;

use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::registry::tests::fake::{Fake, reply};
use crate::registry::tests::{MANIFEST, TYPE, blob, client, client_with, config, manifest, named};
use crate::registry::{
    Client, Config, CredentialSources, HttpError, Mirror, Misbehaviour, RegistryError, Secret,
};

async fn read(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, RegistryError> {
    client.small_blob(reference, descriptor, 1 << 30).await
}

#[tokio::test]
async fn b046_a_tag_costs_one_head() {
    let fake = Fake::start(|seen, _| manifest(seen)).await;
    let resolved = client().resolve(&named(&fake, "a/b:1")).await.expect("resolved");
    assert_eq!(resolved.descriptor.digest, Digest::of(MANIFEST));
    assert_eq!(resolved.bytes, None);
    assert_eq!(fake.requests(), ["HEAD /v2/a/b/manifests/1"]);
}

#[tokio::test]
async fn b046_where_a_head_does_not_tell_a_get_does() {
    for status in [405, 200] {
        let fake = Fake::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => reply(status),
            _ => reply(200).header("content-type", "text/plain").body(MANIFEST),
        })
        .await;
        let resolved = client().resolve(&named(&fake, "a/b:1")).await.expect("resolved");
        assert_eq!(resolved.descriptor.media_type, MediaType::OciManifest);
        assert_eq!(resolved.bytes.as_deref(), Some(MANIFEST.as_bytes()));
    }
}

#[tokio::test]
async fn b047_another_manifest_than_promised_is_refused() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "HEAD" => manifest(seen),
        _ => reply(200).header("content-type", TYPE).body(MANIFEST.replace(':', ": ")),
    })
    .await;
    let (client, reference) = (client(), named(&fake, "a/b:1"));
    let resolved = client.resolve(&reference).await.expect("resolved");
    let error = client.manifest(&reference, &resolved.descriptor).await.expect_err("another one");
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn b049_a_manifest_without_end_is_not_read_to_it() {
    let fake = Fake::start(|_, _| reply(200).body(vec![b' '; 5 << 20])).await;
    let reference = named(&fake, &format!("a@{}", Digest::of("x")));
    let error = client().resolve(&reference).await.expect_err("too large");
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn b012_authorization_does_not_follow_a_redirect_to_another_port() {
    let bytes = b"the layer".as_slice();
    let storage = Fake::start(move |_, _| reply(200).body(bytes)).await;
    let to = format!("http://{}/signed?sig=1", storage.address);
    let registry = Fake::start(move |seen, _| match seen.authorization {
        None => reply(401).header("www-authenticate", "Basic realm=\"x\""),
        Some(_) => reply(307).header("location", to.clone()),
    })
    .await;
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, registry.address));
    let read = read(&client, &named(&registry, "a/b:1"), &blob(bytes)).await;
    assert_eq!(read.expect("read"), bytes);
    assert_eq!(storage.seen()[0].authorization, None);
}

#[tokio::test]
async fn b016_a_401_of_the_storage_is_no_challenge_for_us() {
    let storage =
        Fake::start(|_, _| reply(401).header("www-authenticate", "Basic realm=\"phish\"")).await;
    let to = format!("http://{}/x?sig=secret", storage.address);
    let registry = Fake::start(move |_, _| reply(302).header("location", to.clone())).await;
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, registry.address));
    let error = read(&client, &named(&registry, "a:1"), &blob(b"x")).await.expect_err("refused");
    assert!(matches!(error, RegistryError::Unauthorized { .. }));
    assert_eq!((storage.seen().len(), storage.seen()[0].authorization.clone()), (1, None));
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn b011_redirects_come_to_an_end() {
    let fake = Fake::start(|_, _| reply(302).header("location", "/v2/again")).await;
    let error = client().resolve(&named(&fake, "a:1")).await.expect_err("no end");
    let RegistryError::Unreachable { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, HttpError::Redirect { .. }), "{source}");
    assert_eq!(fake.seen().len(), 11);
}

#[tokio::test]
async fn b092_b096_trouble_is_waited_out_and_a_long_limit_is_not() {
    let fake = Fake::start(|seen, count| match count {
        0 => reply(503).header("retry-after", "0"),
        1 => reply(429),
        _ => manifest(seen),
    })
    .await;
    client().resolve(&named(&fake, "a:1")).await.expect("resolved");
    assert_eq!(fake.seen().len(), 3);

    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    for headers in [None, Some("7200")] {
        let fake = Fake::start(move |seen, _| {
            let refused = reply(429).header("retry-after", headers.unwrap_or("1"));
            // HEAD has no body, so only the header or the GET after it can say so.
            if seen.method == "HEAD" && headers.is_none() {
                reply(405)
            } else {
                refused.body(limit)
            }
        })
        .await;
        let error = client().resolve(&named(&fake, "a:1")).await.expect_err("limited");
        assert!(matches!(error, RegistryError::RateLimited { .. }), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("login")));
        assert_eq!(fake.seen().len(), 2, "{:?}", fake.requests());
    }
}

#[tokio::test]
async fn b057_a_broken_body_is_gone_on_with() {
    let bytes = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    for heeds_ranges in [true, false] {
        let whole = bytes.clone();
        let fake = Fake::start(move |seen, count| {
            let start: usize = match &seen.range {
                Some(range) if heeds_ranges => {
                    let text = range.trim_start_matches("bytes=").trim_end_matches('-');
                    text.parse().expect("a number")
                }
                _ => 0,
            };
            let rest = whole.slice(start..);
            let answer = if start > 0 {
                let end = whole.len();
                reply(206).header("content-range", format!("bytes {start}-{}/{end}", end - 1))
            } else {
                reply(200)
            };
            // Each time twice as much, so that a server without ranges is come to an end with too.
            if count < 3 { answer.body(rest).cut(60_000 << count) } else { answer.body(rest) }
        })
        .await;
        let read = read(&client(), &named(&fake, "a:1"), &blob(&bytes)).await;
        assert_eq!(read.expect("read"), bytes, "{heeds_ranges}");
        assert!(fake.seen().len() >= 3);
        assert!(fake.seen()[1].range.as_deref().is_some_and(|it| it != "bytes=0-"));
    }
}

#[tokio::test]
async fn b057_b058_a_server_that_never_gets_anywhere_is_given_up() {
    let bytes = Bytes::from(vec![7; 10_000]);
    let whole = bytes.clone();
    let fake = Fake::start(move |_, _| reply(200).body(whole.clone()).cut(100)).await;
    let error = read(&client(), &named(&fake, "a:1"), &blob(&bytes)).await.expect_err("broken");
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    assert!(fake.seen().len() <= 10);

    let fake =
        Fake::start(|_, _| reply(206).header("content-range", "bytes 5-9/10").body("12345")).await;
    let error = read(&client(), &named(&fake, "a:1"), &blob(&bytes)).await.expect_err("a range");
    let bad_range = |it: &RegistryError| {
        matches!(it, RegistryError::Misbehaved { source: Misbehaviour::BadRange { .. }, .. })
    };
    assert!(bad_range(&error), "{error}");
}

#[tokio::test]
async fn b048_a_blob_that_is_another_longer_or_shorter_is_refused() {
    let check = async |sent: &'static [u8], promised: &[u8], is_size: bool| {
        let fake = Fake::start(move |_, _| reply(200).body(sent)).await;
        let error = read(&client(), &named(&fake, "a:1"), &blob(promised)).await.expect_err("bad");
        assert_eq!(matches!(error, RegistryError::SizeMismatch { .. }), is_size, "{error}");
        assert_eq!(matches!(error, RegistryError::DigestMismatch { .. }), !is_size, "{error}");
        assert_eq!(fake.seen().len(), 1, "a wrong blob is not asked for again");
    };
    check(b"abc", b"abd", false).await;
    check(b"abcd", b"abc", true).await;
    check(b"ab", b"abc", true).await;
    check(b"", b"abc", true).await;
}

#[tokio::test]
async fn b090_an_empty_blob_is_not_asked_for() {
    let fake = Fake::start(|_, _| reply(500)).await;
    let read = read(&client(), &named(&fake, "a:1"), &blob(b"")).await;
    assert_eq!(read.expect("nothing"), b"");
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn b109_b113_mirrors_come_first_and_see_no_credentials_of_the_registry() {
    let has_not = Fake::start(|_, _| reply(404)).await;
    let has = Fake::start(|seen, _| {
        if seen.authorization.is_none() {
            return reply(401).header("www-authenticate", "Basic realm=\"give me\"");
        }
        manifest(seen)
    })
    .await;
    let mirror = |fake: &Fake, prefix: &str| -> Mirror {
        format!("docker.io=http://{}{prefix}", fake.address).parse().expect("a mirror")
    };
    let unreachable: Mirror = "docker.io=http://127.0.0.1:1".parse().expect("a mirror");
    let auths = format!(
        r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"aHViOnNlY3JldA=="}},"{}":{{"auth":"dTpw"}}}}}}"#,
        has.address
    );
    let credentials =
        CredentialSources { inline: Some(Secret::new(auths)), ..CredentialSources::default() };
    let mirrors = vec![unreachable, mirror(&has_not, "/hub"), mirror(&has, "")];
    let client = Client::new(Config { mirrors, credentials, ..config() }).expect("a client");
    let reference: Reference = "python:3".parse().expect("a reference");
    client.resolve(&reference).await.expect("the third has it");
    client.resolve(&reference).await.expect("still");
    assert_eq!(has_not.requests()[0], "HEAD /v2/hub/library/python/manifests/3");
    assert!(has_not.seen().iter().all(|seen| seen.authorization.is_none()));
    let shown: Vec<_> = has.seen().into_iter().filter_map(|seen| seen.authorization).collect();
    assert_eq!(shown, ["Basic dTpw", "Basic dTpw"]);
    let warnings = client.take_warnings();
    assert!(matches!(&warnings[..], [one] if one.contains("127.0.0.1:1")), "{warnings:?}");
    assert!(client.take_warnings().is_empty());
}

#[tokio::test]
async fn b113_a_mirror_that_lies_is_not_passed_over() {
    let liar = Fake::start(|_, _| reply(200).header("content-type", TYPE).body("{}")).await;
    let honest = Fake::start(|seen, _| manifest(seen)).await;
    let mirror = format!("{}=http://{}", honest.address, liar.address).parse().expect("a mirror");
    let client = Client::new(Config { mirrors: vec![mirror], ..config() }).expect("a client");
    let digest = Digest::of(MANIFEST);
    let error = client.resolve(&named(&honest, &format!("a@{digest}"))).await.expect_err("a lie");
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
    assert!(honest.seen().is_empty());
}

#[tokio::test]
async fn b017_warnings_are_told_once() {
    let fake =
        Fake::start(|seen, _| manifest(seen).header("warning", "299 - \"moving soon\"")).await;
    let client = client();
    for _ in 0..2 {
        client.resolve(&named(&fake, "a:1")).await.expect("resolved");
    }
    let warnings = client.take_warnings();
    assert!(matches!(&warnings[..], [one] if one.contains("moving soon")), "{warnings:?}");
}
