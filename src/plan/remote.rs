//! Sources of `ADD` that are on another machine: downloads and repositories (rules A139 to A141).

use crate::oci::{Digest, ParseDigestError};
use crate::plan::git::{self, GitSource, GitUrlError};

/// What an `ADD` fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// One file.
    Url(UrlSource),
    /// The files of a commit.
    Git(GitSource),
}

/// A file that is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlSource {
    /// The URL, as written.
    pub url: String,
    /// The file's name in a destination that is a directory.
    pub name: String,
    /// What it has to be.
    pub checksum: Option<Digest>,
}

impl Remote {
    /// Reads a source; `None` is a path.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, GitUrlError>> {
        if let Some(git) = GitSource::parse(text) {
            return Some(git.map(Self::Git));
        }
        UrlSource::parse(text).map(|url| Ok(Self::Url(url)))
    }

    /// The source as written.
    pub fn text(&self) -> &str {
        match self {
            Self::Url(source) => &source.url,
            Self::Git(source) => &source.text,
        }
    }
}

impl UrlSource {
    /// Reads a URL of HTTP; `None` is something else, such as a repository.
    pub fn parse(text: &str) -> Option<Self> {
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        let is_download = is_web && GitSource::parse(text).is_none();
        is_download.then(|| Self { url: text.to_owned(), name: name(text), checksum: None })
    }
}

/// The last name of the URL's path (rule A139).
fn name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = git::decode(rest.split_once('/').map_or("", |(_, path)| path));
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_usable = !matches!(name, "" | "." | "..") && !name.contains('\0');
    if is_usable { name.to_owned() } else { "__unnamed__".to_owned() }
}

/// A `--checksum` of a download (rule A140).
pub(crate) fn checksum(text: &str) -> Result<Digest, ChecksumError> {
    text.parse().map_err(|error| match error {
        ParseDigestError::NoAlgorithm | ParseDigestError::BadHex => ChecksumError::Format,
        ParseDigestError::UnsupportedAlgorithm(_) => ChecksumError::Algorithm,
    })
}

/// What is wrong with a `--checksum`. The wordings are BuildKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumError {
    /// Not `sha256:` and 64 hex digits.
    #[error("invalid checksum digest format")]
    Format,
    /// Something else than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a139_the_name_is_the_last_one_of_the_path() {
        let check = |url: &str, expected: &str| assert_eq!(name(url), expected, "{url}");
        check("https://x/a/file.txt", "file.txt");
        check("https://x/a/file.txt?query=1/2#frag/3", "file.txt");
        check("https://x/dir/", "dir");
        check("https://x", "__unnamed__");
        check("https://x/", "__unnamed__");
        check("https://x?a/b", "__unnamed__");
        check("https://x/a%20b%2Fc%20d", "c d");
        check("https://x/a/..", "__unnamed__");
        check("https://x/100%", "100%");
    }

    #[test]
    fn a130_downloads_are_told_from_paths_and_repositories() {
        let check = |text: &str, expected| {
            assert_eq!(UrlSource::parse(text).is_some(), expected, "{text}");
        };
        check("https://x/y", true);
        check("http://x/y.git?x", false);
        check("https://x/y.git", false);
        check("./http://x", false);
        check("ftp://x/y", false);
    }

    #[test]
    fn a140_a_checksum_is_a_sha256() {
        let check = |text: &str, expected: Option<ChecksumError>| {
            assert_eq!(checksum(text).err(), expected, "{text}");
        };
        check(&format!("sha256:{}", "0".repeat(64)), None);
        check("sha256:0", Some(ChecksumError::Format));
        check("0123", Some(ChecksumError::Format));
        check("md5:abc", Some(ChecksumError::Algorithm));
    }
}
