//! Git repositories, and a `git daemon` that serves them on a free loopback port.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::support::process::Process;
use crate::support::process::command;
use crate::support::process::free_port;
use crate::support::requirement;
use crate::support::scratch::Scratch;

/// When everything in the repositories was committed: 2020-01-02T03:04:05Z.
pub(crate) const COMMIT_TIME: u64 = 1_577_934_245;

/// A running server.
#[derive(Debug)]
pub(crate) struct GitServer {
    port: u16,
    // Before the directory, so that it is killed before its files are removed.
    _process: Process,
    directory: Scratch,
}

/// A repository of a server.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Its URL.
    pub(crate) url: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl GitServer {
    /// Starts one without repositories.
    pub(crate) fn start() -> Result<Self, String> {
        let git = requirement::program("git")?;
        let directory = Scratch::new();
        // Somebody else may take the port between our looking and the daemon's binding it.
        for _ in 0..5 {
            let port = free_port();
            let mut process = Process::start(
                command(&git)
                    .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"])
                    .arg(format!("--port={port}"))
                    .arg(format!("--base-path={}", directory.path().display()))
                    .arg(directory.path())
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null()),
            );
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && process.ended().is_none() {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Ok(Self { port, _process: process, directory });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Err("git daemon does not start".to_owned())
    }

    /// Makes an empty repository.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        let path = self.directory.join(name);
        let repository = Repository { url: format!("git://127.0.0.1:{}/{name}", self.port), path };
        std::fs::create_dir(&repository.path).expect("scratch is writable");
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }
}

impl Repository {
    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a parent")).expect("writable");
        std::fs::write(&path, text).expect("writable");
        path
    }

    /// Commits everything that is there, and gives the commit's name.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs `git` in the repository, and gives what it says.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.path, args)
    }
}

fn git(directory: &Path, args: &[&str]) -> String {
    let date = format!("@{COMMIT_TIME} +0000");
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        // Submodules come from loopback.
        .args(["-c", "protocol.allow=always", "-c", "safe.directory=*"])
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
