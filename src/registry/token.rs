//! Tokens: what is asked of a token server, and what its answer means.
//!
//! Pure, but for the clock's reading that comes in as a parameter. Rules B024 to B029.
//!
//! Specs: <https://github.com/distribution/distribution/blob/main/docs/content/spec/auth/token.md>,
//! <https://github.com/distribution/distribution/blob/main/docs/content/spec/auth/oauth.md>.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::registry::scope::Scopes;
use crate::registry::secret::Secret;

/// What coracle calls itself at a token server.
const CLIENT_ID: &str = "coracle";

/// The lifetime of a token that does not say, or says less (rule B029).
const SHORTEST_LIFE: u64 = 60;

/// The longest lifetime that is believed. Whatever is refused sooner is fetched anew anyway.
const LONGEST_LIFE: u64 = 24 * 60 * 60;

/// How long before its end a token is not used any more.
const MARGIN: u64 = 10;

/// A token, and for how long from its receipt it is used.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) lifetime: Duration,
    /// The same for what must not be refused: what the server said, however short.
    pub(crate) declared: Duration,
}

/// The URL of the GET: the realm with its own query kept, and one `scope` for each scope.
pub(crate) fn get_url(
    realm: &Url,
    service: Option<&str>,
    scopes: &Scopes,
    account: Option<&str>,
) -> Url {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes.iter() {
            query.append_pair("scope", scope);
        }
        if let Some(account) = account {
            query.append_pair("account", account);
            query.append_pair("client_id", CLIENT_ID);
        }
        query.finish();
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    url
}

/// The form of the POST that turns an identity token into an access token: here the scopes are one
/// field (rule B026).
pub(crate) fn refresh_form(
    realm: &Url,
    service: Option<&str>,
    scopes: &Scopes,
    token: &Secret,
) -> String {
    // The URL type is the encoder at hand; nothing of this URL but its query is used.
    let mut url = realm.clone();
    url.set_query(None);
    let all: Vec<&str> = scopes.iter().collect();
    url.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("scope", &all.join(" "))
        .append_pair("refresh_token", token.reveal())
        .finish();
    url.query().unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Wire {
    token: Option<Value>,
    access_token: Option<Value>,
    expires_in: Option<Value>,
}

/// Reads the token server's answer; `None` if there is no token in it (rule B028).
///
/// `issued_at` is not read: a server with a skewed clock would give tokens that are born expired,
/// or never die. The lifetime counts from the receipt, by our own clock (rule B029).
pub(crate) fn parse(body: &[u8]) -> Option<Token> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let value = text(wire.token).or_else(|| text(wire.access_token))?;
    // Some servers send a string here, some a float.
    let expires_in = match wire.expires_in {
        Some(Value::Number(number)) => number.as_u64().or_else(|| as_whole(number.as_f64()?)),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let lifetime = expires_in.unwrap_or(0).clamp(SHORTEST_LIFE, LONGEST_LIFE) - MARGIN;
    // Half of a life that is too short for the margin.
    let short = expires_in.filter(|it| (1..2 * MARGIN).contains(it)).map(|it| it * 500);
    let declared = short.map_or(Duration::from_secs(lifetime), Duration::from_millis);
    let lifetime = Duration::from_secs(lifetime);
    Some(Token { value: Secret::new(value), lifetime, declared })
}

fn as_whole(number: f64) -> Option<u64> {
    Duration::try_from_secs_f64(number).ok().map(|duration| duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(text: &str) -> Url {
        text.parse().expect(text)
    }

    #[test]
    fn b023_b024_each_scope_is_its_own_parameter_and_the_realms_query_is_kept() {
        let scopes = Scopes::push("a/b").and_pull("c");
        let url = get_url(&realm("https://t/x?k=v"), Some("r.example"), &scopes, None);
        let expected = "https://t/x?k=v&service=r.example\
                        &scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull";
        assert_eq!(url.as_str(), expected);
        let url = get_url(&realm("https://t/x"), None, &Scopes::none(), None);
        assert_eq!(url.as_str(), "https://t/x");
    }

    #[test]
    fn b025_the_account_is_named() {
        let url = get_url(&realm("https://t/"), None, &Scopes::none(), Some("a b&c"));
        assert_eq!(url.as_str(), "https://t/?account=a+b%26c&client_id=coracle");
    }

    #[test]
    fn b026_the_form_has_one_scope_field() {
        let scopes = Scopes::push("a").and_pull("b");
        let form = refresh_form(&realm("https://t/x?k=v"), Some("s"), &scopes, &Secret::new("r&t"));
        let expected = "grant_type=refresh_token&service=s&client_id=coracle\
                        &scope=repository%3Aa%3Apull%2Cpush+repository%3Ab%3Apull&refresh_token=r%26t";
        assert_eq!(form, expected);
    }

    #[test]
    fn b028_b029_tokens_have_two_names_and_lives_of_all_lengths() {
        let check = |body: &str, expected: Option<(&str, u64)>| {
            let token = parse(body.as_bytes());
            let found = token.as_ref().map(|it| (it.value.reveal(), it.lifetime.as_secs()));
            assert_eq!(found, expected, "{body}");
        };
        let declared = |body: &str| parse(body.as_bytes()).map(|it| it.declared.as_millis());
        assert_eq!(declared(r#"{"token":"t","expires_in":5}"#), Some(2500));
        assert_eq!(declared(r#"{"token":"t","expires_in":300}"#), Some(290_000));
        assert_eq!(declared(r#"{"token":"t","expires_in":0}"#), Some(50_000));
        check(r#"{"token":"t","expires_in":300}"#, Some(("t", 290)));
        check(r#"{"access_token":"a"}"#, Some(("a", 50)));
        check(r#"{"token":"","access_token":"a","expires_in":3}"#, Some(("a", 50)));
        check(r#"{"token":"t","access_token":"a","expires_in":null}"#, Some(("t", 50)));
        check(r#"{"token":"t","expires_in":"300"}"#, Some(("t", 290)));
        check(r#"{"token":"t","expires_in":299.5}"#, Some(("t", 289)));
        check(r#"{"token":"t","expires_in":-1}"#, Some(("t", 50)));
        check(r#"{"token":"t","issued_at":"1970-01-01T00:00:00Z"}"#, Some(("t", 50)));
        check(r#"{"token":"t","expires_in":18446744073709551615}"#, Some(("t", 86390)));
        check("{}", None);
        check(r#"{"token":1}"#, None);
        check("<html>", None);
    }
}
