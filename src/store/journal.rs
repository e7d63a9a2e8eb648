//! Uploads that are under way: where a registry said that one goes on.
//!
//! A push that was killed in the middle of a large blob goes on from here, if the registry has kept
//! what it was sent. A record is taken by one process, and is then gone; whoever makes progress
//! writes it anew. Losing one costs an upload from the beginning.
//!
//! A session's URL can be a credential, so the files are for their owner alone (rule B018).

use std::{
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
};

use crate::oci::{Digest, Reference};
use crate::store::publish::{Durability, create_dir, replace};
use crate::store::{Store, StoreError};

/// URLs are shorter, signed ones too.
const LIMIT: u64 = 64 << 10;

/// Uploads.
impl Store {
    /// Remembers where the upload of `blob` to the repository of `target` goes on.
    ///
    /// # Errors
    ///
    /// Fails if the record cannot be written.
    pub fn record_upload(
        &self,
        target: &Reference,
        blob: &Digest,
        session: &str,
    ) -> Result<(), StoreError> {
        create_dir(&self.uploads(), 0o700)?;
        let temporary = self.workspace.path("upload");
        let path = self.upload_path(target, blob);
        replace(&path, &temporary, session.as_bytes(), 0o600, Durability::Replaceable)
    }

    /// Where an interrupted upload goes on. The record is removed: two processes that sent to the
    /// same session would spoil it for each other.
    pub fn take_upload(&self, target: &Reference, blob: &Digest) -> Option<String> {
        let taken = self.workspace.path("upload");
        fs::rename(self.upload_path(target, blob), &taken).ok()?;
        let mut text = String::new();
        let read = File::open(&taken).and_then(|it| it.take(LIMIT).read_to_string(&mut text));
        // What stays goes with the temporary directory.
        let _ = fs::remove_file(&taken);
        read.ok().map(|_| text)
    }

    /// Forgets an upload, which has come to an end.
    pub fn forget_upload(&self, target: &Reference, blob: &Digest) {
        // Most uploads were never recorded.
        let _ = fs::remove_file(self.upload_path(target, blob));
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root().join("tmp/uploads")
    }

    fn upload_path(&self, target: &Reference, blob: &Digest) -> PathBuf {
        let place = format!("{}/{}@{blob}", target.registry(), target.repository());
        self.uploads().join(Digest::of(place).hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b078_an_upload_is_recorded_for_one_repository_and_taken_once() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let (digest, here) = (Digest::of("x"), "r.example/a:1".parse().expect("a reference"));
        let there = "r.example/b:1".parse().expect("a reference");
        assert_eq!(store.take_upload(&here, &digest), None);
        store.record_upload(&here, &digest, "https://r.example/u/1").expect("writable");
        store.record_upload(&here, &digest, "https://r.example/u/2").expect("writable");
        assert_eq!(store.take_upload(&there, &digest), None);
        let again = Store::open(root.path()).expect("the same store");
        assert_eq!(again.take_upload(&here, &digest).as_deref(), Some("https://r.example/u/2"));
        assert_eq!(store.take_upload(&here, &digest), None);
        store.record_upload(&here, &digest, "x").expect("writable");
        store.forget_upload(&here, &digest);
        assert_eq!(store.take_upload(&here, &digest), None);
    }
}
