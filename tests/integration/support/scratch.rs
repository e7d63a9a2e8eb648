//! A directory that is gone after the test, whoever owns what is in it.

use std::fs;
use std::io::Write as _;
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

    /// Writes a file of so many MiB that does not compress, the same for the same name.
    pub(crate) fn write_noise(&self, name: &str, mebibytes: u64) {
        let mut file = fs::File::create(self.join(name)).expect("it is writable");
        // xorshift64: https://www.jstatsoft.org/article/view/v008i14
        let mut state = name.bytes().fold(1_u64, |state, byte| state * 257 + u64::from(byte));
        let mut piece = Vec::with_capacity(1 << 20);
        for _ in 0..mebibytes {
            piece.clear();
            while piece.len() < 1 << 20 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                piece.extend_from_slice(&state.to_le_bytes());
            }
            file.write_all(&piece).expect("there is space");
        }
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
