//! Docker's `config.json` and Podman's `auth.json`: who one is at which registry.
//!
//! Pure: reads text, decides which entry is meant. `credential` reads the files and runs helpers.
//! Rules B099 to B102 and B106.
//!
//! Specs: <https://docs.docker.com/reference/cli/docker/login/>,
//! <https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use crate::registry::secret::{Credential, Secret};

/// The key under which Docker keeps the credentials for Docker Hub (rule B002).
pub(crate) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The file, as far as it is about credentials.
#[derive(Default, Deserialize)]
pub(crate) struct ConfigFile {
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

/// One entry of `auths`. An empty one only marks that a helper has the credentials.
#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// `auth` of the named entry is not base64 of `user:password`. Its content is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadAuth(pub(crate) String);

impl ConfigFile {
    /// The helper that keeps the credentials for `host`, if there is one named for it alone.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        let helpers = self.helpers.as_ref()?;
        let exact = helpers.get(host);
        let alias = || helpers.iter().find(|(key, _)| names_host(key, host)).map(|(_, name)| name);
        exact.or_else(alias).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The helper that keeps the credentials for all other hosts.
    pub(crate) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }

    /// What stands in the file itself for `repository` on `host`: the entry for the longest
    /// namespace that holds it, else the one for the host, however written (rules B101, B102).
    pub(crate) fn credential(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credential>, BadAuth> {
        let Some(auths) = &self.auths else { return Ok(None) };
        let exact = namespaces(host, repository).filter_map(|key| auths.get_key_value(&key));
        let alias = auths.iter().filter(|(key, _)| names_host(key, host));
        for (key, entry) in exact.chain(alias) {
            if let Some(credential) = entry.credential().ok_or_else(|| BadAuth(key.clone()))? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// What the entry holds. `None` is malformed, `Some(None)` nothing.
    fn credential(&self) -> Option<Option<Credential>> {
        let present = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = present(&self.registrytoken) {
            return Some(Some(Credential::RegistryToken(Secret::new(token))));
        }
        let decoded = match present(&self.auth) {
            Some(auth) => Some(decode(&auth)?),
            None => present(&self.username)
                .map(|username| (username, self.password.clone().unwrap_or_default())),
        };
        Some(match (present(&self.identitytoken), decoded) {
            (Some(token), decoded) => {
                let username = decoded.map(|(username, _)| username).unwrap_or_default();
                Some(Credential::IdentityToken { username, token: Secret::new(token) })
            }
            (None, Some((username, password))) => {
                Some(Credential::Password { username, password: Secret::new(password) })
            }
            (None, None) => None,
        })
    }
}

/// Decodes `user:password`. The password may have colons, the name may not (rule B099).
fn decode(auth: &str) -> Option<(String, String)> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = LENIENT.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Encodes what [`decode`] reads.
pub(crate) fn encode(username: &str, password: &Secret) -> String {
    let text = format!("{username}:{}", password.reveal());
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// `host/a/b`, `host/a`, `host`, for each name that the host goes by.
fn namespaces(host: &str, repository: &str) -> impl Iterator<Item = String> {
    let names = match canonical(host) {
        "docker.io" => vec!["docker.io", "index.docker.io", "registry-1.docker.io"],
        other => vec![other],
    };
    let full = names.into_iter().map(move |name| format!("{name}/{repository}"));
    full.flat_map(|full| {
        let mut key = Some(full);
        std::iter::from_fn(move || {
            let current = key.take()?;
            key = current.rsplit_once('/').map(|(shorter, _)| shorter.to_owned());
            Some(current)
        })
    })
    .collect::<Vec<_>>()
    .into_iter()
}

/// Whether the key of an entry means the whole of `host`: `host`, `https://host`,
/// `https://host/v1/` and their like (rule B101).
pub(crate) fn names_host(key: &str, host: &str) -> bool {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (name, path) = match stripped {
        // Behind a scheme everything after the host is a path of the API.
        Some(rest) => (rest.split('/').next().unwrap_or_default(), ""),
        None => key.split_once('/').unwrap_or((key, "")),
    };
    // Without one it may be one of Podman's namespaces, which is not the whole host.
    let whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    whole && canonical(name) == canonical(host)
}

/// The one name for a host that has several (rule B101).
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// The key that helpers know a host by (rule B106), and that `login` writes.
pub(crate) fn store_key(host: &str) -> &str {
    if canonical(host) == "docker.io" { DOCKER_HUB_KEY } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> ConfigFile {
        serde_json::from_str(json).expect("JSON")
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        let password = Secret::new(password);
        Some(Credential::Password { username: username.into(), password })
    }

    #[test]
    fn b099_auth_is_base64_of_user_and_password() {
        let check = |auth: &str, expected: Option<Option<Credential>>| {
            let entry = Entry { auth: Some(auth.into()), ..Entry::default() };
            assert_eq!(entry.credential(), expected, "{auth}");
        };
        check("dTpw", Some(password("u", "p")));
        check("dTpwOnE=", Some(password("u", "p:q")));
        check("dTpwOnE", Some(password("u", "p:q")));
        check("dTpwAAA=", Some(password("u", "p")));
        check(" dTpw\n", Some(password("u", "p")));
        check("", Some(None));
        check("dXA=", None);
        check("***", None);
    }

    #[test]
    fn b099_a_bad_entry_is_named_and_disturbs_no_other() {
        let file = file(r#"{"auths":{"a":{"auth":"!secret!"},"b":{"auth":"dTpw"}}}"#);
        assert_eq!(file.credential("a", "x"), Err(BadAuth("a".into())));
        assert_eq!(file.credential("b", "x"), Ok(password("u", "p")));
    }

    #[test]
    fn b100_other_kinds_of_entry() {
        let check = |entry: &str, expected: Option<Credential>| {
            let file = file(&format!(r#"{{"auths":{{"a":{entry}}}}}"#));
            assert_eq!(file.credential("a", "x"), Ok(expected), "{entry}");
        };
        check(r#"{"username":"u","password":"p"}"#, password("u", "p"));
        check("{}", None);
        check(r#"{"registrytoken":"t"}"#, Some(Credential::RegistryToken(Secret::new("t"))));
        let identity = |username: &str| Credential::IdentityToken {
            username: username.into(),
            token: Secret::new("t"),
        };
        check(r#"{"identitytoken":"t"}"#, Some(identity("")));
        check(r#"{"auth":"dTo=","identitytoken":"t"}"#, Some(identity("u")));
    }

    #[test]
    fn b101_keys_are_written_in_many_ways() {
        let check = |key: &str, host: &str, expected| {
            assert_eq!(names_host(key, host), expected, "{key} {host}");
        };
        for key in [
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
            "https://registry-1.docker.io/v2/",
            "index.docker.io/v1/",
        ] {
            check(key, "docker.io", true);
        }
        check("https://r.example:5000", "r.example:5000", true);
        check("http://r.example/v2", "r.example", true);
        check("r.example/", "r.example", true);
        check("r.example", "r.example:5000", false);
        check("r.example:5000", "r.example", false);
        check("r.example/team", "r.example", false);
        check("https://docker.io.evil.example/v1/", "docker.io", false);
    }

    #[test]
    fn b101_b102_the_exact_key_and_the_longest_namespace_win() {
        let file = file(
            r#"{"auths":{
                "https://r.example/v2/":{"auth":"YToz"}, "r.example":{"auth":"YToy"},
                "r.example/team":{"auth":"YTox"}, "r.example/team/app":{"auth":"YTow"},
                "docker.io/library":{"auth":"YTo0"}, "https://index.docker.io/v1/":{"auth":"YTo1"}}}"#,
        );
        let check = |host, repository, secret| {
            let found = file.credential(host, repository);
            assert_eq!(found, Ok(password("a", secret)), "{host}/{repository}");
        };
        check("r.example", "team/app", "0");
        check("r.example", "team/app/part", "0");
        check("r.example", "team/other", "1");
        check("r.example", "teams", "2");
        check("docker.io", "library/python", "4");
        check("registry-1.docker.io", "library/python", "4");
        check("docker.io", "me/app", "5");
        assert_eq!(file.credential("other", "team/app"), Ok(None));
    }

    #[test]
    fn b099_an_empty_entry_only_marks_a_helper() {
        let file = file(r#"{"auths":{"a":{},"https://a":{"auth":"dTpw"}},"credsStore":"x"}"#);
        assert_eq!(file.credential("a", "r"), Ok(password("u", "p")));
        assert_eq!(file.store(), Some("x"));
    }

    #[test]
    fn b106_a_helper_of_its_own_is_found_under_any_alias() {
        let file = file(r#"{"credHelpers":{"https://index.docker.io/v1/":"hub","r:5000":"r"}}"#);
        assert_eq!(file.helper("docker.io"), Some("hub"));
        assert_eq!(file.helper("r:5000"), Some("r"));
        assert_eq!(file.helper("r"), None);
        assert_eq!(store_key("registry-1.docker.io"), DOCKER_HUB_KEY);
        assert_eq!(store_key("r:5000"), "r:5000");
    }

    #[test]
    fn nulls_and_unknown_fields_are_no_trouble() {
        let file = file(r#"{"auths":null,"credHelpers":null,"credsStore":null,"HttpHeaders":{}}"#);
        assert_eq!(file.credential("a", "r"), Ok(None));
        assert_eq!((file.helper("a"), file.store()), (None, None));
    }
}
