//! The files of an image, all layers merged, as one tar archive.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use crate::image::ImageError;
use crate::layer::{Entry, Kind, LayerWriter, Node, Tree};
use crate::oci::{Compression, ImagePath, Timestamp};

/// Writes all files of `tree` but the root directory itself (`-o type=tar`), a directory before
/// what is in it, names in byte order. No time is later than `clamp`. Gives `output` back.
///
/// # Errors
///
/// Fails if a file cannot be read or the output cannot be written.
pub fn write_rootfs_tar<W: Write + Send + 'static>(
    tree: &dyn Tree,
    clamp: Option<Timestamp>,
    output: W,
) -> Result<W, ImageError> {
    let mut writer = LayerWriter::new(output, Compression::None, clamp);
    let mut links = Links::default();
    walk(tree, &mut |path, node| {
        let mut content = None;
        let kind = match (links.first(path, &node), &node.kind) {
            (Some(target), _) => Kind::Hardlink { target },
            (None, Kind::File { .. }) => {
                content = Some(tree.open(path)?);
                node.kind
            }
            (None, _) => node.kind,
        };
        let entry = Entry {
            path: path.clone(),
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs,
        };
        let content = content.as_mut().map(|content| content as &mut dyn Read);
        Ok(writer.append(&entry, content)?)
    })?;
    Ok(writer.finish()?.sink)
}

/// Calls `visit` for everything in the tree but its root: parents first, names in byte order.
pub(crate) fn walk(
    tree: &dyn Tree,
    visit: &mut dyn FnMut(&ImagePath, Node) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut waiting = vec![ImagePath::root()];
    // Not recursive: how deep the tree is, is up to whoever made the image.
    while let Some(path) = waiting.pop() {
        let Some(node) = tree.lookup(&path)? else { continue };
        let is_directory = node.kind == Kind::Directory;
        if !path.is_root() {
            visit(&path, node)?;
        }
        if is_directory {
            let names = tree.read_dir(&path)?;
            waiting.extend(names.iter().rev().map(|name| path.join(name)));
        }
    }
    Ok(())
}

/// Remembers under which name a file with several names was first met.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<(u64, u64), ImagePath>);

impl Links {
    /// The name under which this file was met before, if it was; else this is now that name.
    pub(crate) fn first(&mut self, path: &ImagePath, node: &Node) -> Option<ImagePath> {
        let inode = node.inode.filter(|_| node.kind != Kind::Directory)?;
        let first = self.0.entry(inode).or_insert_with(|| path.clone());
        (first != path).then(|| first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::MemoryTree;
    use crate::layer::{LayerReader, Names};

    #[test]
    fn every_file_is_there_once_after_its_parents_and_links_are_links() {
        let tree = MemoryTree::default()
            .with("/", Kind::Directory, 0o755)
            .with("/b", Kind::Directory, 0o700)
            .link("/b/x", "text", 1)
            .file("/a", "", 0o4755)
            .link("/c", "text", 1);
        let limit = Timestamp::from_seconds(10);
        let bytes = write_rootfs_tar(&tree, Some(limit), Vec::new()).expect("written");
        let mut reader = LayerReader::new(bytes.as_slice(), Names::Plain).expect("an archive");
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().expect("an archive") {
            assert_eq!((entry.mtime, entry.uid, entry.gid), (limit, 7, 8));
            found.push((entry.path.to_string(), entry.kind, entry.mode));
        }
        let expected = [
            ("/a".to_owned(), Kind::File { size: 0 }, 0o4755),
            ("/b".to_owned(), Kind::Directory, 0o700),
            ("/b/x".to_owned(), Kind::File { size: 4 }, 0o644),
            ("/c".to_owned(), Kind::Hardlink { target: ImagePath::new("/b/x") }, 0o644),
        ];
        assert_eq!(found, expected);
    }
}
