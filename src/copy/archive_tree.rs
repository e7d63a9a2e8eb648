//! `ArchiveTree`: an archive as a file tree, such as a build context that comes as a tar.
//!
//! It holds what `ADD` would unpack at the root of an empty image, and by the same code: names,
//! links and `..` stay inside, later members replace earlier ones. Nothing is unpacked to the disk;
//! contents wait in one temporary file without a name.
//!
//! As in a context that is a directory, all owners are 0:0 and there are no extended attributes: the
//! same files give the same image, however they came here (rules A118 and A119).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::copy::archive;
use crate::copy::owner::Owner;
use crate::copy::staging::{InodeId, Staging};
use crate::copy::{CopyError, unpack};
use crate::layer::{EmptyTree, Kind, Node, Tree, TreeError};
use crate::oci::{ImagePath, Timestamp};

/// The files of an archive.
pub struct ArchiveTree {
    files: Staging<'static>,
    /// Those that have several names.
    linked: BTreeSet<InodeId>,
}

impl ArchiveTree {
    /// Reads a tar, plain or compressed, to its end. `name` is for errors; temporary files go to
    /// `spool_dir`, without a name.
    ///
    /// # Errors
    ///
    /// [`CopyError::Archive`] and [`CopyError::Member`] if it is damaged, [`CopyError::Spool`].
    pub fn read(
        content: Box<dyn Read + Send>,
        name: &str,
        spool_dir: &Path,
    ) -> Result<Self, CopyError> {
        let name = ImagePath::new(name);
        let members = archive::read_from(content, &name, spool_dir)?;
        // Directories that the archive only implies have no time of their own.
        let mut files = Staging::new(None, &EmptyTree, Timestamp::EPOCH);
        let root = ImagePath::root();
        unpack::unpack_below(&mut files, root, &name, Some(Owner::ROOT), members)?;
        let mut names: BTreeMap<InodeId, u32> = BTreeMap::new();
        for (_, id) in files.names() {
            *names.entry(id).or_default() += 1;
        }
        let several = names.into_iter().filter(|(_, count)| *count > 1);
        let linked = several.map(|(id, _)| id).collect();
        Ok(Self { files, linked })
    }
}

impl Tree for ArchiveTree {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        let node = self.files.lookup(path)?;
        let id = self.files.id(path).filter(|id| self.linked.contains(id));
        Ok(node.map(|node| Node {
            xattrs: BTreeMap::new(),
            inode: id.filter(|_| node.kind != Kind::Directory).map(|id| (0, id.number())),
            ..node
        }))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        self.files.read_dir(path)
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        self.files.open(path)
    }
}

impl fmt::Debug for ArchiveTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveTree").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// An archive of files (`name`, `text`), and links (`name`, `-> target` or `=> target`).
    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in members {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o640);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(1_500_000_000);
            // `append_data` refuses what is to be tested here.
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            let (kind, target) = match text.split_once("> ") {
                Some(("-", target)) => (tar::EntryType::Symlink, Some(target)),
                Some(("=", target)) => (tar::EntryType::Link, Some(target)),
                _ if name.ends_with('/') => (tar::EntryType::Directory, None),
                _ => (tar::EntryType::Regular, None),
            };
            header.set_entry_type(kind);
            if let Some(target) = target {
                header.set_link_name_literal(target).expect("short enough");
            }
            let content = if kind == tar::EntryType::Regular { text.as_bytes() } else { b"" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).expect("a Vec takes all");
        }
        builder.into_inner().expect("a Vec takes all")
    }

    fn tree(members: &[(&str, &str)]) -> ArchiveTree {
        let spool = tempfile::tempdir().expect("a temporary directory");
        let content = Box::new(Cursor::new(archive(members)));
        ArchiveTree::read(content, "test.tar", spool.path()).expect("a sound archive")
    }

    fn text(tree: &ArchiveTree, path: &str) -> Option<String> {
        let bytes = tree.read(&ImagePath::new(path), 100).expect("read")?;
        Some(String::from_utf8(bytes).expect("text"))
    }

    fn all(tree: &ArchiveTree) -> Vec<String> {
        fn walk(tree: &ArchiveTree, path: &ImagePath, out: &mut Vec<String>) {
            for name in tree.read_dir(path).expect("a directory") {
                let child = path.join(name);
                out.push(child.to_string());
                if tree.lookup(&child).expect("read").expect("listed").kind == Kind::Directory {
                    walk(tree, &child, out);
                }
            }
        }
        let mut out = Vec::new();
        walk(tree, &ImagePath::root(), &mut out);
        out
    }

    #[test]
    fn files_are_found_by_their_names_and_directories_are_implied() {
        let tree = tree(&[("./", ""), ("a", "A"), ("a-b", ""), ("d/e/f", "F"), ("a.d/", "")]);
        assert_eq!(all(&tree), ["/a", "/a-b", "/a.d", "/d", "/d/e", "/d/e/f"]);
        assert_eq!(text(&tree, "/d/e/f").as_deref(), Some("F"));
        let node = tree.lookup(&ImagePath::new("/d/e")).expect("read").expect("implied");
        assert_eq!((node.mode, node.mtime), (0o755, Timestamp::EPOCH));
    }

    #[test]
    fn a118_owners_are_not_the_archives() {
        let tree = tree(&[("a", "")]);
        let node = tree.lookup(&ImagePath::new("/a")).expect("read").expect("there");
        assert_eq!((node.uid, node.gid, node.mode), (0, 0, 0o640));
        assert_eq!(node.mtime, Timestamp::from_seconds(1_500_000_000));
    }

    #[test]
    fn hostile_names_and_links_stay_inside() {
        let tree = tree(&[
            ("../../etc/passwd", "inside"),
            ("/abs", "A"),
            ("out", "-> /etc"),
            ("out/shadow", "S"),
            ("up", "-> ../../.."),
            ("up/top", "T"),
        ]);
        let expected = ["/abs", "/etc", "/etc/passwd", "/etc/shadow", "/out", "/top", "/up"];
        assert_eq!(all(&tree), expected);
        assert_eq!(text(&tree, "/etc/passwd").as_deref(), Some("inside"));
    }

    #[test]
    fn the_last_member_of_a_name_counts_and_hard_links_are_kept() {
        let tree = tree(&[("a", "old"), ("b", "=> a"), ("c", "C"), ("a", "new")]);
        assert_eq!(text(&tree, "/a").as_deref(), Some("new"));
        assert_eq!(text(&tree, "/b").as_deref(), Some("old"));
        let linked = self::tree(&[("a", "A"), ("b", "=> a"), ("c", "")]);
        let inode =
            |path: &str| linked.lookup(&ImagePath::new(path)).expect("read").expect("there").inode;
        assert!(inode("/a").is_some());
        assert_eq!(inode("/a"), inode("/b"));
        assert_eq!(inode("/c"), None);
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let spool = tempfile::tempdir().expect("a temporary directory");
        let bytes = archive(&[("a", "A"), ("b", "B")]);
        let content = Box::new(Cursor::new(bytes[..1100].to_vec()));
        let error = ArchiveTree::read(content, "test.tar", spool.path()).expect_err("cut off");
        assert!(matches!(error, CopyError::Archive { .. }), "{error:?}");
    }
}
