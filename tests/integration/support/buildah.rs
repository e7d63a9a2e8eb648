//! Runs buildah, which has podman's way with registries: another witness that others can read it.

use std::process::Command;

use crate::support::requirement;
use crate::support::scratch::Scratch;

/// A buildah with an own store.
#[derive(Debug)]
pub(crate) struct Buildah {
    home: Scratch,
}

impl Buildah {
    /// One with an empty store. Only root can use one without more ado.
    pub(crate) fn new() -> Result<Self, String> {
        requirement::root()?;
        requirement::program("buildah")?;
        let home = Scratch::new();
        home.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        // None of the machine's settings; some versions want the file to be there.
        home.write("registries.conf", "");
        Ok(Self { home })
    }

    /// Runs a command; gives what it prints, or says against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let program = requirement::program("buildah")?;
        let path = |name: &str| self.home.join(name).display().to_string();
        let output = Command::new(program)
            .args(["--storage-driver=vfs", "--root", &path("root"), "--runroot", &path("run")])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("CONTAINERS_REGISTRIES_CONF", path("registries.conf"))
            .env("BUILDAH_ISOLATION", "chroot")
            .output()
            .expect("buildah runs");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(format!("buildah {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// `--signature-policy`, which some commands want.
    pub(crate) fn policy(&self) -> String {
        format!("--signature-policy={}", self.home.join("policy.json").display())
    }
}
