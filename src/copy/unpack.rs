//! Unpacking: the members of an archive onto the staging tree.
//!
//! It is done as in a `chroot` at the destination: absolute names, absolute links and `..` all stay
//! below it (rule A136). Members keep their owners, modes and times; `--chown` overrides the owners
//! and `--chmod` means nothing here (rule A135).

use std::io::Read;

use crate::copy::archive::Member;
use crate::copy::copier::Copier;
use crate::copy::owner::Owner;
use crate::copy::staging::{InodeId, Made, Staging};
use crate::copy::{CopyError, MemberProblem};
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::ImagePath;

/// Puts `members` of the archive `path` below the destination.
pub(crate) fn unpack(
    copier: &mut Copier<'_>,
    path: &ImagePath,
    members: Vec<Member>,
) -> Result<(), CopyError> {
    let root = copier.prepare_directory()?;
    let owner = copier.owner;
    unpack_below(&mut copier.staging, root, path, owner, members)
}

/// Puts `members` of the archive `path` below the directory `root`.
pub(crate) fn unpack_below(
    staging: &mut Staging<'_>,
    root: ImagePath,
    path: &ImagePath,
    owner: Option<Owner>,
    members: Vec<Member>,
) -> Result<(), CopyError> {
    let mut unpacker = Unpacker { staging: &mut *staging, root, archive: path };
    let mut directories = Vec::new();
    for mut member in members {
        // The destination itself is not the archive's to change.
        if member.entry.path.is_root() {
            continue;
        }
        if let Some(Owner { uid, gid }) = owner {
            (member.entry.uid, member.entry.gid) = (uid, gid);
        }
        let place = unpacker.place(&member)?;
        if let Some(id) = unpacker.put(&place, &member)? {
            directories.push((id, member.entry.mtime));
        }
    }
    // Last, because every member that was put into a directory changed its time.
    for (id, mtime) in directories {
        staging.node_mut(id).mtime = mtime;
    }
    Ok(())
}

struct Unpacker<'s, 'a> {
    staging: &'s mut Staging<'a>,
    root: ImagePath,
    archive: &'s ImagePath,
}

impl Unpacker<'_, '_> {
    /// The path in the image at which a member goes, with the directories above it made.
    fn place(&mut self, member: &Member) -> Result<ImagePath, CopyError> {
        let parent = member.entry.path.parent().unwrap_or_else(ImagePath::root);
        let parent = self.below_root(&self.rooted().resolve(&parent)?);
        // What the archive only implies is root's, even with `--chown`.
        self.staging.make_directories(&parent, Made { mode: 0o755, uid: 0, gid: 0 })?;
        Ok(parent.join(member.entry.path.name().unwrap_or_default()))
    }

    /// Puts a member at `place`; gives its inode if it is a directory.
    fn put(&mut self, place: &ImagePath, member: &Member) -> Result<Option<InodeId>, CopyError> {
        let is_directory = member.entry.kind == Kind::Directory;
        match self.staging.lookup(place)?.map(|node| node.kind) {
            None => {}
            Some(Kind::Directory) if is_directory => return self.change(place, member),
            Some(_) => self.staging.remove(place)?,
        }
        if let Kind::Hardlink { target } = &member.entry.kind {
            self.hard_link(place, target, member)?;
            return Ok(None);
        }
        let node = member.node(member.entry.kind.clone());
        let id = self.staging.put(place, node, member.content.clone());
        Ok(is_directory.then_some(id))
    }

    /// A directory that is there takes the member's metadata.
    fn change(&mut self, place: &ImagePath, member: &Member) -> Result<Option<InodeId>, CopyError> {
        let id = self.staging.adopt(place)?;
        if let Some(id) = id {
            self.overwrite(id, member);
        }
        Ok(id)
    }

    /// Links to a file that is there, which takes the member's metadata: both are names of one.
    fn hard_link(
        &mut self,
        place: &ImagePath,
        target: &ImagePath,
        member: &Member,
    ) -> Result<(), CopyError> {
        let fail = |reason| CopyError::Member {
            path: self.archive.clone(),
            member: member.entry.path.to_string(),
            reason,
        };
        let from = self.below_root(&self.rooted().resolve_parent(target)?);
        let nothing = || fail(MemberProblem::LinkToNothing(target.clone()));
        let node = self.staging.lookup(&from)?.ok_or_else(nothing)?;
        if node.kind == Kind::Directory {
            return Err(fail(MemberProblem::LinkToDirectory(target.clone())));
        }
        let Some(id) = self.staging.adopt(&from)? else { return Err(nothing()) };
        self.overwrite(id, member);
        self.staging.link(place, id);
        Ok(())
    }

    fn overwrite(&mut self, id: InodeId, member: &Member) {
        let old = self.staging.node_mut(id);
        let mut new = member.node(old.kind.clone());
        let mut xattrs = std::mem::take(&mut old.xattrs);
        xattrs.append(&mut new.xattrs);
        *old = Node { xattrs, ..new };
    }

    fn rooted(&self) -> Rooted<'_> {
        Rooted { tree: &*self.staging, root: &self.root }
    }

    fn below_root(&self, path: &ImagePath) -> ImagePath {
        self.root.join(&path.as_bytes()[1..])
    }
}

/// A tree as it is seen after `chroot` to one of its directories.
struct Rooted<'a> {
    tree: &'a dyn Tree,
    root: &'a ImagePath,
}

impl Rooted<'_> {
    fn inside(&self, path: &ImagePath) -> ImagePath {
        self.root.join(&path.as_bytes()[1..])
    }
}

impl Tree for Rooted<'_> {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        self.tree.lookup(&self.inside(path))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        self.tree.read_dir(&self.inside(path))
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        self.tree.open(&self.inside(path))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::copy::add;
    use crate::copy::memory::MemoryTree;
    use crate::copy::tests::{inputs, listing, step, writer};
    use crate::layer::EmptyTree;
    use crate::plan::{AddStep, Chmod};

    /// What is in an archive: name, kind, mode, owner.
    fn archive(members: &[(&str, Kind, u32, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mode, owner) in members {
            let mut header = tar::Header::new_gnu();
            let (entry_type, link) = match kind {
                Kind::Directory => (tar::EntryType::Directory, Vec::new()),
                Kind::Symlink { target } => (tar::EntryType::Symlink, target.clone()),
                Kind::Hardlink { target } => {
                    (tar::EntryType::Link, target.as_bytes()[1..].to_vec())
                }
                _ => (tar::EntryType::Regular, Vec::new()),
            };
            header.set_entry_type(entry_type);
            header.as_old_mut().linkname[..link.len()].copy_from_slice(&link);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(*mode);
            header.set_uid(*owner);
            header.set_gid(*owner);
            header.set_mtime(1_000_000);
            let content: &[u8] = if matches!(kind, Kind::File { .. }) { b"new" } else { b"" };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).expect("a Vec takes all");
        }
        builder.into_inner().expect("a Vec takes all")
    }

    const FILE: Kind = Kind::File { size: 3 };

    fn unpack_step(destination: &str) -> AddStep {
        AddStep { copy: step(&["a.tar"], destination), unpack: None }
    }

    fn unpack(
        step: &AddStep,
        members: &[(&str, Kind, u32, u64)],
        below: &dyn Tree,
    ) -> Result<Vec<String>, CopyError> {
        let source = MemoryTree::new().bytes("/a.tar", &archive(members));
        let spool_dir = tempfile::tempdir().expect("writable");
        let mut writer = writer();
        add(step, inputs(&step.copy, &source, below), spool_dir.path(), &mut writer)?;
        Ok(listing(&writer.finish().expect("a Vec takes all").sink))
    }

    #[track_caller]
    fn check(members: &[(&str, Kind, u32, u64)], below: &dyn Tree, expected: &[&str]) {
        let layer = unpack(&unpack_step("/d"), members, below).expect("unpacked");
        assert_eq!(layer, expected);
    }

    fn symlink(target: &str) -> Kind {
        Kind::Symlink { target: target.into() }
    }

    fn hard_link(target: &str) -> Kind {
        Kind::Hardlink { target: ImagePath::new(target) }
    }

    #[test]
    fn a135_members_keep_their_metadata() {
        let members = [
            ("./", Kind::Directory, 0o711, 7),
            ("./sub/", Kind::Directory, 0o1777, 3),
            ("sub/f", FILE, 0o4755, 5),
        ];
        let expected = ["755 0:0 now d/", "1777 3:3 old d/sub/", "4755 5:5 old d/sub/f = new"];
        check(&members, &EmptyTree, &expected);
    }

    #[test]
    fn a135_chown_applies_to_members_and_chmod_does_not() {
        let mut step = unpack_step("/d");
        step.copy.chown = Some("11:22".to_owned());
        step.copy.chmod = Some(Chmod::Octal(0o777));
        let layer = unpack(&step, &[("implied/f", FILE, 0o640, 5)], &EmptyTree);
        let expected =
            ["755 11:22 now d/", "755 0:0 now d/implied/", "640 11:22 old d/implied/f = new"];
        assert_eq!(layer.expect("unpacked"), expected);
    }

    #[test]
    fn a136_names_and_links_stay_below_the_destination() {
        let below = MemoryTree::new().link("/d/abs", "/etc").dir("/etc", 0o755);
        let members =
            [("/etc/f", FILE, 0o644, 0), ("../../up", FILE, 0o644, 0), ("abs/g", FILE, 0o644, 0)];
        let expected = [
            "755 0:0 old d/",
            "755 0:0 now d/etc/",
            "644 0:0 old d/etc/f = new",
            "644 0:0 old d/etc/g = new",
            "644 0:0 old d/up = new",
        ];
        check(&members, &below, &expected);
    }

    #[test]
    fn a136_directories_replace_links_and_files_go_through_them() {
        let below = MemoryTree::new().dir("/d/real", 0o755).link("/d/link", "real");
        let old = "755 0:0 old d/";
        let through = [old, "755 0:0 old d/real/", "644 0:0 old d/real/f = new"];
        check(&[("link/f", FILE, 0o644, 0)], &below, &through);
        let members = [("link/", Kind::Directory, 0o711, 0), ("link/f", FILE, 0o644, 0)];
        check(&members, &below, &[old, "711 0:0 old d/link/", "644 0:0 old d/link/f = new"]);
        check(&[("link", FILE, 0o600, 0)], &below, &[old, "600 0:0 old d/link = new"]);
    }

    #[test]
    fn a136_a_directory_that_was_replaced_is_empty_when_it_comes_back() {
        let below = MemoryTree::new().file("/d/sub/old", "old");
        let members = [("sub", symlink("x"), 0o777, 0), ("sub/", Kind::Directory, 0o755, 0)];
        let expected =
            ["755 0:0 old d/", "755 0:0 old d/sub/", "755 0:0 old d/sub/.wh..wh..opq = "];
        check(&members, &below, &expected);
    }

    #[test]
    fn hard_links_share_the_metadata_that_came_last() {
        let members = [("a", FILE, 0o644, 2), ("b", hard_link("a"), 0o600, 0)];
        let expected = ["755 0:0 now d/", "600 0:0 old d/a = new", "600 0:0 old d/b == d/a"];
        check(&members, &EmptyTree, &expected);
        // The target may be in the stage below: then it has to be in this layer too.
        let below = MemoryTree::new().file("/d/z", "old");
        let expected = ["755 0:0 old d/", "644 1:1 old d/b = old", "644 1:1 old d/z == d/b"];
        check(&[("b", hard_link("z"), 0o644, 1)], &below, &expected);
        let error = unpack(&unpack_step("/d"), &[("b", hard_link("x"), 0, 0)], &EmptyTree);
        assert_eq!(
            error.expect_err("no target").to_string(),
            "cannot unpack `/b` from `/a.tar`: it is a link to `/x`, which is not there"
        );
    }

    #[test]
    fn a137_unpacking_can_be_turned_off() {
        let source = MemoryTree::new().file("/a.tar", "text");
        let step = AddStep { unpack: Some(false), ..unpack_step("/d/") };
        let mut writer = writer();
        let directory = Path::new("/nonexistent");
        add(&step, inputs(&step.copy, &source, &EmptyTree), directory, &mut writer)
            .expect("copied");
        let layer = listing(&writer.finish().expect("a Vec takes all").sink);
        assert_eq!(layer, ["755 0:0 now d/", "644 0:0 old d/a.tar = text"]);
    }
}
