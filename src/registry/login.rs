//! `login` and `logout`: changes to Docker's `config.json`, or to what a helper keeps.
//!
//! The file is written anew beside the old one and put in its place, with mode 0600; every field
//! that is not ours stays as it was. Rule B111. Whether the credentials are any good is not asked
//! here: `Client::check_login` does that, before.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::registry::credential::{CredentialError, read};
use crate::registry::docker_config::{ConfigFile, encode, names_host, store_key};
use crate::registry::helper::{self, HELPER_LIMIT};
use crate::registry::secret::Credential;

/// Who keeps the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// The file of that name, in plain text.
    File(PathBuf),
    /// The helper of that name.
    Helper(String),
}

/// Keeps `credential` for `host`: with the helper that the file names, else in the file.
///
/// Blocks.
///
/// # Errors
///
/// Fails if the file cannot be read, is malformed or cannot be written, or if the helper fails.
pub fn login(
    docker_config: &Path,
    host: &str,
    credential: &Credential,
) -> Result<Keeper, CredentialError> {
    let path = real_path(docker_config);
    let mut file = load(&path)?;
    let (key, helper) = (store_key(host), helper_for(&path, &file, host)?);
    let auths = auths(&path, &mut file)?;
    // Another way to write the same host might be found first.
    auths.retain(|other, _| !names_host(other, host));
    let (keeper, entry) = match helper {
        Some(name) => {
            helper::store(&name, key, credential, HELPER_LIMIT)
                .map_err(|source| CredentialError::Helper { path: path.clone(), source })?;
            (Keeper::Helper(name), json!({}))
        }
        None => (Keeper::File(path.clone()), entry(credential)),
    };
    auths.insert(key.to_owned(), entry);
    save(&path, &file)?;
    Ok(keeper)
}

/// Forgets the credentials for `host`. Says whether the file or a helper may have had any.
///
/// Blocks.
///
/// # Errors
///
/// Fails if the file cannot be read, is malformed or cannot be written, or if the helper fails.
pub fn logout(docker_config: &Path, host: &str) -> Result<bool, CredentialError> {
    let path = real_path(docker_config);
    if read(&path)?.is_none() {
        return Ok(false);
    }
    let mut file = load(&path)?;
    let helper = helper_for(&path, &file, host)?;
    let auths = auths(&path, &mut file)?;
    let before = auths.len();
    auths.retain(|key, _| !names_host(key, host));
    let known = auths.len() < before;
    if let Some(name) = &helper {
        helper::erase(name, store_key(host), HELPER_LIMIT)
            .map_err(|source| CredentialError::Helper { path: path.clone(), source })?;
    }
    if known {
        save(&path, &file)?;
    }
    Ok(known || helper.is_some())
}

fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { username, password } => {
            json!({ "auth": encode(username, password) })
        }
        Credential::IdentityToken { token, .. } => json!({ "identitytoken": token.reveal() }),
        Credential::RegistryToken(token) => json!({ "registrytoken": token.reveal() }),
    }
}

/// The file itself where `path` is a link to it, so that the link survives.
fn real_path(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn load(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    let bytes = read(path)?.unwrap_or_default();
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|error| CredentialError::malformed(path, &error))
}

fn helper_for(
    path: &Path,
    file: &Map<String, Value>,
    host: &str,
) -> Result<Option<String>, CredentialError> {
    let parsed: ConfigFile = serde_json::from_value(Value::Object(file.clone()))
        .map_err(|error| CredentialError::malformed(path, &error))?;
    Ok(parsed.helper(host).or(parsed.store()).map(str::to_owned))
}

/// The object `auths`, made if it is not there.
fn auths<'a>(
    path: &Path,
    file: &'a mut Map<String, Value>,
) -> Result<&'a mut Map<String, Value>, CredentialError> {
    let auths = file.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    auths.as_object_mut().ok_or_else(|| CredentialError::Malformed {
        path: path.to_owned(),
        line: 0,
        column: 0,
    })
}

fn save(path: &Path, file: &Map<String, Value>) -> Result<(), CredentialError> {
    write(path, file).map_err(|source| CredentialError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, file: &Map<String, Value>) -> io::Result<()> {
    use io::Write as _;

    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Docker's own layout: tabs.
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(file, &mut serializer)?;
    bytes.push(b'\n');
    let mut new = tempfile::Builder::new()
        .prefix(".config.json.")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    new.write_all(&bytes)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::credential::CredentialSources;
    use crate::registry::secret::Secret;

    fn password(username: &str) -> Credential {
        let password = Secret::new("p:w");
        Credential::Password { username: username.to_owned(), password }
    }

    fn sources(directory: &Path) -> CredentialSources {
        let path = directory.join("new/config.json");
        CredentialSources {
            files: vec![path.clone()],
            docker_config: Some(path),
            ..CredentialSources::default()
        }
    }

    fn path(sources: &CredentialSources) -> &Path {
        sources.docker_config.as_deref().expect("set above")
    }

    fn content(sources: &CredentialSources) -> Value {
        let text = fs::read(path(sources)).expect("written");
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn b111_what_is_kept_is_found_again_and_the_file_is_private() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let sources = sources(directory.path());
        for host in ["r.example:5000", "docker.io"] {
            let keeper = login(path(&sources), host, &password("u")).expect("kept");
            assert!(matches!(keeper, Keeper::File(_)));
            assert_eq!(sources.lookup(host, "x/y").expect("readable"), Some(password("u")));
        }
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(path(&sources)), 0o600);
        assert_eq!(mode(&directory.path().join("new")), 0o700);
        let names = fs::read_dir(directory.path().join("new")).expect("there").count();
        assert_eq!(names, 1, "no temporary file is left");
        let keys: Vec<String> =
            content(&sources)["auths"].as_object().expect("an object").keys().cloned().collect();
        assert_eq!(keys, ["https://index.docker.io/v1/", "r.example:5000"]);
    }

    #[test]
    fn b111_unknown_fields_stay_and_other_spellings_of_the_host_go() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let sources = sources(directory.path());
        fs::create_dir(directory.path().join("new")).expect("made");
        let old = r#"{"HttpHeaders":{"X":"1"},"auths":{"https://r/v1/":{"auth":"YTpi"},"s":{"auth":"YTpi","x":1}}}"#;
        fs::write(path(&sources), old).expect("written");
        login(path(&sources), "r", &password("u")).expect("kept");
        let expected = json!({
            "HttpHeaders": { "X": "1" },
            "auths": { "r": { "auth": "dTpwOnc=" }, "s": { "auth": "YTpi", "x": 1 } },
        });
        assert_eq!(content(&sources), expected);
        assert!(logout(path(&sources), "r").expect("forgotten"));
        assert!(!logout(path(&sources), "r").expect("nothing to forget"));
        assert_eq!(sources.lookup("r", "x").expect("readable"), None);
        assert!(sources.lookup("s", "x").expect("readable").is_some());
    }

    #[test]
    fn a_link_to_the_file_survives() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "{}").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        login(&link, "r", &password("u")).expect("kept");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&target).expect("there").contains("dTpwOnc="));
    }

    #[test]
    fn a_malformed_file_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("config.json");
        fs::write(&path, "{ not json").expect("written");
        assert!(login(&path, "r", &password("u")).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "{ not json");
        assert!(!logout(Path::new("/nonexistent"), "r").expect("nothing"));
    }
}
