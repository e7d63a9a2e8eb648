//! Lists of tags and of referrers, the list that we keep ourselves, and removal.

use crate::oci::{Digest, MediaType};
use crate::registry::RegistryError;
use crate::registry::tests::fake::{Fake, Reply, reply};
use crate::registry::tests::{TYPE, client, manifest, named};

fn index(digests: &[Digest]) -> String {
    let entry = |it: &Digest| format!(r#"{{"mediaType":"{TYPE}","digest":"{it}","size":1}}"#);
    let entries: Vec<String> = digests.iter().map(entry).collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(","))
}

fn as_index(body: String) -> Reply {
    reply(200).header("content-type", "application/vnd.oci.image.index.v1+json").body(body)
}

#[tokio::test]
async fn b063_tags_come_in_pages_by_link_or_by_the_last_tag() {
    let fake = Fake::start(|seen, _| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => reply(200)
            .header("link", "</v2/a/tags/list?n=1000&last=b>; rel=\"next\"")
            .body(r#"{"name":"a","tags":["a","b"]}"#),
        "/v2/a/tags/list?n=1000&last=b" => reply(200).body(r#"{"tags":["c"]}"#),
        "/v2/empty/tags/list?n=1000" => reply(200).body(r#"{"name":"empty","tags":null}"#),
        "/v2/evil/tags/list?n=1000" => reply(200)
            .header("link", "<http://169.254.169.254/x>; rel=\"next\"")
            .body(r#"{"tags":["x"]}"#),
        "/v2/cut/tags/list?n=1000" => {
            let tags: Vec<String> = (0..1000).map(|number| format!("\"t{number}\"")).collect();
            reply(200).body(format!(r#"{{"tags":[{}]}}"#, tags.join(",")))
        }
        "/v2/cut/tags/list?n=1000&last=t999" => reply(200).body(r#"{"tags":["end"]}"#),
        "/v2/bad/tags/list?n=1000" => reply(200).body("<html>"),
        _ => reply(404),
    })
    .await;
    let tags = async |name: &str| client().tags(&named(&fake, name)).await;
    assert_eq!(tags("a").await.expect("a list"), ["a", "b", "c"]);
    assert_eq!(tags("empty").await.expect("a list"), [""; 0]);
    assert_eq!(tags("evil").await.expect("a list"), ["x"]);
    assert_eq!(tags("cut").await.expect("a list").len(), 1001);
    assert!(matches!(tags("bad").await, Err(RegistryError::Misbehaved { .. })));
    assert!(matches!(tags("none").await, Err(RegistryError::NotFound { .. })));
}

#[tokio::test]
async fn b062_referrers_come_from_the_registry_or_from_the_fall_back_tag() {
    let (subject, one, two) = (Digest::of("subject"), Digest::of("one"), Digest::of("two"));
    let referrers = format!("/v2/a/referrers/{subject}");
    let tag = format!("/v2/a/manifests/sha256-{}", subject.hex());
    let fake = {
        let referrers = referrers.clone();
        Fake::start(move |seen, _| {
            if seen.path == referrers {
                let next = format!("<{referrers}?page=2>; rel=\"next\"");
                as_index(index(&[one])).header("link", next)
            } else {
                as_index(index(&[two]))
            }
        })
        .await
    };
    let reference = named(&fake, "a:1");
    let found = client().referrers(&reference, &subject).await.expect("two pages");
    assert_eq!(found.iter().map(|it| it.digest).collect::<Vec<_>>(), [one, two]);
    for status in [400, 401, 404, 405] {
        let tag = tag.clone();
        let fake =
            Fake::start(
                move |seen, _| {
                    if seen.path == tag { as_index(index(&[two])) } else { reply(status) }
                },
            )
            .await;
        let found = client().referrers(&named(&fake, "a:1"), &subject).await.expect("the tag's");
        assert_eq!(found.iter().map(|it| it.digest).collect::<Vec<_>>(), [two], "{status}");
    }
    // GitLab finds the image itself under that tag, others nothing.
    let fake =
        Fake::start(move |seen, _| if seen.path == tag { manifest(seen) } else { reply(404) })
            .await;
    assert_eq!(client().referrers(&named(&fake, "a:1"), &subject).await.expect("none"), []);
}

#[tokio::test]
async fn b088_the_list_is_kept_by_us_where_the_registry_does_not() {
    let subject = Digest::of("subject");
    let artifact = format!(
        r#"{{"schemaVersion":2,"mediaType":"{TYPE}","artifactType":"x/y","config":{{"mediaType":"c","digest":"{subject}","size":7}},"layers":[],"subject":{{"mediaType":"{TYPE}","digest":"{subject}","size":7}}}}"#
    );
    for keeps in [true, false] {
        let known = Digest::of("known");
        let fake = Fake::start(move |seen, _| match seen.method.as_str() {
            "PUT" if keeps => reply(201).header("oci-subject", subject.to_string()),
            "PUT" => reply(201),
            "GET" => as_index(index(&[known])),
            _ => reply(404),
        })
        .await;
        let target = named(&fake, "a:1");
        let kind = MediaType::OciManifest;
        client().put_manifest(&target, "sbom", &kind, artifact.as_bytes()).await.expect("put");
        let puts: Vec<_> = fake.seen().into_iter().filter(|it| it.method == "PUT").collect();
        assert_eq!(puts.len(), if keeps { 1 } else { 2 });
        if let Some(list) = puts.get(1) {
            assert_eq!(list.path, format!("/v2/a/manifests/sha256-{}", subject.hex()));
            let text = String::from_utf8_lossy(&list.body).into_owned();
            let entry = Digest::of(&artifact).to_string();
            for word in ["x/y", &entry, &known.to_string()] {
                assert!(text.contains(word), "no {word} in {text}");
            }
        }
    }
}

#[tokio::test]
async fn b035_removing_asks_for_the_right_to_delete() {
    let fake = Fake::start(|seen, _| match (seen.authorization.as_deref(), &*seen.path) {
        (_, path) if path.starts_with("/token") => reply(200).body(r#"{"token":"t"}"#),
        (None, _) => {
            let challenge = "Bearer realm=\"http://SELF/token\",service=\"s\"";
            reply(401).header("www-authenticate", challenge)
        }
        (_, "/v2/a/manifests/1") => reply(202),
        _ => reply(405).body(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
    })
    .await;
    let client = client();
    client.remove(&named(&fake, "a:1")).await.expect("removed");
    assert!(fake.requests().iter().any(|it| it.contains("scope=repository%3Aa%3Adelete%2Cpull")));
    assert!(matches!(
        client.remove(&named(&fake, "a:2")).await,
        Err(RegistryError::Rejected { .. })
    ));
}
