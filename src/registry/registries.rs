//! `registries.conf`: which registry is asked in the place of which, and which is not asked at all.
//!
//! Pure: texts come in, decisions go out; `cli` finds the files. Rules B112 to B115.
//!
//! A name without a registry is always Docker Hub's, as everywhere in a Dockerfile. So
//! `unqualified-search-registries`, `short-name-mode` and `[aliases]` are read over: they are about
//! names that do not occur here (rule B115).
//!
//! Specs: <https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>,
//! <https://github.com/containers/image/blob/main/docs/containers-registries.conf.d.5.md>.

use std::path::PathBuf;

use serde::Deserialize;

use crate::oci::Reference;

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    entries: Vec<Entry>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorEntry>,
}

/// One `[[registry.mirror]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct MirrorEntry {
    location: String,
    insecure: bool,
    pull_from_mirror: PullFrom,
}

/// For which references a mirror is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    registry: Vec<Entry>,
    /// The lists of version 1, which nobody reads any more.
    registries: Option<toml::Table>,
}

/// A place to ask: a host and the name that the repository has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) host: String,
    pub(crate) repository: String,
}

/// Why the configuration of registries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file is not TOML, or not of that shape.
    #[error("`{}` is not a valid registries.conf", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// The file is in the format of version 1.
    #[error("`{}` is written in the old format of registries.conf (version 1)", .0.display())]
    Old(PathBuf),
    /// A registry that has no name, or one that no registry has.
    #[error("`{}` has a registry with the prefix `{prefix}` and the location `{location}`, which do not go together", .path.display())]
    BadEntry {
        /// Which file.
        path: PathBuf,
        /// The prefix.
        prefix: String,
        /// The location.
        location: String,
    },
    /// `--registry-map` with something that is not one.
    #[error("`{0}` is not a map; write `REGISTRY[/PREFIX]=HOST[:PORT][/PREFIX]`")]
    BadMap(String),
}

impl RegistriesError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Old(_) => Some("write it as `[[registry]]` tables (version 2)".to_owned()),
            _ => None,
        }
    }
}

impl Registries {
    /// Reads the file and its additions, in order: an entry replaces an earlier one of the same
    /// prefix (rule B112).
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be understood.
    pub fn parse(files: &[(PathBuf, String)]) -> Result<Self, RegistriesError> {
        let mut all = Self::default();
        for (path, text) in files {
            let file: File = toml::from_str(text)
                .map_err(|source| RegistriesError::Malformed { path: path.clone(), source })?;
            if file.registries.is_some_and(|old| !old.is_empty()) {
                return Err(RegistriesError::Old(path.clone()));
            }
            for entry in file.registry {
                all.add(entry.completed(path)?);
            }
        }
        Ok(all)
    }

    /// Adds a `REGISTRY[/PREFIX]=HOST[/PREFIX]`: pulls of the one go to the other, and to nobody else.
    ///
    /// # Errors
    ///
    /// Fails if `text` is not of that form.
    pub fn map(&mut self, text: &str) -> Result<(), RegistriesError> {
        let bad = || RegistriesError::BadMap(text.to_owned());
        let (prefix, location) = text.split_once('=').ok_or_else(bad)?;
        let location = location.trim_end_matches('/').to_owned();
        let entry = Entry { prefix: normal(prefix), location, ..Entry::default() };
        if entry.location.is_empty() || entry.prefix.starts_with('*') || !entry.is_sound() {
            return Err(bad());
        }
        self.add(entry);
        Ok(())
    }

    fn add(&mut self, entry: Entry) {
        self.entries.retain(|known| known.prefix != entry.prefix);
        self.entries.push(entry);
    }

    /// The hosts that may be spoken to without a certificate that is trusted (rule B008).
    pub(crate) fn insecure(&self) -> impl Iterator<Item = String> {
        let own = self.entries.iter().filter(|entry| entry.insecure).map(|it| &it.location);
        let mirrors = self.entries.iter().flat_map(|entry| &entry.mirror);
        let mirrors = mirrors.filter(|mirror| mirror.insecure).map(|it| &it.location);
        own.chain(mirrors).map(|location| host_of(location).to_owned())
    }

    /// Whether nothing of this name may be pulled or pushed (rule B114).
    pub(crate) fn blocks(&self, reference: &Reference) -> bool {
        self.entry(&name(reference)).is_some_and(|entry| entry.blocked)
    }

    /// Who is asked for `reference`, in order; `None` if no entry speaks of it.
    pub(crate) fn places(&self, reference: &Reference) -> Option<Vec<Located>> {
        let name = name(reference);
        let entry = self.entry(&name)?;
        let pinned = reference.digest().is_some();
        let asked = |mirror: &&MirrorEntry| match mirror.pull_from_mirror {
            PullFrom::All => pinned || !entry.mirror_by_digest_only,
            PullFrom::DigestOnly => pinned,
            PullFrom::TagOnly => !pinned,
        };
        let mirrors = entry.mirror.iter().filter(asked).map(|mirror| mirror.location.as_str());
        let places = mirrors.chain([entry.location.as_str()]);
        Some(places.map(|location| entry.rewrite(&name, location)).collect())
    }

    /// The entry with the longest prefix of `name` (rule B112).
    fn entry(&self, name: &str) -> Option<&Entry> {
        let fitting = self.entries.iter().filter(|entry| entry.covers(name));
        fitting.max_by_key(|entry| (entry.prefix.len(), !entry.prefix.starts_with('*')))
    }
}

impl Entry {
    fn completed(mut self, path: &std::path::Path) -> Result<Self, RegistriesError> {
        self.location.truncate(self.location.trim_end_matches('/').len());
        if self.prefix.is_empty() {
            self.prefix.clone_from(&self.location);
        }
        self.prefix = normal(&self.prefix);
        for mirror in &mut self.mirror {
            mirror.location.truncate(mirror.location.trim_end_matches('/').len());
        }
        if self.is_sound() {
            return Ok(self);
        }
        let (path, prefix, location) = (path.to_owned(), self.prefix, self.location);
        Err(RegistriesError::BadEntry { path, prefix, location })
    }

    /// Whether prefix and locations are names, and the wildcard is where it may be.
    fn is_sound(&self) -> bool {
        let is_name = |text: &str| {
            !text.is_empty()
                && !text.contains("://")
                && !text.contains(['@', '?', '#', ' ', '*'])
                && text.split('/').all(|part| !part.is_empty() && part != "..")
        };
        let mirrors = self.mirror.iter().all(|mirror| is_name(&mirror.location));
        let own = match self.prefix.strip_prefix("*.") {
            // A wildcard stands for many hosts, so there is no one place instead of them.
            Some(rest) => is_name(rest) && !rest.contains('/') && self.location.is_empty(),
            None => is_name(&self.prefix) && (self.location.is_empty() || is_name(&self.location)),
        };
        own && mirrors
    }

    fn covers(&self, name: &str) -> bool {
        if let Some(rest) = self.prefix.strip_prefix('*') {
            return host_of(name).ends_with(rest) && host_of(name).len() > rest.len();
        }
        let rest = name.strip_prefix(&self.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// `name` with `location` in the place of the prefix; as it is without a location.
    fn rewrite(&self, name: &str, location: &str) -> Located {
        let prefix = if self.prefix.starts_with('*') { host_of(name) } else { &self.prefix };
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        let location = if location.is_empty() { prefix } else { location };
        let full = format!("{location}{rest}");
        let (host, repository) = full.split_once('/').unwrap_or((full.as_str(), ""));
        Located { host: host.to_owned(), repository: repository.to_owned() }
    }
}

/// `docker.io/library/python`: what prefixes are compared with (rule B114).
fn name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

fn host_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// A prefix with Docker Hub's one name, and without a slash at its end.
fn normal(prefix: &str) -> String {
    let prefix = prefix.trim_end_matches('/');
    for alias in ["index.docker.io", "registry-1.docker.io"] {
        if let Some(rest) =
            prefix.strip_prefix(alias).filter(|it| it.is_empty() || it.starts_with('/'))
        {
            return format!("docker.io{rest}");
        }
    }
    prefix.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Registries, RegistriesError> {
        let files: Vec<_> =
            texts.iter().map(|text| (PathBuf::from("r.conf"), (*text).to_owned())).collect();
        Registries::parse(&files)
    }

    #[track_caller]
    fn check(registries: &Registries, reference: &str, expected: &[&str]) {
        let reference: Reference = reference.parse().expect("a reference");
        let places = registries.places(&reference).unwrap_or_default();
        let places: Vec<_> =
            places.iter().map(|it| format!("{}/{}", it.host, it.repository)).collect();
        assert_eq!(places, expected, "{reference}");
    }

    const DIGEST: &str = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn b112_the_longest_prefix_wins_and_wildcards_are_for_hosts() {
        let text = r#"
            unqualified-search-registries = ["r.example"]
            short-name-mode = "enforcing"
            [[registry]]
            location = "r.example"
            [[registry]]
            prefix = "r.example/a"
            location = "one.example/x"
            [[registry]]
            prefix = "r.example/a/b"
            location = "two.example"
            [[registry]]
            prefix = "*.example"
            [[registry.mirror]]
            location = "mirror.test/all"
        "#;
        let registries = read(&[text]).expect("valid");
        check(&registries, "r.example/c:1", &["r.example/c"]);
        check(&registries, "r.example/a:1", &["one.example/x"]);
        check(&registries, "r.example/a/c:1", &["one.example/x/c"]);
        check(&registries, "r.example/ab:1", &["r.example/ab"]);
        check(&registries, "r.example/a/b/c:1", &["two.example/c"]);
        check(&registries, "s.example/a:1", &["mirror.test/all/a", "s.example/a"]);
        check(&registries, "s.t.example/a", &["mirror.test/all/a", "s.t.example/a"]);
        check(&registries, "s.test/a", &[]);
    }

    #[test]
    fn b112_a_later_file_replaces_entries_of_the_same_prefix() {
        let first = "[[registry]]\nlocation = \"a.example\"\nblocked = true\n\
                     [[registry]]\nlocation = \"b.example\"\nblocked = true\n";
        let later = "[[registry]]\nprefix = \"a.example\"\nlocation = \"c.example\"\n";
        let registries = read(&[first, later]).expect("valid");
        check(&registries, "a.example/x", &["c.example/x"]);
        assert!(registries.blocks(&"b.example/x".parse().expect("a reference")));
        assert!(!registries.blocks(&"a.example/x".parse().expect("a reference")));
    }

    #[test]
    fn b113_mirrors_come_in_order_and_each_for_its_kind_of_reference() {
        let text = r#"
            [[registry]]
            location = "r.example"
            [[registry.mirror]]
            location = "any.test"
            [[registry.mirror]]
            location = "digest.test:5000/p"
            pull-from-mirror = "digest-only"
            insecure = true
            [[registry.mirror]]
            location = "tag.test"
            pull-from-mirror = "tag-only"
            [[registry]]
            location = "d.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "any.test"
        "#;
        let registries = read(&[text]).expect("valid");
        check(&registries, "r.example/a:1", &["any.test/a", "tag.test/a", "r.example/a"]);
        let pinned = ["any.test/a", "digest.test:5000/p/a", "r.example/a"];
        check(&registries, &format!("r.example/a{DIGEST}"), &pinned);
        check(&registries, "d.example/a:1", &["d.example/a"]);
        check(&registries, &format!("d.example/a{DIGEST}"), &["any.test/a", "d.example/a"]);
        assert_eq!(registries.insecure().collect::<Vec<_>>(), ["digest.test:5000"]);
    }

    #[test]
    fn b114_docker_hubs_short_names_are_matched_in_full() {
        let text = r#"
            [[registry]]
            prefix = "docker.io/library"
            location = "r.example/hub"
            [[registry]]
            prefix = "index.docker.io/bad"
            blocked = true
        "#;
        let registries = read(&[text]).expect("valid");
        check(&registries, "python:3", &["r.example/hub/python"]);
        check(&registries, "me/app", &[]);
        assert!(registries.blocks(&"bad/app".parse().expect("a reference")));
    }

    #[test]
    fn b115_a_short_name_is_docker_hubs_whatever_the_aliases_say() {
        let text =
            "unqualified-search-registries = [\"quay.io\"]\n[aliases]\npython = \"quay.io/p\"\n";
        let registries = read(&[text]).expect("valid");
        check(&registries, "python", &[]);
        let reference: Reference = "python".parse().expect("a reference");
        assert_eq!(reference.registry(), "docker.io");
    }

    #[test]
    fn b112_what_cannot_be_used_is_said() {
        for text in [
            "[[registry]]\nlocation = 7\n",
            "[[registry]]\nlocation = \"https://a.example\"\n",
            "[[registry]]\nprefix = \"*.a.example/x\"\n",
            "[[registry]]\nprefix = \"*.a.example\"\nlocation = \"b.example\"\n",
            "[[registry]]\nblocked = true\n",
            "[[registry]]\nlocation=\"a\"\n[[registry.mirror]]\nlocation=\"b/../c\"\n",
            "[registries.search]\nregistries = [\"docker.io\"]\n",
        ] {
            assert!(read(&[text]).is_err(), "{text}");
        }
        read(&[""]).expect("an empty file says nothing");
    }

    #[test]
    fn b114_a_map_sends_pulls_elsewhere() {
        let mut registries = Registries::default();
        registries.map("docker.io=r.example:5000/hub/").expect("a map");
        check(&registries, "python:3", &["r.example:5000/hub/library/python"]);
        for text in ["docker.io", "=a", "a=", "*.a=b", "a=http://b", "a=b c"] {
            assert!(registries.map(text).is_err(), "{text}");
        }
    }
}
