//! Running `git`: with a clean environment, until it ends or the build does.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::store::StoreError;

/// What `git` may say.
const LONGEST_OUTPUT: u64 = 16 << 20;

/// How soon a build that was interrupted is noticed.
const PATIENCE: Duration = Duration::from_millis(100);

/// What `git` gets of the machine.
#[derive(Clone)]
pub struct GitSettings {
    /// `PATH`, in which it and `ssh` are looked for.
    pub path: OsString,
    /// Proxies and certificates: `https_proxy` and its kin.
    pub environment: Vec<(String, OsString)>,
    /// The user's list of known hosts.
    pub known_hosts: Option<PathBuf>,
    /// Whether the build was interrupted.
    pub is_cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for GitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.debug_struct("GitSettings").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no such program.
    #[error("fetching {remote} needs the program `git`, which is not installed")]
    NoGit {
        /// The repository.
        remote: String,
    },
    /// `git` could not be run.
    #[error("cannot run `git`")]
    Run {
        /// What the operating system said.
        source: io::Error,
    },
    /// `git` failed.
    #[error("cannot {action} {remote}: {message}")]
    Failed {
        /// What was tried, as a verb.
        action: &'static str,
        /// The repository.
        remote: String,
        /// What it said.
        message: String,
    },
    /// The reference is not there. The wording is BuildKit's.
    #[error("repository does not contain ref {reference}")]
    NoReference {
        /// Which one.
        reference: String,
        /// The repository.
        remote: String,
    },
    /// The commit is not the one that was expected. The wording is BuildKit's.
    #[error("expected checksum to match {expected}, got {actual}")]
    Mismatch {
        /// What the checksum asks for.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// The directory that was asked for is not in the repository.
    #[error("{remote} has no directory `{subdir}` at {commit}")]
    NoSubdir {
        /// The repository.
        remote: String,
        /// Which directory.
        subdir: String,
        /// The commit.
        commit: String,
    },
    /// The files cannot be read.
    #[error("cannot read the files of {remote}")]
    Read {
        /// The repository.
        remote: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl GitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoGit { .. } => {
                "install git (package git), or fetch the files by other means and COPY them"
            }
            Self::Failed { message, .. } if asks_for_credentials(message) => {
                "coracle gives git no credentials; use ssh with an agent, or clone it beforehand"
            }
            Self::NoReference { .. } => {
                "write a branch, a tag, or a commit with all of its 40 digits after the `#`"
            }
            Self::NoSubdir { .. } => "after the `#` stands `ref:directory`",
            Self::Store(error) => return error.hint(),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn asks_for_credentials(message: &str) -> bool {
    ["could not read Username", "Authentication failed", "Permission denied"]
        .iter()
        .any(|text| message.contains(text))
}

/// How `git` is run for one repository.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    settings: Arc<GitSettings>,
    /// The repository as it may be shown.
    remote: String,
    /// The part of its URL that may not.
    secret: Option<String>,
    environment: Vec<(OsString, OsString)>,
}

/// What `git` said, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) is_success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Git {
    /// `home` is an empty directory; `known_hosts` the file to which hosts are added that are met
    /// for the first time.
    pub(crate) fn new(
        settings: Arc<GitSettings>,
        url: &str,
        home: &Path,
        known_hosts: &Path,
        agent: Option<&Path>,
    ) -> Self {
        let (remote, secret) = without_secret(url);
        let ssh = ssh_command(known_hosts, settings.known_hosts.as_deref());
        let config = [
            ("remote.origin.url", url),
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("safe.directory", "*"),
            ("init.defaultBranch", "master"),
            ("advice.detachedHead", "false"),
        ];
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &OsStr| environment.push((name.into(), value.into()));
        set("PATH", &settings.path);
        set("HOME", home.as_os_str());
        // A store within somebody's repository is no part of it.
        set("GIT_CEILING_DIRECTORIES", home.ancestors().nth(2).unwrap_or(home).as_os_str());
        set("LC_ALL", "C".as_ref());
        set("GIT_CONFIG_NOSYSTEM", "1".as_ref());
        set("GIT_CONFIG_GLOBAL", "/dev/null".as_ref());
        set("GIT_ATTR_NOSYSTEM", "1".as_ref());
        set("GIT_TERMINAL_PROMPT", "0".as_ref());
        set("GIT_ALLOW_PROTOCOL", "http:https:git:ssh".as_ref());
        set("GIT_SSH_COMMAND", &ssh);
        // The URL is given so, and not as an argument, which every user of the machine can read.
        set("GIT_CONFIG_COUNT", config.len().to_string().as_ref());
        for (number, (name, value)) in config.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{number}"), name.as_ref());
            set(&format!("GIT_CONFIG_VALUE_{number}"), value.as_ref());
        }
        if let Some(agent) = agent {
            set("SSH_AUTH_SOCK", agent.as_os_str());
        }
        for (name, value) in &settings.environment {
            set(name, value);
        }
        Self { settings, remote, secret, environment }
    }

    /// The same with one more variable.
    pub(crate) fn with(&self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut git = self.clone();
        git.environment.push((name.into(), value.as_ref().into()));
        git
    }

    /// The repository as it may be shown.
    pub(crate) fn remote(&self) -> &str {
        &self.remote
    }

    /// Runs `git` in `directory`, where failure is an answer as well.
    pub(crate) fn ask(&self, directory: &Path, args: &[&str]) -> Result<Answer, GitError> {
        let mut child = Command::new("git")
            .args(args)
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What it starts in its turn can then be ended with it.
            .process_group(0)
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => GitError::NoGit { remote: self.remote.clone() },
                _ => GitError::Run { source },
            })?;
        let (status, stdout, stderr) = self.converse(&mut child)?;
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.secret.as_ref().map_or(text.clone(), |secret| text.replace(secret, ""))
        };
        Ok(Answer { is_success: status.success(), stdout: text(stdout), stderr: text(stderr) })
    }

    /// Runs `git`, whose failure is an error. `action` says as a verb what is tried.
    pub(crate) fn run(
        &self,
        action: &'static str,
        directory: &Path,
        args: &[&str],
    ) -> Result<String, GitError> {
        let answer = self.ask(directory, args)?;
        if answer.is_success { Ok(answer.stdout) } else { Err(self.failed(action, &answer)) }
    }

    /// The error that an answer is.
    pub(crate) fn failed(&self, action: &'static str, answer: &Answer) -> GitError {
        let lines: Vec<&str> =
            answer.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let fatal =
            lines.iter().find(|line| line.starts_with("fatal:") || line.starts_with("ERROR"));
        let said = fatal.or(lines.last()).copied().unwrap_or("git did not say why");
        let message = said.trim_start_matches("fatal:").trim().to_owned();
        GitError::Failed { action, remote: self.remote.clone(), message }
    }

    /// Takes in what the child says, and waits for its end. It does not outlive the build.
    fn converse(&self, child: &mut Child) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), GitError> {
        let (sender, receiver) = mpsc::channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for (number, pipe) in pipes.into_iter().flatten().enumerate() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                // Nobody listens any more if the build was interrupted.
                let _ = sender.send((number, read_all(pipe)));
            });
        }
        drop(sender);
        let mut said = [Vec::new(), Vec::new()];
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok((number, bytes)) => said[number] = bytes,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if (self.settings.is_cancelled)() => {
                    end(child);
                    return Err(GitError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let status = child.wait().map_err(|source| GitError::Run { source })?;
        let [stdout, stderr] = said;
        Ok((status, stdout, stderr))
    }
}

/// Reads to the end, and keeps what is bearable.
fn read_all(mut pipe: Box<dyn Read + Send>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe that breaks has said all that it will say.
    let _ = pipe.by_ref().take(LONGEST_OUTPUT).read_to_end(&mut bytes);
    let _ = io::copy(&mut pipe, &mut io::sink());
    bytes
}

/// Ends the child and all that it has started.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in the meantime, which is as well.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// A URL without the user's name and password, and that part of it.
fn without_secret(url: &str) -> (String, Option<String>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) if scheme != "ssh" || user.contains(':') => {
            let secret = format!("{user}@");
            (url.replacen(&secret, "", 1), Some(secret))
        }
        _ => whole(),
    }
}

/// `ssh` without the user's configuration, which may run programs. A host that is met for the first
/// time is remembered, and has to be the same from then on.
fn ssh_command(known_hosts: &Path, users: Option<&Path>) -> OsString {
    let quoted = |path: &Path| format!("\"{}\"", path.display()).replace('\'', "'\\''");
    let mut files = quoted(known_hosts);
    if let Some(users) = users {
        files = format!("{files} {}", quoted(users));
    }
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new \
         -o 'UserKnownHostsFile={files}'"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(path: &str, url: &str, is_cancelled: bool) -> Git {
        let settings = GitSettings {
            path: path.into(),
            environment: vec![("https_proxy".to_owned(), "http://proxy".into())],
            known_hosts: Some("/home/me/.ssh/known_hosts".into()),
            is_cancelled: Arc::new(move || is_cancelled),
        };
        Git::new(Arc::new(settings), url, Path::new("/"), Path::new("/s/known"), None)
    }

    /// A directory with a program of this text that is called `git`.
    fn pretender(script: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("git");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        directory
    }

    #[test]
    fn a_machine_without_git_is_told_so() {
        let git = git("/nonexistent", "https://x/y.git", false);
        let error = git.ask(Path::new("/"), &["version"]).expect_err("there is none");
        assert!(matches!(error, GitError::NoGit { .. }), "{error:?}");
        assert!(error.to_string().contains("https://x/y.git"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("install git")));
    }

    #[test]
    fn git_sees_nothing_of_the_builders_environment() {
        let pretender = pretender("export -p | cut -c 8- | sed 's/=.*//'");
        let path = format!("{}:/usr/bin:/bin", pretender.path().display());
        let git = git(&path, "https://x/y.git", false);
        let names = git.run("ask", Path::new("/"), &[]).expect("it ran");
        let expected = |name: &&str| {
            name.starts_with("GIT_")
                || ["HOME", "LC_ALL", "PATH", "PWD", "OLDPWD", "https_proxy"].contains(name)
        };
        let odd: Vec<&str> = names.lines().filter(|name| !expected(name)).collect();
        assert_eq!(odd, [""; 0]);
    }

    #[test]
    fn a_password_is_neither_an_argument_nor_shown() {
        let pretender =
            pretender("echo \"$@\"; echo \"fatal: $GIT_CONFIG_VALUE_0 refused\" >&2; exit 1");
        let path = format!("{}:/usr/bin:/bin", pretender.path().display());
        let git = git(&path, "https://user:secret@x/y.git", false);
        let answer = git.ask(Path::new("/"), &["fetch", "origin"]).expect("it ran");
        assert_eq!(answer.stdout, "fetch origin\n");
        let error = git.failed("fetch", &answer).to_string();
        assert_eq!(error, "cannot fetch https://x/y.git: https://x/y.git refused");
    }

    #[test]
    fn an_interrupted_build_ends_git_and_its_children() {
        let pretender = pretender("sleep 600 & wait");
        let path = format!("{}:/usr/bin:/bin", pretender.path().display());
        let git = git(&path, "https://x/y.git", true);
        let error = git.ask(Path::new("/"), &[]).expect_err("interrupted");
        assert!(matches!(error, GitError::Interrupted), "{error:?}");
    }

    #[test]
    fn what_may_be_shown_of_a_url() {
        let check = |url: &str, shown: &str, secret: Option<&str>| {
            assert_eq!(without_secret(url), (shown.to_owned(), secret.map(str::to_owned)), "{url}");
        };
        check("https://x/y.git", "https://x/y.git", None);
        check("https://u:p@x/y@z.git", "https://x/y@z.git", Some("u:p@"));
        check("https://token@x/y.git", "https://x/y.git", Some("token@"));
        check("ssh://git@x/y", "ssh://git@x/y", None);
        check("git@x:y", "git@x:y", None);
    }
}
