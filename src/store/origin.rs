//! Where blobs came from: which repositories of which registries are known to have them.
//!
//! A push mounts a blob from a repository of the same registry instead of uploading it, and a
//! cached step may name a layer that is not here but can be fetched. Both are optimisations: a
//! record may be out of date, so whoever uses it must be able to do without.
//!
//! One small text file for each blob, `origins/<hex>`, a repository a line, the latest first.
//! It is replaced as a whole; of two processes that add to it at the same moment one may lose.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use crate::oci::{Digest, Reference};
use crate::store::publish::{Durability, replace};
use crate::store::{Store, StoreError};

/// More repositories than this are not worth remembering: one of the same registry is enough.
const MOST: usize = 16;

/// A record is far smaller.
const LIMIT: u64 = 64 << 10;

/// Origins.
impl Store {
    /// Remembers that the repository of `reference` has this blob: it was pulled from there or
    /// pushed to it.
    ///
    /// # Errors
    ///
    /// Fails if the record cannot be written.
    pub fn record_origin(&self, digest: &Digest, reference: &Reference) -> Result<(), StoreError> {
        let temporary = self.workspace.path("origin");
        record(&self.root.join("origins"), &temporary, digest, reference)
    }

    /// The repositories that are known to have had each blob, the latest first, as references to
    /// the blob's digest. Blobs of which nothing is known are left out.
    ///
    /// It may be out of date, and the blob itself need not be here.
    pub fn origins(&self, digests: &[Digest]) -> BTreeMap<Digest, Vec<Reference>> {
        let directory = self.root.join("origins");
        let known = digests.iter().map(|digest| (*digest, read(&directory, digest)));
        known.filter(|(_, references)| !references.is_empty()).collect()
    }
}

/// The recorded repositories, as references to exactly this blob's digest.
///
/// A record that cannot be read, for whatever reason, says nothing.
pub(crate) fn read(directory: &Path, digest: &Digest) -> Vec<Reference> {
    let mut text = String::new();
    let file = File::open(directory.join(digest.hex()));
    let read = file.and_then(|file| file.take(LIMIT).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let parse = |line: &str| line.parse().ok().filter(|r: &Reference| r.digest() == Some(*digest));
    text.lines().filter_map(parse).take(MOST).collect()
}

/// Adds the repository of `reference` to the record of `digest`.
pub(crate) fn record(
    directory: &Path,
    temporary: &Path,
    digest: &Digest,
    reference: &Reference,
) -> Result<(), StoreError> {
    let known = read(directory, digest);
    let added = reference.with_digest(*digest);
    if known.first() == Some(&added) {
        return Ok(());
    }
    let others = known.into_iter().filter(|other| *other != added);
    let lines = std::iter::once(added.clone()).chain(others).take(MOST);
    let text = lines.map(String::from).collect::<Vec<_>>().join("\n");
    let path = directory.join(digest.hex());
    replace(&path, temporary, text.as_bytes(), 0o600, Durability::Replaceable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_repositories_the_latest_first_and_each_once() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let digest = Digest::of("layer");
        assert!(store.origins(&[digest]).is_empty());
        for name in ["a.io/x:1", "b.io/y:1", "a.io/x:2"] {
            store.record_origin(&digest, &name.parse().expect("valid")).expect("writable");
        }
        let expected = [format!("a.io/x@{digest}"), format!("b.io/y@{digest}")];
        let origins = store.origins(&[digest, Digest::of("other")]);
        let found: Vec<_> = origins[&digest].iter().map(ToString::to_string).collect();
        assert_eq!((origins.len(), found.as_slice()), (1, &expected[..]));
    }

    #[test]
    fn a_damaged_record_says_nothing_and_is_replaced() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let digest = Digest::of("layer");
        let path = root.path().join("origins").join(digest.hex());
        std::fs::write(&path, b"\xff\xfe").expect("writable");
        assert!(store.origins(&[digest]).is_empty());
        store.record_origin(&digest, &"a.io/x".parse().expect("valid")).expect("writable");
        assert_eq!(store.origins(&[digest]).len(), 1);
    }
}
