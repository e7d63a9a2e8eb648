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
    let mut unpacker = Unpacker { staging: &mut copier.staging, root, archive: path };
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
        copier.staging.node_mut(id).mtime = mtime;
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
