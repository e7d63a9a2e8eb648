//! Image references: `[registry/]repository[:tag][@digest]`, normalised on entry, so that two
//! references to the same thing are equal.
//!
//! Specs: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>,
//! <https://pkg.go.dev/github.com/distribution/reference>; rules B001 to B006.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, ParseDigestError};

/// The name of an image: which registry, which repository, and which tag or digest in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's logical name, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, such as `library/python`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. `latest` when neither a tag nor a digest was written (rule B003).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest. When there is one, it decides; the tag is for people (rule B003).
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository, with `digest` in place of tag and digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As people write it: without `docker.io/` and `library/` where those are implied.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        let short = rest.strip_prefix("library/").unwrap_or(rest);
        // `docker.io/a.b/c` must keep its registry, or `a.b` would become it.
        let means_the_same = |text: &&str| text.parse().as_ref() == Ok(self);
        [short, rest].into_iter().find(means_the_same).unwrap_or(&full).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// Nothing was written.
    #[error("an image reference must not be empty")]
    Empty,
    /// The repository has upper-case letters (rule B004).
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// The whole name is 64 hex digits, which would be mistaken for an image ID (rule B004).
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeDigest(String),
    /// The digest is malformed or of an algorithm that we cannot compute (rule B006).
    #[error("invalid digest in reference `{text}`")]
    Digest {
        /// What was written.
        text: String,
        /// What is wrong with the digest.
        source: ParseDigestError,
    },
    /// Anything else.
    #[error("invalid reference format: `{0}`")]
    Malformed(String),
}

/// The longest name of a repository (rule B005).
const LONGEST_NAME: usize = 255;

/// The longest tag (rule B005).
const LONGEST_TAG: usize = 128;

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseReferenceError::Empty);
        }
        let first = text.split(['@', ':']).next().unwrap_or_default();
        if first.len() == 64 && first.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseReferenceError::LooksLikeDigest(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(digest)),
        };
        let digest = digest
            .map(str::parse)
            .transpose()
            .map_err(|source| ParseReferenceError::Digest { text: text.to_owned(), source })?;
        // A colon before a slash stands before a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = split_registry(name);
        let is_valid = |repository: &str| {
            is_host(registry) && is_repository(repository) && tag.is_none_or(is_tag)
        };
        if !is_valid(repository) {
            let lower = repository.to_ascii_lowercase();
            return Err(if lower != repository && is_valid(&lower) {
                ParseReferenceError::UpperCase(text.to_owned())
            } else {
                ParseReferenceError::Malformed(text.to_owned())
            });
        }
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
        let is_official = registry == "docker.io" && !repository.contains('/');
        let latest = || digest.is_none().then(|| "latest".to_owned());
        Ok(Self {
            registry: registry.to_owned(),
            repository: if is_official {
                format!("library/{repository}")
            } else {
                repository.to_owned()
            },
            tag: tag.map(str::to_owned).or_else(latest),
            digest,
        })
    }
}

/// The registry and the rest: the first part names one only if it looks like a host (rule B001). One
/// with a capital and nothing else of a host is refused as a repository, where Go takes it for a host.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", name),
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
            if address.is_empty() || !address.bytes().all(is_address) {
                return false;
            }
            match rest.strip_prefix(':') {
                None if rest.is_empty() => return true,
                None => return false,
                port => ("localhost", port),
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| {
        // No host name has a `_`, but names in the networks of containers do.
        label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Parts of lower-case letters and digits, with separators within: `.`, `_`, `__` or any number of
/// `-` (rule B005).
fn is_repository(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = part.as_bytes().split(is_word).filter(|run| !run.is_empty());
    let are_valid = separators
        .into_iter()
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'));
    let is_at_end = |byte: Option<u8>| byte.as_ref().is_some_and(is_word);
    are_valid && is_at_end(part.bytes().next()) && is_at_end(part.bytes().next_back())
}

fn is_tag(tag: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=LONGEST_TAG).contains(&tag.len())
        && tag.bytes().all(is_inner)
        && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(text.parse::<Reference>().map(String::from), Ok(expected.to_owned()), "{text}");
    }

    #[test]
    fn b001_only_something_like_a_host_is_a_registry() {
        check("a/b", "docker.io/a/b:latest");
        check("localhost/b", "localhost/b:latest");
        check("a.b/c", "a.b/c:latest");
        check("a:5000/c", "a:5000/c:latest");
        check("[::1]/a", "[::1]/a:latest");
        check("[fe80::1]:5000/a:1", "[fe80::1]:5000/a:1");
        // Go refuses a host with a `_`; networks of containers have them.
        check("a_b:5000/c", "a_b:5000/c:latest");
        for text in ["[]/a", "[::1/a", "[::1]x/a", "[::1]:/a", "-a.b/c", "a..b/c", ":1/c"] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(matches!(error, ParseReferenceError::Malformed(_)), "{text}");
        }
    }

    #[test]
    fn b002_docker_hub_has_one_name() {
        check("python:3.6-slim", "docker.io/library/python:3.6-slim");
        check("index.docker.io/python", "docker.io/library/python:latest");
    }

    #[test]
    fn b003_latest_only_where_nothing_else_is_written() {
        let digest = Digest::of("");
        check(&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"));
        check(&format!("a:1@{digest}"), &format!("docker.io/library/a:1@{digest}"));
    }

    #[test]
    fn b004_b006_what_is_not_a_reference_says_why() {
        let error = |text: &str| text.parse::<Reference>().expect_err(text);
        assert_eq!(error("Abc"), ParseReferenceError::UpperCase("Abc".into()));
        assert_eq!(error("Abc/def"), ParseReferenceError::UpperCase("Abc/def".into()));
        assert_eq!(error(""), ParseReferenceError::Empty);
        let hex = Digest::of("").hex();
        assert_eq!(error(&hex), ParseReferenceError::LooksLikeDigest(hex.clone()));
        assert!(matches!(error("a@sha256:12"), ParseReferenceError::Digest { .. }));
        assert!(matches!(error("a b"), ParseReferenceError::Malformed(_)));
    }

    #[test]
    fn b005_names_and_tags_have_a_grammar() {
        let valid = |text: &str| text.parse::<Reference>().is_ok();
        for text in ["r.io/a-b/c__d/e.f:1.2_3-4", "a--b", &format!("a:{}", "t".repeat(128))] {
            assert!(valid(text), "{text}");
        }
        let long = format!("a:{}", "t".repeat(129));
        let name = format!("r.io/{}", "a".repeat(300));
        for text in [
            "a..b",
            "a_-b",
            "a___b",
            "-a",
            "a/",
            "a//b",
            "a:-t",
            "a:",
            "a:ü",
            "r.io/a/b/",
            "a@",
            &long,
            &name,
        ] {
            assert!(!valid(text), "{text}");
        }
    }

    #[test]
    fn a_familiar_name_is_the_short_one() {
        let reference: Reference = "docker.io/library/python:3".parse().expect("valid");
        assert_eq!(reference.familiar(), "python:3");
        let check = |text: &str| {
            let reference: Reference = text.parse().expect("valid");
            assert_eq!(reference.familiar(), text);
        };
        check("docker.io/a.b/c:latest");
        check("library/a/b:latest");
        check("a/b:latest");
    }
}
