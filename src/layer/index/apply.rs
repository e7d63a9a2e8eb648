//! Applying in memory: what a layer's directory would be, had it been unpacked.
//!
//! Step by step this does to a tree of names what `layer::apply` does to a directory of the host,
//! and `settle` included: a layer is applied apart from those below, and once more with them where
//! that turns out to matter. Tests hold the two to the same answers.

use std::collections::{BTreeMap, VecDeque};

use rustix::io::Errno;

use crate::layer::index::{LayerIndex, Member};
use crate::layer::owners::is_internal;
use crate::layer::stored::HOST_LABELS;
use crate::layer::{Entry, Kind, LayerError, Node, Tree};
use crate::oci::{ImagePath, Timestamp};

/// How many symbolic links one path may lead through; the kernel's own limit.
const MAX_LINKS: u32 = 40;

/// A place in [`AppliedLayer::files`].
type Id = usize;

/// The root's.
const ROOT: Id = 0;

/// One layer, applied.
#[derive(Debug)]
pub(super) struct AppliedLayer {
    files: Vec<File>,
    /// How many names each file has; directories count nothing.
    names: Vec<u32>,
}

/// A file of any kind.
#[derive(Debug)]
struct File {
    node: Node,
    content: Content,
    /// What is in it, if it is a directory.
    children: BTreeMap<Vec<u8>, Slot>,
    /// Whether the layers below have no part in this directory.
    opaque: bool,
    /// Whether this directory is only there because something lies in it.
    implied: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Whiteout,
    File(Id),
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// It has none.
    None,
    /// In this member of the index.
    Member(usize),
    /// In the layers below, at this path.
    Lower(ImagePath),
}

/// What one layer has to say of a path in the stack.
#[derive(Debug)]
pub(super) enum Says {
    /// Nothing: those below decide.
    Nothing,
    /// That there is nothing, whatever those below have.
    Gone,
    /// What stands there.
    File(Found),
}

/// Something that stands in a layer.
#[derive(Debug)]
pub(super) struct Found {
    /// What it is. Its `inode` is a number in this layer.
    pub(super) node: Node,
    pub(super) content: Content,
    /// Whether, being a directory, it hides those below.
    pub(super) opaque: bool,
    id: Id,
}

/// A name in a directory of the layer being applied.
struct Place {
    parent: Id,
    name: Vec<u8>,
    /// Where it really is: links among the parents are resolved.
    path: ImagePath,
}

impl AppliedLayer {
    /// Applies `index`; `lower` is the stack below, and is asked only if it matters.
    ///
    /// # Errors
    ///
    /// Those of `layer::apply`, as far as they are the layer's fault.
    pub(super) fn new(index: &LayerIndex, lower: &dyn Tree) -> Result<Self, LayerError> {
        let mut applier = Applier::new(None);
        applier.apply(index)?;
        if applier.needs_lower || !applier.settle(lower)? {
            applier = Applier::new(Some(lower));
            applier.apply(index)?;
            applier.settle(lower)?;
        }
        Ok(applier.finish())
    }

    /// Whether the layer itself says what its root directory is like.
    pub(super) fn has_root(&self) -> bool {
        !self.files[ROOT].implied
    }

    /// What the layer says of `path`.
    pub(super) fn look(&self, path: &ImagePath) -> Says {
        let (mut here, mut opaque) = (ROOT, false);
        for name in path.components() {
            let directory = &self.files[here];
            if directory.node.kind != Kind::Directory {
                return Says::Gone;
            }
            opaque |= directory.opaque;
            match directory.children.get(name) {
                Some(Slot::File(id)) => here = *id,
                Some(Slot::Whiteout) => return Says::Gone,
                None if opaque => return Says::Gone,
                None => return Says::Nothing,
            }
        }
        let file = &self.files[here];
        let mut node = file.node.clone();
        if self.names[here] > 1 {
            node.inode = Some((0, here as u64));
        }
        let opaque = opaque || file.opaque;
        Says::File(Found { node, content: file.content.clone(), opaque, id: here })
    }

    /// The names in a directory that was found, and whether they are whiteouts.
    pub(super) fn names(&self, found: &Found) -> impl Iterator<Item = (&[u8], bool)> {
        let children = self.files[found.id].children.iter();
        children.map(|(name, slot)| (name.as_slice(), *slot == Slot::Whiteout))
    }
}

/// A layer being applied.
struct Applier<'a> {
    lower: Option<&'a dyn Tree>,
    files: Vec<File>,
    needs_lower: bool,
    /// The root's opaqueness is a matter of names: overlayfs cannot have an opaque root.
    root_is_opaque: bool,
}

impl<'a> Applier<'a> {
    fn new(lower: Option<&'a dyn Tree>) -> Self {
        let root = File::directory();
        Self { lower, files: vec![root], needs_lower: false, root_is_opaque: false }
    }

    fn apply(&mut self, index: &LayerIndex) -> Result<(), LayerError> {
        for (number, member) in index.members.iter().enumerate() {
            self.member(number, member)?;
        }
        if self.root_is_opaque {
            self.hide_lower_root()?;
        }
        Ok(())
    }

    fn member(&mut self, number: usize, member: &Member) -> Result<(), LayerError> {
        let entry = &member.entry;
        match &entry.kind {
            Kind::OpaqueWhiteout => {
                let (_, id) = self.directory_at(&entry.path)?;
                self.make_opaque(id);
                Ok(())
            }
            Kind::Directory if entry.path.is_root() => {
                self.files[ROOT].implied = false;
                self.set_metadata(ROOT, entry)
            }
            _ if entry.path.is_root() => Ok(()),
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Hardlink { target } => self.hard_link(&entry.path, target),
            Kind::Directory => self.directory(entry),
            Kind::File { .. } => self.put(entry, Content::Member(number)),
            _ => self.put(entry, Content::None),
        }
    }

    fn hide_lower_root(&mut self) -> Result<(), LayerError> {
        let Some(lower) = self.lower else {
            self.needs_lower = true;
            return Ok(());
        };
        for name in lower.read_dir(&ImagePath::root())? {
            self.whiteout(&ImagePath::root().join(name))?;
        }
        Ok(())
    }

    /// Gives directories that were only implied the metadata that they have below; `false` if one
    /// of them is a link there. The root is left to whoever asks for it.
    fn settle(&mut self, lower: &dyn Tree) -> Result<bool, LayerError> {
        let mut waiting = vec![(ImagePath::root(), ROOT)];
        while let Some((path, id)) = waiting.pop() {
            // What lies in an opaque directory has nothing to do with the layers below.
            let file = &self.files[id];
            let hides = file.opaque || (id == ROOT && self.root_is_opaque);
            for (name, slot) in file.children.iter().filter(|_| !hides) {
                if let Slot::File(child) = slot
                    && self.files[*child].node.kind == Kind::Directory
                {
                    waiting.push((path.join(name), *child));
                }
            }
            if id == ROOT || !file.implied {
                continue;
            }
            match lower.lookup(&path)? {
                Some(node) if node.kind == Kind::Directory => {
                    self.set_metadata(id, &node.into_entry(path))?;
                }
                Some(Node { kind: Kind::Symlink { .. }, .. }) => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }

    fn finish(self) -> AppliedLayer {
        let mut names = vec![0; self.files.len()];
        let mut waiting = vec![ROOT];
        while let Some(id) = waiting.pop() {
            for slot in self.files[id].children.values() {
                let Slot::File(child) = slot else { continue };
                if self.files[*child].node.kind == Kind::Directory {
                    waiting.push(*child);
                } else {
                    names[*child] += 1;
                }
            }
        }
        AppliedLayer { files: self.files, names }
    }

    /// The place of `path`, which is not the root. Missing parents are made.
    fn place(&mut self, path: &ImagePath) -> Result<Place, LayerError> {
        let (resolved, parent) =
            self.directory_at(&path.parent().unwrap_or_else(ImagePath::root))?;
        let name = path.name().unwrap_or_default().to_vec();
        Ok(Place { parent, path: resolved.join(&name), name })
    }

    fn slot(&self, parent: Id, name: &[u8]) -> Option<Slot> {
        self.files[parent].children.get(name).copied()
    }

    /// Walks down `path`, through links of this layer and of those below, and makes what is missing.
    fn directory_at(&mut self, path: &ImagePath) -> Result<(ImagePath, Id), LayerError> {
        // From the root down; a link begins anew, and `..` goes back.
        let mut trail = vec![ROOT];
        let mut resolved = ImagePath::root();
        let mut rest: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                resolved = resolved.parent().unwrap_or_else(ImagePath::root);
                trail.truncate(trail.len().saturating_sub(1).max(1));
                continue;
            }
            let parent = *trail.last().expect("the root stays");
            let here = resolved.join(&name);
            let link = match self.slot(parent, &name) {
                Some(Slot::File(id)) => match &self.files[id].node.kind {
                    Kind::Directory => {
                        trail.push(id);
                        None
                    }
                    Kind::Symlink { target } => Some(target.clone()),
                    _ => {
                        let error = LayerError::file("put something into", &here);
                        return Err(error(Errno::NOTDIR));
                    }
                },
                Some(Slot::Whiteout) => {
                    let id = self.make_parent(parent, name);
                    self.files[id].implied = false;
                    self.make_opaque(id);
                    trail.push(id);
                    None
                }
                None => {
                    let link = self.lower_link(&here)?;
                    if link.is_none() {
                        trail.push(self.make_parent(parent, name));
                    }
                    link
                }
            };
            let Some(target) = link else {
                resolved = here;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(LayerError::file("resolve", path)(Errno::LOOP));
            }
            if target.starts_with(b"/") {
                resolved = ImagePath::root();
                trail.truncate(1);
            }
            let names = target.split(|byte| *byte == b'/');
            for name in names.filter(|name| !name.is_empty() && *name != b".").rev() {
                rest.push_front(name.to_vec());
            }
        }
        Ok((resolved, *trail.last().expect("the root stays")))
    }

    /// Where the link leads that the layers below have at `path`, if they show there at all.
    fn lower_link(&self, path: &ImagePath) -> Result<Option<Vec<u8>>, LayerError> {
        let Some(lower) = self.lower else { return Ok(None) };
        if self.is_hidden(path) {
            return Ok(None);
        }
        Ok(match lower.lookup(path)? {
            Some(Node { kind: Kind::Symlink { target }, .. }) => Some(target),
            _ => None,
        })
    }

    /// Whether a directory above `path` hides what the layers below have there.
    fn is_hidden(&self, path: &ImagePath) -> bool {
        let mut here = ROOT;
        let Some(parent) = path.parent() else { return false };
        if self.root_is_opaque {
            return true;
        }
        for name in parent.components() {
            let Some(Slot::File(id)) = self.slot(here, name) else { return false };
            if self.files[id].opaque {
                return true;
            }
            here = id;
        }
        false
    }

    fn make_parent(&mut self, parent: Id, name: Vec<u8>) -> Id {
        let id = self.files.len();
        self.files.push(File::directory());
        self.files[parent].children.insert(name, Slot::File(id));
        id
    }

    fn make_opaque(&mut self, id: Id) {
        if id == ROOT {
            self.root_is_opaque = true;
        } else {
            self.files[id].opaque = true;
        }
    }

    fn directory(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let place = self.place(&entry.path)?;
        let standing = self.slot(place.parent, &place.name);
        let id = match standing {
            Some(Slot::File(id)) if self.files[id].node.kind == Kind::Directory => id,
            _ => self.make_parent(place.parent, place.name),
        };
        self.files[id].implied = false;
        // It was deleted before it came back, so nothing of the old one may show.
        if standing == Some(Slot::Whiteout) {
            self.make_opaque(id);
        }
        self.set_metadata(id, entry)
    }

    /// Puts anything but a directory at its place, instead of what is there.
    fn put(&mut self, entry: &Entry, content: Content) -> Result<(), LayerError> {
        let place = self.place(&entry.path)?;
        let mut file = File::directory();
        file.node.kind = entry.kind.clone();
        (file.content, file.implied) = (content, false);
        let id = self.files.len();
        self.files.push(file);
        self.set_metadata(id, entry)?;
        self.files[place.parent].children.insert(place.name, Slot::File(id));
        Ok(())
    }

    fn set_metadata(&mut self, id: Id, entry: &Entry) -> Result<(), LayerError> {
        let node = &mut self.files[id].node;
        // Links have no mode, and the kernel shows all bits.
        let is_link = matches!(node.kind, Kind::Symlink { .. });
        node.mode = if is_link { 0o777 } else { entry.mode };
        (node.uid, node.gid, node.mtime) = (entry.uid, entry.gid, entry.mtime);
        for (name, value) in &entry.xattrs {
            if is_internal(name) {
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(LayerError::ReservedXattr { path: entry.path.clone(), name });
            }
            if !HOST_LABELS.contains(&name.as_slice()) {
                node.xattrs.insert(name.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<(), LayerError> {
        let place = self.place(path)?;
        match self.slot(place.parent, &place.name) {
            None => {
                self.files[place.parent].children.insert(place.name, Slot::Whiteout);
            }
            Some(Slot::File(id)) if self.files[id].node.kind == Kind::Directory => {
                self.make_opaque(id);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &ImagePath, target: &ImagePath) -> Result<(), LayerError> {
        let missing = || LayerError::NoLinkTarget { path: path.clone(), target: target.clone() };
        if target.is_root() {
            return Err(missing());
        }
        let place = self.place(path)?;
        let from = self.place(target)?;
        if from.path == place.path {
            return Ok(());
        }
        let id = match self.slot(from.parent, &from.name) {
            Some(Slot::File(id)) if self.files[id].node.kind != Kind::Directory => id,
            None if !self.is_hidden(&from.path) => {
                let Some(lower) = self.lower else {
                    self.needs_lower = true;
                    return Ok(());
                };
                return self.link_to_lower(&place.path, &from.path, lower, missing);
            }
            _ => return Err(missing()),
        };
        // The new name may take the place of a directory that holds the old one.
        if from.path.starts_with(&place.path) {
            return Err(LayerError::file("create", &place.path)(Errno::NOENT));
        }
        self.files[place.parent].children.insert(place.name, Slot::File(id));
        Ok(())
    }

    /// A hard link to a file of another layer: overlayfs has none, so the file is taken up, under
    /// both names.
    fn link_to_lower(
        &mut self,
        path: &ImagePath,
        from: &ImagePath,
        lower: &dyn Tree,
        missing: impl Fn() -> LayerError,
    ) -> Result<(), LayerError> {
        let entry = match lower.lookup(from)? {
            None | Some(Node { kind: Kind::Directory, .. }) => return Err(missing()),
            Some(node) => node.into_entry(from.clone()),
        };
        let content = match entry.kind {
            Kind::File { .. } => Content::Lower(from.clone()),
            _ => Content::None,
        };
        self.put(&entry, content)?;
        self.hard_link(path, from)
    }
}

impl File {
    /// A directory as it is made where an archive only implies one.
    fn directory() -> Self {
        Self {
            node: Node {
                kind: Kind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime: Timestamp::EPOCH,
                xattrs: BTreeMap::new(),
                inode: None,
            },
            content: Content::None,
            children: BTreeMap::new(),
            opaque: false,
            implied: true,
        }
    }
}
