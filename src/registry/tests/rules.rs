//! Rules of the protocol that fit nowhere else, each by its number.

use std::time::Duration;

use bytes::Bytes;

use crate::oci::MediaType;
use crate::registry::tests::fake::{Fake, reply};
use crate::registry::tests::push::content;
use crate::registry::tests::{MANIFEST, blob, client, client_with, config, manifest, named};
use crate::registry::{
    Client, Config, Credential, CredentialSources, HttpError, Mirror, Offer, RegistryError, Retry,
    Secret, Session,
};

#[tokio::test]
async fn b014_a_broken_signed_download_begins_at_the_registry_again() {
    let bytes = Bytes::from(vec![7; 50_000]);
    let whole = bytes.clone();
    let storage = Fake::start(move |seen, _| match &seen.range {
        None => reply(200).body(whole.clone()).cut(20_000),
        Some(range) => {
            let start: usize =
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a start");
            let said = format!("bytes {start}-49999/50000");
            reply(206).header("content-range", said).body(whole.slice(start..))
        }
    })
    .await;
    let to = format!("http://{}/signed?sig=", storage.address);
    let registry =
        Fake::start(move |_, count| reply(307).header("location", format!("{to}{count}"))).await;
    let read = client().small_blob(&named(&registry, "a:1"), &blob(&bytes), 1 << 20).await;
    assert_eq!(read.expect("read"), bytes);
    let asked: Vec<_> = storage.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked, ["/signed?sig=0", "/signed?sig=1"]);
}

#[tokio::test]
async fn b019_a_ping_needs_no_version_header_and_its_failure_names_the_host() {
    let credential = Credential::basic("u", "p");
    let open = Fake::start(|_, _| reply(200)).await;
    client().check_login(&open.address, &credential).await.expect("nothing is asked for");
    let broken = Fake::start(|_, _| reply(418)).await;
    let error = client().check_login(&broken.address, &credential).await.expect_err("a teapot");
    assert!(error.to_string().contains(&broken.address), "{error}");
}

#[tokio::test]
async fn b031_b033_b110_a_token_that_expires_during_an_upload_is_fetched_anew_with_fresh_credentials()
 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("auth.json");
    let login = {
        let path = path.clone();
        move |address: &str, auth: &str| {
            let text = format!(r#"{{"auths":{{"{address}":{{"auth":"{auth}"}}}}}}"#);
            std::fs::write(&path, text).expect("written");
        }
    };
    let fake = Fake::start(|seen, count| {
        if seen.path.starts_with("/token") {
            return reply(200).body(format!(r#"{{"token":"t{count}"}}"#));
        }
        let challenge = "Bearer realm=\"http://SELF/token\",error=\"invalid_token\"";
        match (seen.authorization.as_deref(), seen.method.as_str()) {
            (None, _) | (Some("Bearer t0"), "PUT") => {
                reply(401).header("www-authenticate", challenge)
            }
            (_, "HEAD") => reply(404),
            (_, "POST") => reply(202).header("location", "/v2/a/up/1"),
            _ => reply(201),
        }
    })
    .await;
    login(&fake.address, "dTpw");
    let sources = CredentialSources { files: vec![path.clone()], ..CredentialSources::default() };
    let client = Client::new(Config { credentials: sources, ..config() }).expect("a client");
    let (target, bytes) = (named(&fake, "a:1"), b"bytes".as_slice());
    let offer = client.offer(&target, &blob(bytes), &[]).await.expect("an answer");
    assert!(matches!(offer, Offer::Wanted(_)));
    login(&fake.address, "dTpuZXc=");
    let (descriptor, body) = (blob(bytes), content(bytes));
    let sent = client.upload(&target, &descriptor, &body, Session::default(), &|_| {});
    sent.await.expect("uploaded");
    let asked = fake.seen().into_iter().filter(|seen| seen.path.starts_with("/token"));
    let shown: Vec<_> = asked.filter_map(|seen| seen.authorization).collect();
    assert_eq!(shown, ["Basic dTpw", "Basic dTpuZXc="]);
    let bodies = fake.seen().into_iter().filter(|seen| seen.method == "PUT");
    assert_eq!(bodies.map(|seen| seen.body).collect::<Vec<_>>(), [bytes, bytes]);
}

#[tokio::test]
async fn b039_a_registry_token_is_shown_as_it_is() {
    let fake = Fake::start(|seen, _| match seen.authorization.as_deref() {
        Some("Bearer given") => manifest(seen),
        _ => reply(401).header("www-authenticate", "Bearer realm=\"http://SELF/token\""),
    })
    .await;
    let client = client_with(&format!(r#""{}":{{"registrytoken":"given"}}"#, fake.address));
    client.resolve(&named(&fake, "a:1")).await.expect("resolved");
    assert!(fake.requests().iter().all(|request| !request.contains("/token")));
}

#[tokio::test]
async fn b017_b043_every_kind_of_manifest_is_accepted_and_we_say_who_we_are() {
    let fake = Fake::start(|seen, _| manifest(seen)).await;
    client().resolve(&named(&fake, "a:1")).await.expect("resolved");
    let seen = &fake.seen()[0];
    let accept = seen.header("accept").expect("it says so");
    for kind in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        assert!(accept.contains(kind), "no {kind} in {accept}");
    }
    assert!(seen.header("user-agent").is_some_and(|it| it.starts_with("coracle/")));
}

#[tokio::test]
async fn b055_a_foreign_layer_is_fetched_from_its_url_without_credentials() {
    let bytes = b"foreign".as_slice();
    let elsewhere = Fake::start(move |_, _| reply(200).body(bytes)).await;
    let registry = Fake::start(|seen, _| match seen.authorization {
        None => reply(401).header("www-authenticate", "Basic realm=\"x\""),
        Some(_) => manifest(seen),
    })
    .await;
    let auth = r#"{"auth":"dTpw"}"#;
    let client =
        client_with(&format!(r#""{}":{auth},"{}":{auth}"#, registry.address, elsewhere.address));
    let reference = named(&registry, "a:1");
    client.resolve(&reference).await.expect("logged in");
    let mut layer = blob(bytes);
    layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    layer.urls = vec!["ftp://x.example/".to_owned(), format!("http://{}/layer", elsewhere.address)];
    let read = client.small_blob(&reference, &layer, 100).await.expect("read");
    assert_eq!(read, bytes);
    assert_eq!(elsewhere.seen()[0].authorization, None);
}

#[tokio::test]
async fn b059_nothing_is_asked_for_when_all_is_here() {
    let fake = Fake::start(|_, _| reply(416)).await;
    let (client, bytes) = (client(), b"all of it");
    let stream = client.blob(&named(&fake, "a:1"), &blob(bytes));
    let mut stream = stream.behind(bytes.len() as u64);
    assert_eq!(stream.next().await.expect("verified"), None);
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn b061_a_refused_head_is_repeated_as_a_get_to_know_why() {
    let fake = Fake::start(|seen, _| match seen.method.as_str() {
        "HEAD" => reply(403),
        _ => reply(403).body(r#"{"errors":[{"code":"DENIED","message":"your bill is due"}]}"#),
    })
    .await;
    let error = client().resolve(&named(&fake, "a:1")).await.expect_err("denied");
    assert!(error.to_string().contains("your bill is due (DENIED)"), "{error}");
}

#[tokio::test]
async fn b065_what_a_head_of_a_blob_may_answer() {
    let storage = Fake::start(|_, _| reply(200)).await;
    for (status, existing) in [(200, true), (404, false), (403, false), (405, false), (307, true)] {
        let to = format!("http://{}/x", storage.address);
        let fake = Fake::start(move |_, _| reply(status).header("location", to.clone())).await;
        let offer = client().offer(&named(&fake, "a:1"), &blob(b"x"), &[]).await;
        let offer = offer.expect("an answer");
        assert_eq!(matches!(offer, Offer::Existing), existing, "{status}");
    }
}

#[tokio::test]
async fn b084_b086_a_manifest_that_is_refused_comes_with_advice() {
    for (status, code, words) in [
        (413, "TOO_LARGE", "limits the size"),
        (415, "X", "OCI images"),
        (400, "MANIFEST_INVALID", "OCI images"),
        (400, "UNSUPPORTED", "OCI images"),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        let fake = Fake::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => reply(404),
            _ => reply(status).body(body.clone()),
        })
        .await;
        let (client, target) = (client(), named(&fake, "a:1"));
        let put = client.put_manifest(&target, "1", &MediaType::OciManifest, MANIFEST.as_bytes());
        let error = put.await.expect_err("refused");
        assert!(error.hint().is_some_and(|hint| hint.contains(words)), "{status} {error:?}");
        assert_eq!(fake.seen().len(), 2, "it is not tried again");
    }
}

#[tokio::test]
async fn b097_a_mirror_in_trouble_is_tried_less_than_the_last_host() {
    let mirror = Fake::start(|_, _| reply(503)).await;
    let registry = Fake::start(|seen, _| manifest(seen)).await;
    let text = format!("{}=http://{}", registry.address, mirror.address);
    let mirrors = vec![text.parse::<Mirror>().expect("a mirror")];
    let client = Client::new(Config { mirrors, ..config() }).expect("a client");
    client.resolve(&named(&registry, "a:1")).await.expect("the registry's");
    let tried = mirror.seen().len();
    assert!(tried < Retry::default().attempts as usize, "{tried}");
}

#[tokio::test]
async fn b098_a_host_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let retry = Retry { first: Duration::from_millis(1), attempts: 2, ..Retry::default() };
    let idle_timeout = Duration::from_millis(100);
    let client = Client::new(Config { retry, idle_timeout, ..config() }).expect("a client");
    let reference = format!("{address}/a:1").parse().expect("a reference");
    let error = client.resolve(&reference).await.expect_err("silence");
    let RegistryError::Unreachable { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, HttpError::Timeout { .. }), "{source}");
}

#[tokio::test]
async fn b116_only_a_proxy_is_told_whose_place_it_takes() {
    for (suffix, expected) in [("?ns", "?ns=docker.io"), ("", "")] {
        let fake = Fake::start(|seen, _| manifest(seen)).await;
        let text = format!("docker.io=http://{}{suffix}", fake.address);
        let mirrors = vec![text.parse::<Mirror>().expect("a mirror")];
        let client = Client::new(Config { mirrors, ..config() }).expect("a client");
        client.resolve(&"python:3".parse().expect("a reference")).await.expect("resolved");
        assert_eq!(fake.requests(), [format!("HEAD /v2/library/python/manifests/3{expected}")]);
    }
}

#[tokio::test]
async fn b109_credentials_of_the_command_line_are_for_one_host() {
    let fake = Fake::start(|seen, _| match seen.authorization.as_deref() {
        Some("Basic bWU6cHc=") => manifest(seen),
        _ => reply(401).header("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let resolve = async |host: &str| {
        let given = vec![(host.to_owned(), Credential::basic("me", "pw"))];
        let inline = Some(Secret::new("{}"));
        let credentials = CredentialSources { given, inline, ..CredentialSources::default() };
        let client = Client::new(Config { credentials, ..config() }).expect("a client");
        client.resolve(&named(&fake, "a:1")).await.map(drop)
    };
    resolve(&fake.address).await.expect("let in");
    resolve("other.example").await.expect_err("not for this host");
}
