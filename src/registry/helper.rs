//! Credential helpers: programs named `docker-credential-…` that keep secrets elsewhere.
//!
//! One action, one process: the input on standard input, JSON on standard output. A helper may
//! ask a keychain, a cloud or a person, so it gets a time limit. These calls block; run them on a
//! blocking thread. Rules B107 and B108.
//!
//! Spec: <https://github.com/docker/docker-credential-helpers#development>.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::registry::secret::{Credential, Secret};

/// How long a helper may take, unless somebody says otherwise.
pub(crate) const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// The most that a helper may say.
const LONGEST_OUTPUT: u64 = 256 * 1024;

/// How much of a helper's complaint is passed on.
const LONGEST_MESSAGE: usize = 200;

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper was of no help.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name has characters that no program's name needs, such as `/`.
    #[error("`{0}` cannot be the name of a credential helper")]
    BadName(String),
    /// There is no such program.
    #[error("there is no program `docker-credential-{0}`")]
    Missing(String),
    /// It could not be run.
    #[error("cannot run `docker-credential-{name}`")]
    Run {
        /// Its name.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("`docker-credential-{name}` did not answer within {} seconds", .after.as_secs())]
    Timeout {
        /// Its name.
        name: String,
        /// How long it was given.
        after: Duration,
    },
    /// It failed.
    #[error("`docker-credential-{name}` failed: {message}")]
    Failed {
        /// Its name.
        name: String,
        /// What it said.
        message: String,
    },
    /// It said something that is not what the protocol asks for. What it was is not told.
    #[error("`docker-credential-{0}` gave an answer that is not credentials")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks helper `name` for the credentials that it keeps under `key`; `None` if it has none.
pub(crate) fn get(
    name: &str,
    key: &str,
    limit: Duration,
) -> Result<Option<Credential>, HelperError> {
    let output = run(name, "get", key.as_bytes(), limit)?;
    if !output.status.success() {
        return if output.says_nothing_is_kept() { Ok(None) } else { Err(output.failed(name)) };
    }
    let wire: Wire = serde_json::from_slice(&output.stdout)
        .map_err(|_| HelperError::Malformed(name.to_owned()))?;
    Ok(understand(wire))
}

fn understand(wire: Wire) -> Option<Credential> {
    let secret = Secret::new(wire.secret);
    match (wire.username.as_str(), secret.reveal()) {
        ("", "") => None,
        (TOKEN_USER, _) => {
            Some(Credential::IdentityToken { username: wire.username, token: secret })
        }
        _ => Some(Credential::Password { username: wire.username, password: secret }),
    }
}

/// Gives helper `name` credentials to keep under `key`.
pub(crate) fn store(
    name: &str,
    key: &str,
    credential: &Credential,
    limit: Duration,
) -> Result<(), HelperError> {
    let (username, secret) = match credential {
        Credential::Password { username, password } => (username.as_str(), password),
        Credential::IdentityToken { token, .. } | Credential::RegistryToken(token) => {
            (TOKEN_USER, token)
        }
    };
    let wire = Wire {
        server_url: key.to_owned(),
        username: username.to_owned(),
        secret: secret.reveal().to_owned(),
    };
    let input = serde_json::to_vec(&wire).expect("three strings are always JSON");
    let output = run(name, "store", &input, limit)?;
    if output.status.success() { Ok(()) } else { Err(output.failed(name)) }
}

/// Tells helper `name` to forget what it keeps under `key`.
pub(crate) fn erase(name: &str, key: &str, limit: Duration) -> Result<(), HelperError> {
    let output = run(name, "erase", key.as_bytes(), limit)?;
    if output.status.success() || output.says_nothing_is_kept() {
        return Ok(());
    }
    Err(output.failed(name))
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn text(&self) -> String {
        let text = if self.stdout.is_empty() { &self.stderr } else { &self.stdout };
        String::from_utf8_lossy(text).trim().to_owned()
    }

    /// Helpers say so on standard output, some on standard error.
    fn says_nothing_is_kept(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|text| {
            String::from_utf8_lossy(text).contains("credentials not found in native keychain")
        })
    }

    fn failed(&self, name: &str) -> HelperError {
        let text = self.text();
        let line = text.lines().next().filter(|line| !line.is_empty());
        let shown = line.unwrap_or("it did not say why").chars().filter(|c| !c.is_control());
        let message = shown.take(LONGEST_MESSAGE).collect();
        HelperError::Failed { name: name.to_owned(), message }
    }
}

fn run(name: &str, action: &str, input: &[u8], limit: Duration) -> Result<Output, HelperError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(HelperError::BadName(name.to_owned()));
    }
    let failed = |source| HelperError::Run { name: name.to_owned(), source };
    let deadline = Instant::now() + limit;
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => HelperError::Missing(name.to_owned()),
            _ => failed(error),
        })?;
    let outcome = converse(&mut child, input, deadline);
    if !matches!(outcome, Ok(Some(_))) {
        // It may have ended by itself in the meantime, which is as well.
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
        .map_err(failed)?
        .ok_or_else(|| HelperError::Timeout { name: name.to_owned(), after: limit })
}

/// Talks to the helper; `None` if it does not end in time.
fn converse(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<Option<Output>> {
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading says why on its own.
        let _ = stdin.write_all(input);
    }
    let receive = |pipe: Option<mpsc::Receiver<Vec<u8>>>| {
        let left = deadline.saturating_duration_since(Instant::now());
        pipe.and_then(|pipe| pipe.recv_timeout(left).ok())
    };
    let (Some(stdout), Some(stderr)) = (receive(stdout), receive(stderr)) else {
        return Ok(None);
    };
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Output { status, stdout, stderr }));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// Reads a pipe to its end on a thread of its own, so that both can be waited for with a limit.
fn read_all(pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error is as much as there is; nobody may be left to take it.
        let _ = pipe.take(LONGEST_OUTPUT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(username: &str, secret: &str) -> Wire {
        let (username, secret) = (username.to_owned(), secret.to_owned());
        Wire { server_url: String::new(), username, secret }
    }

    #[test]
    fn b107_a_token_user_means_an_identity_token() {
        let token = Secret::new("t");
        let username = "<token>".to_owned();
        let expected = Credential::IdentityToken { username, token };
        assert_eq!(understand(wire("<token>", "t")), Some(expected));
    }

    #[test]
    fn b108_nothing_is_anonymous() {
        assert_eq!(understand(wire("", "")), None);
    }

    #[test]
    fn b107_a_missing_helper_is_an_error_and_so_is_a_path() {
        let limit = Duration::from_secs(5);
        let get = |name| get(name, "r.example", limit);
        assert!(matches!(get("coracle-has-none"), Err(HelperError::Missing(_))));
        assert!(matches!(get("../../bin/sh"), Err(HelperError::BadName(_))));
        assert!(matches!(get(""), Err(HelperError::BadName(_))));
    }

    #[test]
    fn a_helper_that_hangs_is_ended() {
        let sleeper = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = sleeper.expect("there is a `sleep`");
        let deadline = Instant::now() + Duration::from_millis(50);
        let outcome = converse(&mut child, b"", deadline);
        assert!(matches!(outcome, Ok(None)));
        child.kill().and_then(|()| child.wait()).expect("it was ours");
    }
}
