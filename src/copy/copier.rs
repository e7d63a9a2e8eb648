//! The copier: one matched source at a time, onto the staging tree.
//!
//! What it does is what `BuildKit`'s copy does to a mounted file system, rule by rule; here nothing
//! but names and metadata are put into the staging tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::copy::chmod::{self, Target};
use crate::copy::destination::Destination;
use crate::copy::owner::Owner;
use crate::copy::source::Match;
use crate::copy::staging::{Content, InodeId, Made, Staging};
use crate::copy::walk::{Listed, Role};
use crate::copy::{CopyError, CopyInputs};
use crate::layer::{Kind, Node, Tree};
use crate::oci::{ImagePath, Timestamp};
use crate::plan::{Chmod, CopyStep};

/// Copies onto a staging tree in the way that one step asks for.
pub(crate) struct Copier<'a> {
    pub(crate) staging: Staging<'a>,
    pub(crate) owner: Option<Owner>,
    chmod: Option<&'a Chmod>,
    destination: Destination,
    /// The root of a build context has no time that would mean anything.
    root_has_time: bool,
    /// The number of the remote source that is being copied, if it is one.
    pub(crate) remote: Option<usize>,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(
        step: &'a CopyStep,
        inputs: &CopyInputs<'a>,
        staging: Staging<'a>,
        owner: Option<Owner>,
    ) -> Self {
        Self {
            staging,
            owner,
            chmod: step.chmod.as_ref(),
            destination: Destination::of(step),
            root_has_time: !inputs.from_context,
            remote: None,
        }
    }

    /// Copies one matched path, of which `list` is to be copied.
    pub(crate) fn copy(&mut self, found: &Match, list: &[Listed]) -> Result<(), CopyError> {
        let target = self.prepare(&found.path, &found.node.kind)?;
        let mut hard_links = BTreeMap::new();
        let mut times = Vec::new();
        for listed in list {
            let path = target.join(&listed.relative.as_bytes()[1..]);
            match (&listed.node.kind, listed.role) {
                (Kind::Directory, Role::Top) => {
                    if self.existing_directory(&path)? {
                        times.push((path, self.top_time(listed)));
                    }
                }
                (Kind::Directory, Role::Picked) => {
                    self.put_directory(&path, listed)?;
                    times.push((path, listed.node.mtime));
                }
                (Kind::Directory, Role::Parent) => self.put_parent(&path, listed)?,
                _ => self.put_file(&path, listed, &mut hard_links)?,
            }
        }
        // Last, because every file that was put into a directory changed its time.
        for (path, mtime) in times {
            // The root is in no layer.
            if !path.is_root()
                && let Some(id) = self.staging.adopt(&path)?
            {
                self.staging.node_mut(id).mtime = mtime;
            }
        }
        Ok(())
    }

    /// Puts a file whose text stands in the Dockerfile (rule A131).
    pub(crate) fn copy_inline(&mut self, name: &str, text: &str) -> Result<(), CopyError> {
        let bytes: Arc<[u8]> = text.as_bytes().into();
        let kind = Kind::File { size: bytes.len() as u64 };
        let path = self.prepare(&ImagePath::new(name), &kind)?;
        self.make_room(&path)?;
        let node = Node {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: self.staging.created(),
            xattrs: BTreeMap::new(),
            inode: None,
        };
        let node = self.finished(node);
        self.staging.put(&path, node, Content::Inline(bytes));
        Ok(())
    }

    /// Makes the destination itself a directory, and gives its path (rule A135).
    pub(crate) fn prepare_directory(&mut self) -> Result<ImagePath, CopyError> {
        let path = self.staging.resolve(&self.destination.path)?;
        // An octal mode is for what is copied, not for where an archive is unpacked.
        let Owner { uid, gid } = self.owner.unwrap_or(Owner::ROOT);
        self.staging.make_directories(&path, Made { mode: 0o755, uid, gid })?;
        Ok(path)
    }

    /// Finds where something called `name` goes, and makes the directories on the way
    /// (rules A108, A115, A117 and A122).
    fn prepare(&mut self, name: &ImagePath, kind: &Kind) -> Result<ImagePath, CopyError> {
        let made = self.made();
        let written = &self.destination.path;
        let directory = match written.parent() {
            Some(parent) if !self.destination.is_directory => parent,
            _ => written.clone(),
        };
        let directory = self.staging.resolve(&directory)?;
        self.staging.make_directories(&directory, made)?;
        let mut path = self.staging.resolve(&self.destination.path)?;
        let there = self.standing(&path)?;
        let is_directory = *kind == Kind::Directory;
        if !is_directory
            && there == Some(Kind::Directory)
            && let Some(name) = name.name()
        {
            path = path.join(name);
        }
        if is_directory && there.is_none() {
            self.staging.make_directories(&path, made)?;
        } else if let Some(parent) = path.parent() {
            self.staging.make_directories(&parent, made)?;
        }
        Ok(path)
    }

    /// How directories on the way are made (rules A115 and A126).
    fn made(&self) -> Made {
        let mode = match self.chmod {
            Some(Chmod::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        };
        let Owner { uid, gid } = self.owner.unwrap_or(Owner::ROOT);
        Made { mode, uid, gid }
    }

    fn top_time(&self, listed: &Listed) -> Timestamp {
        let has_time = self.root_has_time || !listed.path.is_root();
        if has_time { listed.node.mtime } else { self.staging.created() }
    }

    /// A directory of the tree: it brings its metadata also where one is already (rule A116).
    fn put_directory(&mut self, path: &ImagePath, listed: &Listed) -> Result<(), CopyError> {
        let new = self.finished(listed.node.clone());
        if !self.existing_directory(path)? {
            self.staging.put(path, new, Content::None);
            return Ok(());
        }
        if let Some(id) = self.staging.adopt(path)? {
            let old = self.staging.node_mut(id);
            let mut xattrs = std::mem::take(&mut old.xattrs);
            xattrs.extend(new.xattrs.clone());
            *old = Node { xattrs, ..new };
        }
        Ok(())
    }

    /// A directory on the way to what was picked: where one is, only its mode changes (rule A128).
    fn put_parent(&mut self, path: &ImagePath, listed: &Listed) -> Result<(), CopyError> {
        if !self.existing_directory(path)? {
            let node = self.finished(listed.node.clone());
            self.staging.put(path, node, Content::None);
        } else if let Some(id) = self.staging.adopt(path)? {
            self.staging.node_mut(id).mode = listed.node.mode;
        }
        Ok(())
    }

    fn put_file(
        &mut self,
        path: &ImagePath,
        listed: &Listed,
        hard_links: &mut BTreeMap<(u64, u64), InodeId>,
    ) -> Result<(), CopyError> {
        self.make_room(path)?;
        let is_file = matches!(listed.node.kind, Kind::File { .. });
        let inode = listed.node.inode.filter(|_| is_file);
        if let Some(id) = inode.and_then(|inode| hard_links.get(&inode)) {
            self.staging.link(path, *id);
            return Ok(());
        }
        let content = match self.remote {
            _ if !is_file => Content::None,
            None => Content::Source(listed.path.clone()),
            Some(number) => Content::Remote(number, listed.path.clone()),
        };
        let node = self.finished(listed.node.clone());
        let id = self.staging.put(path, node, content);
        if let Some(inode) = inode {
            hard_links.insert(inode, id);
        }
        Ok(())
    }

    /// Whether a directory is at `path`. Links are not followed inside of what is copied.
    fn existing_directory(&self, path: &ImagePath) -> Result<bool, CopyError> {
        match self.standing(path)? {
            None => Ok(false),
            Some(Kind::Directory) => Ok(true),
            Some(_) => Err(CopyError::DirectoryOntoFile { path: path.clone() }),
        }
    }

    /// What stands at `path`. That the root is a directory is known without asking.
    fn standing(&self, path: &ImagePath) -> Result<Option<Kind>, CopyError> {
        if path.is_root() {
            return Ok(Some(Kind::Directory));
        }
        Ok(self.staging.lookup(path)?.map(|node| node.kind))
    }

    /// Makes sure that a file can take the place at `path`.
    fn make_room(&self, path: &ImagePath) -> Result<(), CopyError> {
        match self.staging.lookup(path)?.map(|node| node.kind) {
            Some(Kind::Directory) => Err(CopyError::FileOntoDirectory { path: path.clone() }),
            _ => Ok(()),
        }
    }

    /// The metadata of a copy: `--chown` and `--chmod` over what the source has.
    fn finished(&self, mut node: Node) -> Node {
        if let Some(Owner { uid, gid }) = self.owner {
            (node.uid, node.gid) = (uid, gid);
        }
        let target = if node.kind == Kind::Directory { Target::Directory } else { Target::File };
        let is_link = matches!(node.kind, Kind::Symlink { .. });
        if let Some(chmod) = self.chmod.filter(|_| !is_link) {
            node.mode = chmod::apply(chmod, node.mode, target);
        }
        node.inode = None;
        node
    }
}
