//! Where blobs came from: which repositories of which registries are known to have them.
//!
//! A push mounts a blob from a repository of the same registry instead of uploading it, and a
//! cached step may name a layer that is not here but can be fetched. Both are optimisations: a
//! record may be out of date, so whoever uses it must be able to do without.
//!
//! One small text file for each blob, `origins/<hex>`, a repository a line, the latest first.
//! It is replaced as a whole; of two processes that add to it at the same moment one may lose.

use std::{fs::File, io::Read as _, path::Path};

use crate::oci::{Digest, Reference};
use crate::store::StoreError;
use crate::store::publish::{Durability, replace};

/// More repositories than this are not worth remembering: one of the same registry is enough.
const MOST: usize = 16;

/// A record is far smaller.
const LIMIT: u64 = 64 << 10;

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
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let path = directory.join(digest.hex());
    replace(&path, temporary, text.as_bytes(), 0o644, Durability::Replaceable)
}
