//! Where credentials are kept, and which of them are meant for a repository.
//!
//! The order is Podman's: what the command line and the environment hold, then the files in order,
//! then what a pipeline or a cloud has for us; the first with a match wins. Within a file, a helper
//! for the host, then a helper for all hosts, then the file's own entries. The environment itself is
//! read by `cli` alone. Rules B099 to B111.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::registry::ambient::{Pipeline, cloud_helpers};
use crate::registry::docker_config::{BadAuth, ConfigFile, canonical, store_key};
use crate::registry::helper::{self, HELPER_LIMIT, HelperError};
use crate::registry::secret::{Credential, Secret};

/// The longest file of credentials that is read.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// Where to look for credentials, and where to keep them.
#[derive(Debug, Clone)]
pub struct CredentialSources {
    /// What the command line says (`--creds`), each for one host. Comes first.
    pub given: Vec<(String, Credential)>,
    /// The value of `DOCKER_AUTH_CONFIG`: a whole config file. Comes first (rule B105).
    pub inline: Option<Secret>,
    /// Files in Docker's or Podman's format, in order. Those that do not exist are passed over.
    pub files: Vec<PathBuf>,
    /// The file that `login` and `logout` change. `None` where there is no home directory.
    pub docker_config: Option<PathBuf>,
    /// What a pipeline gives its job. Comes after the files.
    pub pipeline: Pipeline,
    /// Whether the helpers of clouds are asked, last of all.
    pub cloud_helpers: bool,
    /// How long a credential helper may take; it may be asking a person.
    pub helper_limit: Duration,
}

/// What the environment says about credentials. Each field is the variable of that name.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `HOME`
    pub home: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the directory that holds `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`
    pub xdg_config_home: Option<PathBuf>,
    /// `DOCKER_AUTH_CONFIG`
    pub docker_auth_config: Option<Secret>,
    /// `--authfile`: in place of all files, and for `login` too.
    pub authfile: Option<PathBuf>,
    /// What pipelines set.
    pub pipeline: Pipeline,
    /// The user's number, for `/run/containers/<uid>`.
    pub uid: u32,
}

impl Default for CredentialSources {
    /// No credentials at all.
    fn default() -> Self {
        let helper_limit = HELPER_LIMIT;
        Self {
            given: Vec::new(),
            inline: None,
            files: Vec::new(),
            docker_config: None,
            pipeline: Pipeline::default(),
            cloud_helpers: false,
            helper_limit,
        }
    }
}

impl CredentialSources {
    /// The places where Podman and Docker look, in Podman's order (rule B103).
    ///
    /// A variable that is set but empty counts as unset.
    pub fn standard(environment: &Environment) -> Self {
        let set = |path: &Option<PathBuf>| path.clone().filter(|p| !p.as_os_str().is_empty());
        let home = set(&environment.home);
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker_directory = set(&environment.docker_config).or_else(|| in_home(".docker"));
        let docker_config = docker_directory.map(|directory| directory.join("config.json"));
        let runtime = set(&environment.xdg_runtime_dir).map_or_else(
            || PathBuf::from(format!("/run/containers/{}/auth.json", environment.uid)),
            |directory| directory.join("containers/auth.json"),
        );
        let config = set(&environment.xdg_config_home).or_else(|| in_home(".config"));
        let explicit = set(&environment.authfile);
        let only = explicit.clone().or_else(|| set(&environment.registry_auth_file));
        let files = match only {
            Some(only) => vec![only],
            None => [
                Some(runtime),
                config.map(|directory| directory.join("containers/auth.json")),
                docker_config.clone(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        Self {
            given: Vec::new(),
            inline: environment.docker_auth_config.clone().filter(|it| !it.reveal().is_empty()),
            files,
            docker_config: explicit.or(docker_config),
            pipeline: environment.pipeline.clone(),
            cloud_helpers: true,
            helper_limit: HELPER_LIMIT,
        }
    }

    /// The credentials for `repository` on `host`; `None` is anonymous.
    ///
    /// Blocks: it reads files and may run a helper.
    ///
    /// # Errors
    ///
    /// Fails if a file that exists is malformed, or a helper that is named for the host fails. To
    /// go on as nobody would only turn that into a puzzling refusal later.
    pub fn lookup(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        Ok(self.find(host, repository)?.map(|found| found.credential))
    }

    /// The same, and where they were.
    pub(crate) fn find(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Found>, CredentialError> {
        let given = self.given.iter().find(|(name, _)| canonical(name) == canonical(host));
        if let Some((_, credential)) = given {
            return Ok(Some(Found::new(credential.clone(), "the command line")));
        }
        if let Some(inline) = &self.inline {
            let path = Path::new("DOCKER_AUTH_CONFIG");
            let file = parse(path, inline.reveal().as_bytes())?;
            if let Some(found) = self.look_into(path, &file, host, repository)? {
                return Ok(Some(found));
            }
        }
        for path in &self.files {
            let Some(bytes) = read(path)? else { continue };
            let file = parse(path, &bytes)?;
            if let Some(found) = self.look_into(path, &file, host, repository)? {
                return Ok(Some(found));
            }
        }
        let pipeline = self.pipeline.lookup(host);
        let pipeline = pipeline.map(|it| Found::new(it, "the variables of the pipeline"));
        Ok(pipeline.or_else(|| self.ask_cloud(host)))
    }

    /// Asks the helpers of the cloud whose registry `host` is. Nobody has named them, so one that
    /// is missing or fails is no error: the image may be for everybody.
    fn ask_cloud(&self, host: &str) -> Option<Found> {
        let helpers = if self.cloud_helpers { cloud_helpers(host) } else { &[] };
        helpers.iter().find_map(|name| {
            let found = helper::get(name, host, self.helper_limit).ok().flatten()?;
            Some(Found::new(found, format!("the helper {name}")))
        })
    }

    fn look_into(
        &self,
        path: &Path,
        file: &ConfigFile,
        host: &str,
        repository: &str,
    ) -> Result<Option<Found>, CredentialError> {
        let failed = |source| CredentialError::Helper { path: path.to_owned(), source };
        let of_helper = |credential, name: &str| {
            Found::new(credential, format!("the helper {name}, which `{}` names", path.display()))
        };
        let key = store_key(host);
        if let Some(name) = file.helper(host) {
            let found = helper::get(name, key, self.helper_limit).map_err(failed)?;
            if let Some(credential) = found {
                return Ok(Some(of_helper(credential, name)));
            }
        } else if let Some(name) = file.store() {
            match helper::get(name, key, self.helper_limit) {
                Ok(Some(credential)) => return Ok(Some(of_helper(credential, name))),
                // A config copied from a desktop names a store that is not here.
                Ok(None) | Err(HelperError::Missing(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let found = file
            .credential(host, repository)
            .map_err(|BadAuth(key)| CredentialError::BadAuth { path: path.to_owned(), key })?;
        Ok(found.map(|it| Found::new(it, format!("`{}`", path.display()))))
    }
}

/// Credentials, and where they were.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) credential: Credential,
    /// In words: a file, a helper, the command line.
    pub(crate) place: String,
}

impl Found {
    fn new(credential: Credential, place: impl Into<String>) -> Self {
        Self { credential, place: place.into() }
    }
}

/// Reads a file whole; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(bytes))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Parses a file. An empty one is what `touch` and some CI systems leave.
fn parse(path: &Path, bytes: &[u8]) -> Result<ConfigFile, CredentialError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(ConfigFile::default());
    }
    serde_json::from_slice(bytes).map_err(|error| CredentialError::malformed(path, &error))
}

/// Why credentials could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The operating system refused.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is not JSON, or not of that shape. Its content is not told: it is a secret.
    #[error("`{}` is not a valid Docker config file (line {line}, column {column})", .path.display())]
    Malformed {
        /// Which file, or the environment variable.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// An entry cannot be decoded. Its content is not told.
    #[error("`auth` of `{key}` in `{}` is not base64 of `user:password`", .path.display())]
    BadAuth {
        /// Which file, or the environment variable.
        path: PathBuf,
        /// Which entry.
        key: String,
    },
    /// A credential helper failed.
    #[error("the credential helper that `{}` names did not help", .path.display())]
    Helper {
        /// The file that names the helper.
        path: PathBuf,
        /// Why.
        source: HelperError,
    },
}

impl CredentialError {
    /// The parser's own message can quote the text, so only the place is kept.
    pub(crate) fn malformed(path: &Path, error: &serde_json::Error) -> Self {
        Self::Malformed { path: path.to_owned(), line: error.line(), column: error.column() }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadAuth { key, .. } => Some(format!("run `coracle login {key}` again")),
            Self::Helper { source: HelperError::Missing(name), .. } => {
                Some(format!("install `docker-credential-{name}`, or remove it from the file"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { home: Some("/home/u".into()), uid: 7, ..Environment::default() }
    }

    #[track_caller]
    fn check(environment: &Environment, files: &[&str], docker_config: &str) {
        let sources = CredentialSources::standard(environment);
        assert_eq!(sources.files, files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(sources.docker_config, Some(PathBuf::from(docker_config)));
    }

    #[test]
    fn b103_the_order_is_podmans() {
        let plain = environment();
        let docker = "/home/u/.docker/config.json";
        check(
            &plain,
            &["/run/containers/7/auth.json", "/home/u/.config/containers/auth.json", docker],
            docker,
        );
        let all = Environment {
            docker_config: Some("/d".into()),
            xdg_runtime_dir: Some("/x".into()),
            xdg_config_home: Some("/c".into()),
            ..plain.clone()
        };
        let files = ["/x/containers/auth.json", "/c/containers/auth.json", "/d/config.json"];
        check(&all, &files, "/d/config.json");
        let only = Environment { registry_auth_file: Some("/only".into()), ..plain.clone() };
        check(&only, &["/only"], docker);
        let empty = Environment { docker_config: Some("".into()), ..plain };
        assert_eq!(CredentialSources::standard(&empty).docker_config, Some(PathBuf::from(docker)));
    }

    fn sources(directory: &Path, contents: &[&str]) -> CredentialSources {
        let mut sources = CredentialSources::default();
        for (index, content) in contents.iter().enumerate() {
            let path = directory.join(format!("{index}.json"));
            std::fs::write(&path, content).expect("a temporary directory");
            sources.files.push(path);
        }
        sources
    }

    fn user(sources: &CredentialSources, host: &str) -> Option<String> {
        match sources.lookup(host, "x").expect("readable")? {
            Credential::Password { username, .. } => Some(username),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn b103_b105_the_first_file_with_a_match_wins_and_the_environment_before_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut sources = sources(
            directory.path(),
            &[
                "",
                r#"{"auths":{"a":{"auth":"MTpw"}}}"#,
                r#"{"auths":{"a":{"auth":"Mjpw"},"b":{"auth":"Mjpw"}}}"#,
            ],
        );
        sources.files.insert(0, "/nonexistent/auth.json".into());
        sources.files.insert(0, "/dev/null/auth.json".into());
        assert_eq!(user(&sources, "a").as_deref(), Some("1"));
        assert_eq!(user(&sources, "b").as_deref(), Some("2"));
        assert_eq!(user(&sources, "c"), None);
        sources.inline = Some(Secret::new(r#"{"auths":{"a":{"auth":"MDpw"}}}"#));
        assert_eq!(user(&sources, "a").as_deref(), Some("0"));
        assert_eq!(user(&sources, "b").as_deref(), Some("2"));
    }

    #[test]
    fn b099_a_malformed_file_is_named_but_not_quoted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for content in [r#"{"auths":{"a":{"auth":"hunter2"}}}"#, r#"{"auths": "hunter2"}"#] {
            let sources = sources(directory.path(), &[content]);
            let error = sources.lookup("a", "x").expect_err("malformed");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("0.json") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn b107_a_store_that_is_not_here_is_passed_over_but_a_hosts_own_helper_is_not() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = r#"{"credsStore":"coracle-none","auths":{"a":{"auth":"MTpw"}}}"#;
        assert_eq!(user(&sources(directory.path(), &[text]), "a").as_deref(), Some("1"));
        let text = r#"{"credHelpers":{"a":"coracle-none"},"auths":{"a":{"auth":"MTpw"}}}"#;
        let error = sources(directory.path(), &[text]).lookup("a", "x").expect_err("missing");
        assert!(error.hint().is_some_and(|hint| hint.contains("docker-credential-coracle-none")));
    }
}
