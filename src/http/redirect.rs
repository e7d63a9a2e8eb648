//! Where a redirect, or an upload's `Location`, may lead.
//!
//! A registry tells its clients which URL to ask next. A hostile one may use that to reach hosts
//! that only the client can reach, or to be sent another host's credentials (rules B011 to B015).
//!
//! Pure: nothing here resolves a name or opens a connection. Only literal addresses are judged.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use reqwest::Url;

use crate::http::{Follow, Place};

/// Why a URL that the other side gave is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not a URL.
    #[error("`{0}` is not a URL")]
    NotAUrl(String),
    /// It is neither `http` nor `https`.
    #[error("{0} is neither http nor https")]
    Scheme(Place),
    /// It leads from `https` to `http`.
    #[error("{0} is not encrypted, while what led to it was")]
    Downgrade(Place),
    /// It names a private, loopback or link-local address on another host (rule B015).
    #[error("{0} is a private address, while what led to it is a public host")]
    Private(Place),
    /// There is no end to them.
    #[error("more than {0} redirects")]
    TooMany(usize),
}

impl Refused {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Downgrade(_) => {
                "the registry seems to stand behind a proxy that hides https from it; set its \
                 external URL"
            }
            Self::Private(_) => {
                "let the registry name its storage or token server by a host name instead of an \
                 address"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Whether credentials for one URL are credentials for the other: same scheme, host and port,
/// where a port that is not written is the scheme's own (rules B012, B013, B071).
pub fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Resolves `location`, absolute or relative, against the URL that answered with it (rule B069).
///
/// # Errors
///
/// Fails if the result is not a URL of HTTP.
pub fn resolve(answered: &Url, location: &str) -> Result<Url, Refused> {
    let bare = || location.split(['?', '#']).next().unwrap_or_default().to_owned();
    let url = answered.join(location).map_err(|_| Refused::NotAUrl(bare()))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err(Refused::Scheme(Place::of(&url))),
    }
}

/// The next URL of a chain of redirects that began at `first` and has come to `current`.
pub(crate) fn next(
    first: &Url,
    current: &Url,
    location: &str,
    follow: Follow,
) -> Result<Url, Refused> {
    let url = resolve(current, location)?;
    let downgrade = current.scheme() == "https" && url.scheme() == "http";
    if downgrade && follow != Follow::Unencrypted {
        return Err(Refused::Downgrade(Place::of(&url)));
    }
    check_private(first, &url)?;
    Ok(url)
}

/// Refuses a `url` with a private address that a host of another kind led to (rule B015).
///
/// # Errors
///
/// Fails if `url` names an address that `trusted`, the URL that the user asked for, does not make
/// plausible.
pub fn check_private(trusted: &Url, url: &Url) -> Result<(), Refused> {
    let ours = reach(trusted);
    let plausible = match reach(url) {
        Reach::Public => true,
        Reach::Private => ours != Reach::Public,
        // Link-local addresses serve a cloud's credentials to whoever asks.
        Reach::LinkLocal => ours == Reach::LinkLocal,
    };
    if plausible || trusted.host_str() == url.host_str() {
        return Ok(());
    }
    Err(Refused::Private(Place::of(url)))
}

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    LinkLocal,
}

fn reach(url: &Url) -> Reach {
    match address(url) {
        _ if is_loopback(url) => Reach::Private,
        Some(IpAddr::V4(address)) => reach_v4(address),
        Some(IpAddr::V6(address)) => reach_v6(address),
        None => Reach::Public,
    }
}

/// Whether the host of `url` is this machine by its very name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let is_name = host == "localhost" || host.ends_with(".localhost");
    is_name || address(url).is_some_and(|address| address.is_loopback())
}

/// The address, if the host is written as one.
fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    if address.is_link_local() {
        Reach::LinkLocal
    } else if address.is_private()
        || address.is_loopback()
        || address.octets()[0] == 0
        || address.is_broadcast()
        || shared
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    // `::ffff:10.0.0.1` and the deprecated `::10.0.0.1` reach the IPv4 host.
    if let Some(v4) = address.to_ipv4().filter(|_| !address.is_loopback()) {
        return reach_v4(v4);
    }
    if address.is_unicast_link_local() {
        Reach::LinkLocal
    } else if address.is_loopback() || address.is_unique_local() || address.is_unspecified() {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// Whether the host of `url` is in `hosts`, which are written `host` (any port), `host:port`, or `*`
/// for all.
pub(crate) fn is_listed(hosts: &BTreeSet<String>, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    hosts.contains("*") || hosts.contains(host) || hosts.contains(&format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect(text)
    }

    #[test]
    fn b013_a_port_that_is_not_written_is_the_schemes_own() {
        let check = |one, other, same| assert_eq!(same_origin(&url(one), &url(other)), same);
        check("https://a/x", "https://a:443/y", true);
        check("https://A/x", "https://a/x", true);
        check("https://a/x", "https://a:444/x", false);
        check("https://a/x", "http://a/x", false);
        check("https://a/x", "https://a.b/x", false);
        check("https://a:443", "http://a:443", false);
    }

    #[test]
    fn b069_a_location_is_absolute_or_relative_and_keeps_its_query() {
        let check = |location, expected: &str| {
            let base = url("https://a/v2/x/blobs/uploads/");
            assert_eq!(resolve(&base, location).map(String::from), Ok(expected.to_owned()));
        };
        check("/v2/x/u/1?_state=a%2Fb%3D", "https://a/v2/x/u/1?_state=a%2Fb%3D");
        check("u1", "https://a/v2/x/blobs/uploads/u1");
        check("https://b/u?x=1", "https://b/u?x=1");
        check("//b:5000/u", "https://b:5000/u");
        check("?_state=1", "https://a/v2/x/blobs/uploads/?_state=1");
    }

    #[test]
    fn only_http_is_followed() {
        for location in ["file:///etc/passwd", "ftp://a/b", "data:text/plain,x"] {
            let refused = resolve(&url("https://a/"), location);
            assert!(matches!(refused, Err(Refused::Scheme(_))), "{location}");
        }
        let refused = resolve(&url("https://a/"), "http://[bad?sig=secret");
        assert_eq!(refused, Err(Refused::NotAUrl("http://[bad".into())));
    }

    #[test]
    fn b015_a_public_host_does_not_lead_to_a_private_address() {
        let check = |first, location, ok: bool| {
            let base = url(first);
            let next = next(&base, &base, location, Follow::Unencrypted);
            assert_eq!(next.is_ok(), ok, "{first} -> {location}");
        };
        check("https://a.example/", "https://b.example/", true);
        check("https://a.example/", "https://8.8.8.8/", true);
        for private in [
            "http://127.0.0.1/",
            "http://localhost/",
            "http://10.1.2.3/",
            "http://192.168.1.1:9000/",
            "http://172.16.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
        ] {
            check("https://a.example/", private, false);
        }
        check("http://10.0.0.1/", "http://10.0.0.2/", true);
        check("http://localhost:5000/", "http://127.0.0.1:9000/", true);
        check("http://10.0.0.1/", "http://169.254.169.254/", false);
        check("http://169.254.0.1/", "http://169.254.0.1:81/", true);
    }

    #[test]
    fn b012_encryption_is_given_up_only_for_what_is_verified_anyway() {
        let base = url("https://a.example/");
        let to_http = |follow| next(&base, &base, "http://b.example/", follow).is_ok();
        assert!(!to_http(Follow::Encrypted));
        assert!(to_http(Follow::Unencrypted));
    }
}
