//! A directory that is gone after the test, whoever owns what is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// A temporary directory that every user can enter.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let path = tempfile::Builder::new()
            .prefix("coracle-test-")
            .tempdir()
            .expect("the temporary directory is writable")
            .keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of something in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, with the directories above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("it is writable");
        fs::write(&path, content).expect("it is writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err() && self.0.exists() {
            // An ordinary user's store holds files of subordinate ids: remove them as those see them.
            let _ = std::process::Command::new("unshare")
                .args(["--user", "--map-auto", "--map-root-user", "rm", "-rf"])
                .arg(&self.0)
                .output();
        }
    }
}
