//! The staging tree as a layer.
//!
//! Names are written in byte order, so a directory stands before what it holds. A directory of the
//! stage below that holds something new is written as it is there, as the image spec asks for; the
//! root is not written at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use crate::copy::CopyError;
use crate::copy::staging::{Content, InodeId, Staging};
use crate::layer::{Entry, Kind, LayerError, LayerWriter, Node, Tree as _};
use crate::oci::ImagePath;

/// Appends all changes to `writer`.
pub(crate) fn write<W: Write + Send + 'static>(
    staging: &Staging<'_>,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    let staged: BTreeMap<&ImagePath, InodeId> = staging.names().collect();
    let mut first_names: BTreeMap<InodeId, ImagePath> = BTreeMap::new();
    for path in paths(staging) {
        let removed = staging.removed().get(&path);
        if let Some(id) = staged.get(&path) {
            let node = &staging.inode(*id).node;
            let first = first_names.entry(*id).or_insert_with(|| path.clone());
            if *first == path {
                append_inode(staging, *id, &path, writer)?;
            } else {
                let kind = Kind::Hardlink { target: first.clone() };
                append(&entry(&path, node, kind), writer)?;
            }
            if node.kind == Kind::Directory && removed == Some(&true) {
                append(&entry(&path, node, Kind::OpaqueWhiteout), writer)?;
            }
        } else if let Some(node) = staging.lookup(&path)? {
            append(&entry(&path, &node, node.kind.clone()), writer)?;
        } else if let Some(parent) = path.parent().filter(|_| removed.is_some())
            && let Some(node) = staging.lookup(&parent)?
        {
            append(&entry(&path, &node, Kind::Whiteout), writer)?;
        }
    }
    Ok(())
}

/// All that is written, but for the root: what changed, and the directories above it.
fn paths(staging: &Staging<'_>) -> BTreeSet<ImagePath> {
    let mut paths = BTreeSet::new();
    let changed = staging.names().map(|(path, _)| path).chain(staging.removed().keys());
    for path in changed {
        let mut path = path.clone();
        while let Some(parent) = path.parent() {
            if !paths.insert(path) {
                break;
            }
            path = parent;
        }
    }
    paths
}

fn append_inode<W: Write + Send + 'static>(
    staging: &Staging<'_>,
    id: InodeId,
    path: &ImagePath,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    let inode = staging.inode(id);
    let entry = entry(path, &inode.node, inode.node.kind.clone());
    if !matches!(entry.kind, Kind::File { .. }) {
        return append(&entry, writer);
    }
    let mut content = staging.content(id)?;
    writer.append(&entry, Some(&mut content)).map_err(|error| match (error, &inode.content) {
        // The name in the source says more than the one in the image.
        (LayerError::Changed { .. }, Content::Source(path) | Content::Remote(_, path)) => {
            CopyError::Changed { path: path.clone() }
        }
        (source, _) => CopyError::Layer { source },
    })
}

fn append<W: Write + Send + 'static>(
    entry: &Entry,
    writer: &mut LayerWriter<W>,
) -> Result<(), CopyError> {
    writer.append(entry, None).map_err(|source| CopyError::Layer { source })
}

fn entry(path: &ImagePath, node: &Node, kind: Kind) -> Entry {
    Entry {
        path: path.clone(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs.clone(),
    }
}
