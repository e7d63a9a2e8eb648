//! Git repositories as `BuildKit` writes them: `https://host/x.git#ref:subdir` and its kin.
//!
//! What is no such text is a path or a download. Nothing is asked of the network here.
//!
//! Source: <https://docs.docker.com/build/concepts/context/#git-repositories>; rule A141.

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// As written.
    pub text: String,
    /// What `git` is given, without fragment and query.
    pub remote: String,
    /// A branch, a tag, a full reference or a commit; empty is the default branch.
    pub reference: String,
    /// The directory of the repository that is wanted; empty is all of it.
    pub subdir: String,
    /// What the commit (or the annotated tag) has to begin with.
    pub checksum: Option<String>,
    /// Whether `.git` is wanted too, if the URL says so.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: bool,
}

/// What is wrong with the URL of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlError {
    /// `?nonsense=1`
    #[error("unexpected query \"{0}\"")]
    UnknownQuery(String),
    /// `?ref=`
    #[error("query \"{0}\" has no value")]
    NoValue(String),
    /// `?ref=a&ref=b`
    #[error("query \"{0}\" has multiple values")]
    SeveralValues(String),
    /// `?submodules=perhaps`
    #[error("invalid {name} value: \"{value}\"")]
    NotABoolean {
        /// The query's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `?ref=a#b`
    #[error("{what} conflicts: \"{one}\" vs \"{other}\"")]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// What is said first.
        one: String,
        /// What is said then.
        other: String,
    },
    /// Something that `git` would take for an option, or that names no reference.
    #[error("\"{0}\" is not the name of a git reference")]
    BadReference(String),
}

impl GitUrlError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::UnknownQuery(_) | Self::NoValue(_) | Self::SeveralValues(_) => {
                "what can be asked for is ref=, branch= or tag=, subdir=, checksum=, keep-git-dir= \
                 and submodules=, each once"
            }
            Self::NotABoolean { .. } => "write true or false",
            Self::Conflict { .. } => "say it once: behind `?`, or behind `#` as `#ref:subdir`",
            Self::BadReference(_) => "name a branch, a tag or a commit: `https://host/x.git#v1.0`",
        }
    }
}

impl GitSource {
    /// Reads a source of `ADD`, a context of the command line. `None` is something else.
    pub fn parse(text: &str) -> Option<Result<Self, GitUrlError>> {
        let (remote, query, fragment) = split(text);
        is_repository(remote).then(|| Self::read(text, remote, query, fragment))
    }

    /// The same for a build context, where `github.com/owner/name` is one too.
    pub fn parse_context(text: &str) -> Option<Result<Self, GitUrlError>> {
        if !text.starts_with("github.com/") {
            return Self::parse(text);
        }
        let (remote, query, fragment) = split(text);
        Some(Self::read(text, &format!("https://{remote}"), query, fragment))
    }

    /// Whether it is reached with `ssh`.
    pub fn is_ssh(&self) -> bool {
        !self.remote.contains("://") || self.remote.starts_with("ssh://")
    }

    fn read(
        text: &str,
        remote: &str,
        query: Option<&str>,
        fragment: Option<&str>,
    ) -> Result<Self, GitUrlError> {
        let (reference, subdir) = fragment
            .unwrap_or_default()
            .split_once(':')
            .unwrap_or((fragment.unwrap_or_default(), ""));
        let mut source = Self {
            text: text.to_owned(),
            remote: remote.to_owned(),
            reference: decode(reference),
            subdir: decode(subdir),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
        };
        if let Some(query) = query {
            source.read_query(query)?;
        }
        if remote.starts_with('-') || !is_reference(&source.reference) {
            return Err(GitUrlError::BadReference(source.reference));
        }
        Ok(source)
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitUrlError> {
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name), decode(value));
            if seen.contains(&name) {
                return Err(GitUrlError::SeveralValues(name));
            }
            let is_flag = matches!(name.as_str(), "keep-git-dir" | "submodules");
            if value.is_empty() && !is_flag {
                return Err(GitUrlError::NoValue(name));
            }
            match name.as_str() {
                "ref" => set("ref", &mut self.reference, value)?,
                "tag" => set("ref", &mut self.reference, below("refs/tags/", &value))?,
                "branch" => set("ref", &mut self.reference, below("refs/heads/", &value))?,
                "subdir" => set("subdir", &mut self.subdir, value)?,
                "checksum" | "commit" => self.checksum = Some(value),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&name, value)?),
                "submodules" => self.submodules = boolean(&name, value)?,
                _ => return Err(GitUrlError::UnknownQuery(name)),
            }
            seen.push(name);
        }
        if self.reference.is_empty() {
            self.reference = self.checksum.clone().unwrap_or_default();
        }
        Ok(())
    }
}

/// The text before the query, the query, the fragment.
fn split(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, fragment) = text.split_once('#').map_or((text, None), |(r, f)| (r, Some(f)));
    let (remote, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
    (remote, query, fragment)
}

/// `BuildKit`'s way to tell: `https://x/y.git` is a repository, `https://x/y` a download.
fn is_repository(remote: &str) -> bool {
    match remote.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => {
                // Other than a file's name, a repository's ends in small letters.
                rest.split_once('/').is_some_and(|(_, path)| path.strip_suffix(".git").is_some())
            }
            _ => false,
        },
        None => is_scp(remote),
    }
}

/// `git@host:path`
fn is_scp(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_name = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_name(user, "-_") && is_name(host, "-.")
}

/// Whether `git` can take it for a reference or a commit, and for nothing else
/// (<https://git-scm.com/docs/git-check-ref-format>). Empty is the default branch.
fn is_reference(name: &str) -> bool {
    let is_bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.starts_with(['-', '+', '/'])
        && !name.ends_with(['/', '.'])
        && !name.contains(is_bad)
        && !name.contains("..")
        && !name.contains("@{")
}

fn set(what: &'static str, field: &mut String, value: String) -> Result<(), GitUrlError> {
    if !field.is_empty() && *field != value {
        return Err(GitUrlError::Conflict { what, one: field.clone(), other: value });
    }
    *field = value;
    Ok(())
}

fn below(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// A flag without a value is set.
fn boolean(name: &str, value: String) -> Result<bool, GitUrlError> {
    match value.as_str() {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitUrlError::NotABoolean { name: name.to_owned(), value }),
    }
}

/// Undoes `%20` and its kin; what is no escape stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a141_repositories_are_told_from_paths_and_downloads() {
        let check = |text: &str, expected| {
            assert_eq!(GitSource::parse(text).is_some(), expected, "{text}");
        };
        check("a.txt", false);
        check("./x.git", false);
        check("user@file", false);
        check("a b@c:d", false);
        check("file:///srv/x.git", false);
        check("github.com/a/b", false);
        check("https://x/y.tar.gz", false);
        check("https://x/y?z=.git", false);
        check("https://x.git", false);
        check("https://x/y.git", true);
        check("http://x/y.git?ref=main", true);
        check("https://x/y.git#main:sub", true);
        check("git@127.0.0.1:group/project.git", true);
        check("git://x/y", true);
        check("ssh://git@x/y", true);
    }

    #[track_caller]
    fn read(text: &str) -> GitSource {
        GitSource::parse_context(text).expect("a repository").expect("well formed")
    }

    #[test]
    fn a141_the_fragment_is_a_reference_and_a_directory() {
        let check = |text: &str, remote: &str, reference: &str, subdir: &str| {
            let source = read(text);
            let found = (&*source.remote, &*source.reference, &*source.subdir);
            assert_eq!(found, (remote, reference, subdir), "{text}");
        };
        check("https://x/y.git", "https://x/y.git", "", "");
        check("https://x/y.git#v1", "https://x/y.git", "v1", "");
        check("https://x/y.git#:sub/dir", "https://x/y.git", "", "sub/dir");
        check("git@h:a/b.git#feature/x:d", "git@h:a/b.git", "feature/x", "d");
        check("https://x/y.git?tag=v1&subdir=d", "https://x/y.git", "refs/tags/v1", "d");
        check("https://x/y.git?branch=b#:d", "https://x/y.git", "refs/heads/b", "d");
        check("https://x/y.git?commit=abc", "https://x/y.git", "abc", "");
        check("github.com/a/b#main", "https://github.com/a/b", "main", "");
    }

    #[test]
    fn the_query_says_what_else_is_wanted() {
        let source = read("https://x/y.git?keep-git-dir&submodules=false&checksum=c0ffee#main");
        assert_eq!((source.keep_git_dir, source.submodules), (Some(true), false));
        assert_eq!((source.checksum.as_deref(), &*source.reference), (Some("c0ffee"), "main"));
    }

    #[test]
    fn what_git_would_misunderstand_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = GitSource::parse(text).expect("a repository").expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        };
        let bad = |name: &str| format!("\"{name}\" is not the name of a git reference");
        check("https://x/y.git#--upload-pack=x", &bad("--upload-pack=x"));
        check("https://x/y.git#a..b", &bad("a..b"));
        check("https://x/y.git?ref=a%3Ab", &bad("a:b"));
        check("https://x/y.git?x=1", "unexpected query \"x\"");
        check("https://x/y.git?ref=", "query \"ref\" has no value");
        check("https://x/y.git?ref=a&ref=a", "query \"ref\" has multiple values");
        check("https://x/y.git?ref=a#b", "ref conflicts: \"b\" vs \"a\"");
        check(
            "https://x/y.git?tag=a&branch=b",
            "ref conflicts: \"refs/tags/a\" vs \"refs/heads/b\"",
        );
        check("https://x/y.git?submodules=x", "invalid submodules value: \"x\"");
    }
}
