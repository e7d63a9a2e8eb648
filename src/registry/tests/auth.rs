//! Challenges, tokens and passwords.

use crate::registry::tests::fake::{Fake, Reply, Seen, reply};
use crate::registry::tests::{client, client_with, manifest, named};
use crate::registry::{Credential, Login, Misbehaviour, RegistryError};

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
    let error = crate::registry::tests::client()
        .resolve(&named(&fake, "a/b:1"))
        .await
        .expect_err("anonymous");
    assert!(error.to_string().contains("no basic auth credentials"), "{error}");
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
