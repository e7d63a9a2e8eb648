//! Removing snapshots: each can be made again from its layer's blob.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::oci::ChainId;
use crate::store::{Alone, StoreError};

/// Removes all snapshots of all kinds of sandboxes but those of `kept`; says how many bytes of
/// files that was.
///
/// Whoever calls this must have the rights of the sandbox that made them: their files may belong to
/// other users.
///
/// # Errors
///
/// Fails at the first that cannot be removed.
pub fn prune(store: &Alone<'_>, kept: &BTreeSet<ChainId>) -> Result<u64, StoreError> {
    let kept: BTreeSet<String> = kept.iter().map(ChainId::hex).collect();
    let mut bytes = 0;
    for kind in directories(&store.snapshots_dir())? {
        for snapshot in directories(&kind)? {
            let name = snapshot.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !kept.contains(name) {
                // What is half gone must not be taken for a snapshot.
                let unpublished = kind.join(format!("removed-{name}"));
                let renamed = fs::rename(&snapshot, &unpublished);
                renamed.map_err(|source| StoreError::io("remove", &snapshot, source))?;
                bytes += store.remove(&unpublished)?;
            }
        }
    }
    Ok(bytes)
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|source| StoreError::io("list", path, source))?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}
