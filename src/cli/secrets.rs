//! Reads `--secret` and `--ssh`: values into memory, sockets by name.
//!
//! No error here shows a value. A specification is shown, as it has none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::plan::csv;
use crate::sandbox::Hidden;

/// As in `BuildKit`.
const LARGEST_SECRET: u64 = 500 << 10;

/// Why a `--secret` or an `--ssh` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// Not comma-separated values.
    #[error("`--secret {0}` is not a list of `key=value`")]
    NotPairs(String),
    /// No such key.
    #[error("`--secret {spec}`: unknown key `{key}`")]
    UnknownKey {
        /// As given.
        spec: String,
        /// The key.
        key: String,
    },
    /// `type=vault`
    #[error("`--secret {spec}`: unknown type `{kind}`")]
    UnknownType {
        /// As given.
        spec: String,
        /// The type.
        kind: String,
    },
    /// There is no `id=`.
    #[error("`--secret {0}`: `id=` is missing")]
    NoId(String),
    /// The variable is not set.
    #[error("secret {id}: the environment has no variable {name}")]
    NoVariable {
        /// The secret.
        id: String,
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("secret {id}: cannot read `{}`", .path.display())]
    Read {
        /// The secret.
        id: String,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// More than is sensible.
    #[error("secret {0} is too big: it has more than 500 KiB")]
    TooBig(String),
    /// `--ssh default` without an agent.
    #[error("`--ssh {0}`: SSH_AUTH_SOCK is not set, so no agent runs")]
    NoAgent(String),
    /// The socket of an agent is not there.
    #[error("`--ssh {id}`: cannot use `{}`", .path.display())]
    Socket {
        /// The agent's id.
        id: String,
        /// Its socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A key, several of them, or something else that is no socket.
    #[error("`--ssh {id}`: `{}` is not the socket of an agent", .path.display())]
    NotASocket {
        /// The agent's id.
        id: String,
        /// What was given.
        path: PathBuf,
    },
}

impl SecretError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPairs(_) | Self::UnknownKey { .. } | Self::NoId(_) => {
                "write it as `id=ID,src=FILE` or `id=ID,env=VARIABLE`"
            }
            Self::UnknownType { .. } => "the types are file and env",
            Self::NoVariable { .. } => "set and export it, even if to nothing",
            Self::NoAgent(_) => "start one with `eval $(ssh-agent)`, and `ssh-add` your key",
            Self::NotASocket { path, .. } => {
                return Some(format!(
                    "coracle reads no keys, it forwards agents: `eval $(ssh-agent)`, `ssh-add \
                     {}`, and then `--ssh default`",
                    path.display()
                ));
            }
            Self::Read { .. } | Self::TooBig(_) | Self::Socket { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::from_error(Exit::Usage, &error, error.hint())
    }
}

/// The values of all secrets, by id.
pub(crate) fn secrets(
    specs: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, Hidden>, SecretError> {
    let mut secrets = BTreeMap::new();
    for spec in specs {
        let (id, origin) = parse(spec)?;
        let value = match origin {
            Origin::Variable(name) => variable(&id, name, environment)?,
            Origin::File(path) => file(&id, &path)?,
            // A variable of that name, or else a file.
            Origin::Unsaid => match variable(&id, id.clone(), environment) {
                Ok(value) => value,
                Err(_) => file(&id, Path::new(&id))?,
            },
        };
        secrets.insert(id, Hidden::new(value));
    }
    Ok(secrets)
}

/// Where a secret's value is.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Variable(String),
    File(PathBuf),
    Unsaid,
}

/// `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`
fn parse(spec: &str) -> Result<(String, Origin), SecretError> {
    let not_pairs = || SecretError::NotPairs(spec.to_owned());
    let (mut id, mut source, mut variable, mut is_variable) = (None, None, None, false);
    for field in csv::fields(spec).map_err(|_| not_pairs())? {
        let (key, value) = field.split_once('=').ok_or_else(not_pairs)?;
        let value = value.to_owned();
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "source" | "src" => source = Some(value),
            "env" => variable = Some(value),
            "type" if value == "env" => is_variable = true,
            "type" if value == "file" => is_variable = false,
            "type" => return Err(SecretError::UnknownType { spec: spec.to_owned(), kind: value }),
            _ => {
                let (spec, key) = (spec.to_owned(), key.to_owned());
                return Err(SecretError::UnknownKey { spec, key });
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| SecretError::NoId(spec.to_owned()))?;
    let origin = match (variable, source) {
        (Some(variable), _) => Origin::Variable(variable),
        (None, Some(source)) if is_variable => Origin::Variable(source),
        (None, None) if is_variable => Origin::Variable(id.clone()),
        (None, Some(source)) => Origin::File(source.into()),
        (None, None) => Origin::Unsaid,
    };
    Ok((id, origin))
}

fn variable(id: &str, name: String, environment: &Environment) -> Result<Vec<u8>, SecretError> {
    let value = environment.bytes(&name).map(<[u8]>::to_vec);
    let value = value.ok_or(SecretError::NoVariable { id: id.to_owned(), name })?;
    within_limit(id, value)
}

fn file(id: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|it| it.take(LARGEST_SECRET + 1).read_to_end(&mut bytes));
    let failed = |source| SecretError::Read { id: id.to_owned(), path: path.to_owned(), source };
    read.map_err(failed)?;
    within_limit(id, bytes)
}

fn within_limit(id: &str, value: Vec<u8>) -> Result<Vec<u8>, SecretError> {
    if value.len() as u64 > LARGEST_SECRET {
        return Err(SecretError::TooBig(id.to_owned()));
    }
    Ok(value)
}

/// The sockets of all agents, by id.
pub(crate) fn agents(
    specs: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, PathBuf>, SecretError> {
    let mut agents = BTreeMap::new();
    for spec in specs {
        let (id, path) = if let Some((id, path)) = spec.split_once('=') {
            (id.to_owned(), PathBuf::from(path))
        } else {
            let path = environment.path("SSH_AUTH_SOCK");
            (spec.clone(), path.ok_or_else(|| SecretError::NoAgent(spec.clone()))?)
        };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => {}
            Ok(_) => return Err(SecretError::NotASocket { id, path }),
            Err(source) => return Err(SecretError::Socket { id, path, source }),
        }
        // Where this process goes, the socket must be found.
        let path = std::path::absolute(&path).unwrap_or(path);
        agents.insert(id, path);
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a158_a_secret_has_an_id_and_comes_from_a_file_or_a_variable() {
        let check = |spec: &str, expected: (&str, Origin)| {
            let (id, origin) = parse(spec).expect(spec);
            assert_eq!((id.as_str(), origin), expected, "{spec}");
        };
        check("id=a,src=/f", ("a", Origin::File("/f".into())));
        check("type=file,id=a,source=f", ("a", Origin::File("f".into())));
        check("id=a,env=A", ("a", Origin::Variable("A".into())));
        check("type=env,id=a,src=A", ("a", Origin::Variable("A".into())));
        check("type=env,id=a", ("a", Origin::Variable("a".into())));
        check("id=a", ("a", Origin::Unsaid));
        check(r#"id=a,"src=with,comma""#, ("a", Origin::File("with,comma".into())));
    }

    #[test]
    fn a158_what_cannot_be_a_secret_is_an_error_that_says_so() {
        let check = |spec: &str, expected: &str| {
            assert_eq!(parse(spec).expect_err(spec).to_string(), expected);
        };
        check("src=f", "`--secret src=f`: `id=` is missing");
        check("id=a,srx=f", "`--secret id=a,srx=f`: unknown key `srx`");
        check("id=a,type=x", "`--secret id=a,type=x`: unknown type `x`");
        check("a", "`--secret a` is not a list of `key=value`");
    }

    #[test]
    fn a158_a_secret_of_more_than_500_kib_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), vec![b'x'; 500 << 10]).expect("writable");
        assert_eq!(super::file("a", file.path()).expect("just small enough").len(), 500 << 10);
        std::fs::write(file.path(), vec![b'x'; (500 << 10) + 1]).expect("writable");
        let error = super::file("a", file.path()).expect_err("too big");
        assert_eq!(error.to_string(), "secret a is too big: it has more than 500 KiB");
    }

    #[test]
    fn a159_a_key_is_no_agent() {
        let key = tempfile::NamedTempFile::new().expect("a temporary file");
        let spec = format!("default={}", key.path().display());
        let error = agents(&[spec], &Environment::read()).expect_err("a key");
        assert!(matches!(error, SecretError::NotASocket { .. }), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("ssh-add")));
    }
}
