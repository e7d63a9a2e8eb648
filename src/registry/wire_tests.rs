//! The client against registries that misbehave, refuse, break off, lie and send elsewhere.

use std::{fs::File, io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::registry::fake::{Fake, Reply, Seen, reply};
use crate::registry::{
    Client, Config, Credential, CredentialSources, FileBody, HttpError, Login, Mirror,
    Misbehaviour, Offer, PutManifest, RegistryError, Retry, Secret,
};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn config() -> Config {
    let quick = Duration::from_millis(1);
    Config { retry: Retry { first: quick, ..Retry::default() }, ..Config::default() }
}

fn client() -> Client {
    Client::new(config()).expect("a client")
}

/// A client with these entries in its `auths`.
fn client_with(auths: &str) -> Client {
    let inline = Some(Secret::new(format!(r#"{{"auths":{{{auths}}}}}"#)));
    let credentials = CredentialSources { inline, ..CredentialSources::default() };
    Client::new(Config { credentials, ..config() }).expect("a client")
}

fn named(fake: &Fake, rest: &str) -> Reference {
    format!("{}/{rest}", fake.address).parse().expect("a reference")
}

fn manifest(seen: &Seen) -> Reply {
    let whole = reply(200)
        .header("content-type", TYPE)
        .header("docker-content-digest", Digest::of(MANIFEST).to_string());
    if seen.method == "HEAD" {
        whole.header("content-length", MANIFEST.len().to_string())
    } else {
        whole.body(MANIFEST)
    }
}

fn blob(bytes: &[u8]) -> Descriptor {
    let kind = MediaType::from("application/vnd.oci.image.layer.v1.tar+gzip");
    Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64)
}

async fn read(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, RegistryError> {
    client.small_blob(reference, descriptor, 1 << 30).await
}

fn content(bytes: &[u8]) -> FileBody {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    let file: Arc<File> = Arc::new(file);
    FileBody { file, size: bytes.len() as u64, sent: Arc::new(|_| {}) }
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

/// A registry that wants the token `t1` for everything, and the token server that gives it out.
async fn with_tokens(
    grants: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
) -> (Fake, Fake) {
    let tokens = Fake::start(move |seen, _| grants(seen)).await;
    let realm = format!("http://{}/token?k=v", tokens.address);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a/b:pull\"");
    let registry = Fake::start(move |seen, count| match seen.authorization.as_deref() {
        Some("Bearer t1") => answer(seen, count),
        _ => reply(401).header("www-authenticate", challenge.clone()),
    })
    .await;
    (registry, tokens)
}

#[tokio::test]
async fn b024_b030_a_token_is_fetched_once_and_used_for_all_that_it_covers() {
    let (registry, tokens) = with_tokens(
        |_| reply(200).body(r#"{"token":"t1","expires_in":300}"#),
        |seen, _| manifest(seen),
    )
    .await;
    let (client, reference) = (client(), named(&registry, "a/b:1"));
    for _ in 0..3 {
        client.resolve(&reference).await.expect("resolved");
    }
    assert_eq!(tokens.requests(), ["GET /token?k=v&service=s&scope=repository%3Aa%2Fb%3Apull"]);
    assert_eq!(registry.requests().len(), 4, "one 401 is enough: {:?}", registry.requests());
    assert_eq!(tokens.seen()[0].authorization, None);
}

#[tokio::test]
async fn b027_credentials_go_to_the_token_server_alone() {
    let (registry, tokens) =
        with_tokens(|_| reply(200).body(r#"{"access_token":"t1"}"#), |seen, _| manifest(seen))
            .await;
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, registry.address));
    client.resolve(&named(&registry, "a/b:1")).await.expect("resolved");
    let asked = &tokens.seen()[0];
    assert_eq!(asked.authorization.as_deref(), Some("Basic dTpw"));
    assert!(asked.path.contains("account=u"), "{asked:?}");
    let shown: Vec<_> = registry.seen().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(shown, [None, Some("Bearer t1".to_owned())]);
}

#[tokio::test]
async fn b027_an_identity_token_is_posted_and_where_that_is_unknown_sent_as_a_password() {
    for status in [200, 400, 401, 403, 404, 405] {
        let (registry, tokens) = with_tokens(
            move |seen| match (seen.method.as_str(), status) {
                ("POST", 200) | ("GET", _) => reply(200).body(r#"{"access_token":"t1"}"#),
                _ => reply(status),
            },
            |seen, _| manifest(seen),
        )
        .await;
        let entry = format!(r#""{}":{{"auth":"dTo=","identitytoken":"secret"}}"#, registry.address);
        client_with(&entry).resolve(&named(&registry, "a/b:1")).await.expect("resolved");
        let asked = tokens.seen();
        let form = String::from_utf8_lossy(&asked[0].body).into_owned();
        assert!(form.contains("grant_type=refresh_token") && form.contains("refresh_token=secret"));
        assert!(!asked[0].path.contains("secret"));
        assert_eq!(asked.len(), if status == 200 { 1 } else { 2 }, "{status}");
        if let Some(get) = asked.get(1) {
            assert_eq!(get.authorization.as_deref(), Some("Basic dTpzZWNyZXQ="));
        }
    }
}

#[tokio::test]
async fn b028_b042_what_a_token_server_may_answer() {
    let check = async |answer: Reply, matches: fn(&RegistryError) -> bool| {
        let (registry, _tokens) =
            with_tokens(move |_| answer.clone(), |seen, _| manifest(seen)).await;
        let error = client().resolve(&named(&registry, "a/b:1")).await.expect_err("refused");
        assert!(matches(&error), "{error:?}");
        error
    };
    let anonymous = |error: &RegistryError| {
        matches!(error, RegistryError::Unauthorized { login: Login::Anonymous, .. })
    };
    let error = check(reply(401).body(r#"{"details":"no"}"#), anonymous).await;
    assert!(error.to_string().contains("may require authorization: no"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("coracle login 127.0.0.1")));
    check(reply(403), anonymous).await;
    check(reply(200).body("{}"), |error| {
        matches!(error, RegistryError::Misbehaved { source: Misbehaviour::NoToken, .. })
    })
    .await;
    // A token that the registry refuses is fetched anew once, and then that is that (B033).
    check(reply(200).body(r#"{"token":"other"}"#), anonymous).await;
}

#[tokio::test]
async fn b033_an_expired_token_is_replaced_and_never_more_than_once() {
    let fake = Fake::start(|seen, count| {
        if seen.path.starts_with("/token") {
            return reply(200).body(format!(r#"{{"token":"t{count}"}}"#));
        }
        match seen.authorization.as_deref() {
            Some("Bearer t1") => manifest(seen),
            Some(_) => reply(401).header(
                "www-authenticate",
                "Bearer error=\"invalid_token\",realm=\"http://SELF/token\"",
            ),
            None => reply(401).header("www-authenticate", "Bearer realm=\"http://SELF/token\""),
        }
    })
    .await;
    let (client, reference) = (client(), named(&fake, "a/b:1"));
    // The first token is refused at once, which ends the first request.
    client.resolve(&reference).await.expect_err("t0 is refused");
    client.resolve(&reference).await.expect("t1 is taken");
    let heads = fake.requests().iter().filter(|it| it.starts_with("HEAD")).count();
    assert_eq!(heads, 3, "{:?}", fake.requests());
}

#[tokio::test]
async fn b020_a_bare_401_is_explained_by_a_ping() {
    let fake = Fake::start(|seen, _| match (seen.path.as_str(), seen.authorization.as_deref()) {
        ("/v2/", _) => reply(401).header("www-authenticate", "Basic realm=\"x\""),
        (_, Some("Basic dTpw")) => manifest(seen),
        _ => reply(401),
    })
    .await;
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, fake.address));
    client.resolve(&named(&fake, "a/b:1")).await.expect("resolved");
    let error = self::client().resolve(&named(&fake, "a/b:1")).await.expect_err("anonymous");
    assert!(error.to_string().contains("no basic auth credentials"), "{error}");
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
    assert!(fake.seen().len() <= 5);

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
    match client.offer(&target, &descriptor, None).await? {
        Offer::Wanted(session) => {
            client.upload(&target, &descriptor, &content(bytes), session).await
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
async fn b080_a_put_that_fails_begins_a_new_session() {
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
        let offer = client.offer(&target, &descriptor, Some(&from)).await.expect("an answer");
        match offer {
            Offer::Mounted => assert_eq!(status, 201),
            Offer::Existing => panic!("it is not there"),
            Offer::Wanted(session) => {
                assert_ne!(status, 201);
                let content = content(b"bytes");
                client.upload(&target, &descriptor, &content, session).await.expect("uploaded");
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
    assert!(refused.hint().is_some_and(|hint| hint.contains("--format docker")), "{refused}");
}

#[tokio::test]
async fn a_login_is_checked_with_the_registry() {
    let fake = Fake::start(|seen, _| match seen.authorization.as_deref() {
        Some("Basic dTpw") => reply(200),
        _ => reply(401).header("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = client();
    client.check_login(&fake.address, &Credential::basic("u", "p")).await.expect("taken");
    let error = client.check_login(&fake.address, &Credential::basic("u", "hunter2")).await;
    let error = error.expect_err("refused");
    assert!(matches!(error, RegistryError::Unauthorized { login: Login::Known, .. }), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
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
