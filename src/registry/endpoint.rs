//! Endpoints: at which host, by which protocol and under which name a repository is reached.
//!
//! Pure. Rules B002, B007, B008, B109, B113.

use std::{collections::BTreeSet, net::IpAddr, str::FromStr};

use reqwest::Url;

use crate::oci::Reference;
use crate::registry::docker_config::canonical;

/// By which protocol a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TLS, and nothing else.
    Https,
    /// Plain HTTP, because the user said so.
    Http,
    /// TLS; plain HTTP where that cannot be (rule B007).
    HttpsThenHttp,
}

/// A repository at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What the registry is called: by people, and by files of credentials.
    pub(crate) name: String,
    /// `host` or `host:port`, as in URLs.
    pub(crate) host: String,
    /// By which protocol.
    pub(crate) transport: Transport,
    /// The repository, as this host knows it.
    pub(crate) repository: String,
    /// The registry that a proxy is to be told it stands for (rule B116).
    pub(crate) namespace: Option<String>,
}

impl Endpoint {
    /// The registry that `reference` names.
    pub(crate) fn registry(reference: &Reference, insecure: &BTreeSet<String>) -> Self {
        Self::host(reference.registry(), reference.repository(), insecure)
    }

    /// `repository` on the registry called `name`.
    pub(crate) fn host(name: &str, repository: &str, insecure: &BTreeSet<String>) -> Self {
        let name = canonical(name).to_owned();
        // Docker Hub's API has a host of its own (rule B002).
        let host =
            if name == "docker.io" { "registry-1.docker.io".to_owned() } else { name.clone() };
        let transport = transport(&host, insecure);
        Self { name, host, transport, repository: repository.to_owned(), namespace: None }
    }

    /// The URL of `path`, which begins with `/`, by `scheme`. `None` if the host is not one.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> Option<Url> {
        let url: Url = format!("{scheme}://{}{path}", self.host).parse().ok()?;
        // A host with a `/` or `@` in it would be another host.
        let plain_path = path.split('?').next().unwrap_or_default();
        let as_meant = url.username().is_empty()
            && url.password().is_none()
            && url.host_str().is_some()
            && url.path() == plain_path;
        as_meant.then_some(url)
    }

    /// The path of something in the repository: `/v2/<repository>/<rest>`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }
}

fn transport(host: &str, insecure: &BTreeSet<String>) -> Transport {
    let listed =
        insecure.contains("*") || insecure.contains(host) || insecure.contains(without_port(host));
    if listed || is_loopback(host) { Transport::HttpsThenHttp } else { Transport::Https }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host is this machine by its very name (rule B007).
fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A host to ask before the registry itself, for pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    registry: String,
    scheme: Option<Scheme>,
    host: String,
    prefix: String,
    /// It is a proxy for many registries, and must be told which one is meant (rule B116).
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Why a text is not a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mirror; write `REGISTRY=[http://|https://]HOST[:PORT][/PREFIX][?ns]`")]
pub struct ParseMirrorError(pub String);

impl FromStr for Mirror {
    type Err = ParseMirrorError;

    /// Reads `registry=host`; a host alone is a mirror of Docker Hub. With `?ns` at its end, the
    /// mirror is told in each request which registry it stands for.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMirrorError(text.to_owned());
        let (registry, location) = text.split_once('=').unwrap_or(("docker.io", text));
        let (scheme, rest) = match location.split_once("://") {
            None => (None, location),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(error()),
        };
        let (rest, told) = match rest.strip_suffix("?ns") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let host_ok = |host: &str| {
            let url: Option<Url> = format!("https://{host}/").parse().ok();
            !host.is_empty()
                && url.is_some_and(|url| url.path() == "/" && url.username().is_empty())
                && !host.contains(['@', '?', '#', ' '])
        };
        let prefix_ok = prefix.is_empty()
            || prefix.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.bytes().all(|b| {
                        b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)
                    })
            });
        if !host_ok(registry) || !host_ok(host) || !prefix_ok {
            return Err(error());
        }
        let (registry, host) = (canonical(registry).to_owned(), host.to_owned());
        Ok(Self { registry, scheme, host, prefix: prefix.to_owned(), told })
    }
}

impl Mirror {
    /// Where this mirror would have the repository of `reference`, if it mirrors its registry.
    pub(crate) fn endpoint(
        &self,
        reference: &Reference,
        insecure: &BTreeSet<String>,
    ) -> Option<Endpoint> {
        if canonical(reference.registry()) != self.registry {
            return None;
        }
        let repository = match self.prefix.as_str() {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        let endpoint = Endpoint::host(&self.host, &repository, insecure);
        let transport = match self.scheme {
            Some(Scheme::Http) => Transport::Http,
            Some(Scheme::Https) => Transport::Https,
            None => endpoint.transport,
        };
        let namespace = self.told.then(|| self.registry.clone());
        Some(Endpoint { transport, namespace, ..endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().expect(text)
    }

    #[test]
    fn b002_docker_hub_has_a_host_for_its_api() {
        let endpoint = Endpoint::registry(&reference("python:3"), &BTreeSet::new());
        assert_eq!(
            (endpoint.name.as_str(), endpoint.host.as_str()),
            ("docker.io", "registry-1.docker.io")
        );
        let url = endpoint.url("https", &endpoint.path("manifests/3")).map(String::from);
        let expected = "https://registry-1.docker.io/v2/library/python/manifests/3";
        assert_eq!(url.as_deref(), Some(expected));
    }

    #[test]
    fn b007_b008_plain_http_only_for_this_machine_and_by_order() {
        let insecure: BTreeSet<String> = ["r.example:5000".into(), "any.example".into()].into();
        let check =
            |host: &str, expected| assert_eq!(transport(host, &insecure), expected, "{host}");
        for host in
            ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000", "[::1]"]
        {
            check(host, Transport::HttpsThenHttp);
        }
        check("r.example:5000", Transport::HttpsThenHttp);
        check("any.example:1", Transport::HttpsThenHttp);
        for host in ["r.example", "r.example:5001", "10.0.0.1:5000", "localhost.evil.example"] {
            check(host, Transport::Https);
        }
    }

    #[test]
    fn a_strange_host_makes_no_url() {
        for host in ["a@b", "a/b", "a?b", ""] {
            let endpoint = Endpoint::host(host, "x", &BTreeSet::new());
            assert_eq!(endpoint.url("https", "/v2/"), None, "{host}");
        }
    }

    #[test]
    fn b113_a_mirror_is_a_host_with_an_optional_prefix() {
        let check = |mirror: &str, name: &str, expected: Option<(&str, Transport, &str)>| {
            let mirror: Mirror = mirror.parse().expect(mirror);
            let endpoint = mirror.endpoint(&reference(name), &BTreeSet::new());
            let found = endpoint
                .as_ref()
                .map(|it| (it.host.as_str(), it.transport, it.repository.as_str()));
            assert_eq!(found, expected, "{mirror:?}");
        };
        check(
            "docker.io=http://127.0.0.1:5000",
            "python",
            Some(("127.0.0.1:5000", Transport::Http, "library/python")),
        );
        check(
            "docker.io=http://10.0.0.1:5000/hub/",
            "a/b",
            Some(("10.0.0.1:5000", Transport::Http, "hub/a/b")),
        );
        check("index.docker.io=m.example", "a/b", Some(("m.example", Transport::Https, "a/b")));
        check("m.example/p/q", "a/b", Some(("m.example", Transport::Https, "p/q/a/b")));
        check("quay.io=m.example", "a/b", None);
    }

    #[test]
    fn what_is_not_a_mirror_is_refused() {
        for text in [
            "",
            "=",
            "docker.io=",
            "=m",
            "docker.io=ftp://m",
            "docker.io=http://u@m",
            "docker.io=m/../x",
            "docker.io=m/A",
            "docker.io=m?x",
            "docker.io=a b",
        ] {
            assert!(text.parse::<Mirror>().is_err(), "{text}");
        }
    }
}
