//! `LayerStack`: stacked layers as one tree, read through their indexes.
//!
//! It shows what `snapshot::View` would show of the same layers unpacked. Layers are asked from the
//! top down and no further than the answer needs, and the index of a layer is made only when that
//! layer is asked: to know of a file of the topmost layer, the others need not even be here.

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io::{self, Cursor, Read},
    sync::{Arc, Mutex, PoisonError},
};

use crate::layer::index::apply::{AppliedLayer, Content, Found, Says};
use crate::layer::index::content::{Contents, changed};
use crate::layer::index::{Member, NOWHERE};
use crate::layer::{Entry, Kind, LayerError, LayerIndex, Node, Tree, TreeError};
use crate::oci::{ImagePath, Layer};

/// Where indexes and blobs come from.
pub trait LayerSource: Send + Sync {
    /// The index of `layer`. It is asked for once for each stack.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read.
    fn index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>>;

    /// The same, if the other one does not say where contents are ([`LayerIndex::has_places`]).
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being made.
    fn complete_index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>>;

    /// The blob of `layer`, compressed as it is, and verified.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read.
    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>>;

    /// A file without a name, for as long as it is open.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    fn temporary_file(&self) -> io::Result<File>;
}

/// A stack of layers that nobody has unpacked.
pub struct LayerStack {
    /// What the layers lie on.
    bottom: Arc<dyn Tree>,
    /// Bottom first.
    layers: Vec<Stacked>,
    source: Arc<dyn LayerSource>,
}

/// A layer in its stack.
struct Stacked {
    layer: Layer,
    known: Mutex<Option<Known>>,
    contents: Arc<Contents>,
}

/// What is known of a layer that was asked.
#[derive(Clone)]
struct Known {
    index: Arc<LayerIndex>,
    applied: Arc<AppliedLayer>,
}

/// The lowest layers of a stack.
#[derive(Clone, Copy)]
struct Lowest<'a> {
    stack: &'a LayerStack,
    count: usize,
}

/// What stands at a path, and who has it.
enum Standing {
    InLayer(usize, Found),
    AtBottom(Node),
}

impl fmt::Debug for LayerStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerStack").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

impl LayerStack {
    /// The tree of `layers`, bottom first, on top of `bottom`.
    pub fn new(bottom: Arc<dyn Tree>, layers: &[Layer], source: Arc<dyn LayerSource>) -> Self {
        let stacked = |layer: &Layer| Stacked {
            layer: layer.clone(),
            known: Mutex::new(None),
            contents: Arc::default(),
        };
        Self { bottom, layers: layers.iter().map(stacked).collect(), source }
    }

    fn all(&self) -> Lowest<'_> {
        Lowest { stack: self, count: self.layers.len() }
    }
}

impl Stacked {
    /// The content of the member `number` of `index`.
    fn open(
        &self,
        index: &LayerIndex,
        number: usize,
        source: &dyn LayerSource,
    ) -> io::Result<Box<dyn Read + Send>> {
        let complete;
        let mut member = &index.members[number];
        if member.start == NOWHERE && member.content.is_none() {
            complete = source.complete_index(&self.layer)?;
            let Entry { path, kind, .. } = &member.entry;
            let is_same = |it: &&Member| it.entry.path == *path && it.entry.kind == *kind;
            member =
                complete.members.iter().rfind(is_same).ok_or_else(|| changed(&member.entry))?;
        }
        match &member.content {
            Some(kept) => Ok(Box::new(Cursor::new(Arc::clone(kept)))),
            None => self.contents.open(&self.layer, source, &member.entry, member.start),
        }
    }
}

impl Lowest<'_> {
    fn below(self, number: usize) -> Self {
        Self { count: number, ..self }
    }

    /// The layer `number`. Its index is made if nobody has asked before.
    fn known(self, number: usize, path: &ImagePath) -> Result<Known, TreeError> {
        let stacked = &self.stack.layers[number];
        let mut known = stacked.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let read = |source| TreeError::Read { path: path.clone(), source };
        let index = self.stack.source.index(&stacked.layer).map_err(read)?;
        let applied = AppliedLayer::new(&index, &self.below(number));
        let applied = applied.map_err(|error| match error {
            LayerError::Tree(error) => error,
            error => read(io::Error::other(error)),
        })?;
        Ok(known.insert(Known { index, applied: Arc::new(applied) }).clone())
    }

    fn find(self, path: &ImagePath) -> Result<Option<Standing>, TreeError> {
        for number in (0..self.count).rev() {
            let applied = self.known(number, path)?.applied;
            if path.is_root() && !applied.has_root() {
                continue;
            }
            match applied.look(path) {
                Says::Nothing => {}
                Says::Gone => return Ok(None),
                Says::File(mut found) => {
                    // No device has this number, so it is no other file's.
                    let device = u64::MAX - number as u64;
                    found.node.inode = found.node.inode.map(|(_, inode)| (device, inode));
                    return Ok(Some(Standing::InLayer(number, found)));
                }
            }
        }
        Ok(self.stack.bottom.lookup(path)?.map(Standing::AtBottom))
    }

    /// The content of something that stands in the layer `number`.
    fn content(
        self,
        number: usize,
        content: &Content,
        path: &ImagePath,
    ) -> Result<Box<dyn Read + Send>, TreeError> {
        let member = match content {
            Content::None => return Ok(Box::new(io::empty())),
            Content::Lower(path) => return self.below(number).open(path),
            Content::Member(member) => *member,
        };
        let Known { index, .. } = self.known(number, path)?;
        let stacked = &self.stack.layers[number];
        let opened = stacked.open(&index, member, &*self.stack.source);
        opened.map_err(|source| TreeError::Read { path: path.clone(), source })
    }
}

impl Tree for Lowest<'_> {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        Ok(self.find(path)?.map(|standing| match standing {
            Standing::InLayer(_, found) => found.node,
            Standing::AtBottom(node) => node,
        }))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let is_directory = |node: Option<Node>| node.is_some_and(|n| n.kind == Kind::Directory);
        if !path.is_root() && !is_directory(self.lookup(path)?) {
            return Err(TreeError::NotADirectory { path: path.clone() });
        }
        let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for number in (0..self.count).rev() {
            let applied = self.known(number, path)?.applied;
            let found = match applied.look(path) {
                Says::Nothing => continue,
                Says::File(found) if found.node.kind == Kind::Directory => found,
                Says::Gone | Says::File(_) => return Ok(shown.into_iter().collect()),
            };
            for (name, is_whiteout) in applied.names(&found) {
                if is_whiteout && !shown.contains(name) {
                    hidden.insert(name.to_vec());
                } else if !is_whiteout && !hidden.contains(name) {
                    shown.insert(name.to_vec());
                }
            }
            if found.opaque {
                return Ok(shown.into_iter().collect());
            }
        }
        if is_directory(self.stack.bottom.lookup(path)?) {
            let names = self.stack.bottom.read_dir(path)?;
            shown.extend(names.into_iter().filter(|name| !hidden.contains(name)));
        }
        Ok(shown.into_iter().collect())
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        match self.find(path)? {
            Some(Standing::InLayer(number, found))
                if matches!(found.node.kind, Kind::File { .. }) =>
            {
                self.content(number, &found.content, path)
            }
            Some(Standing::AtBottom(_)) => self.stack.bottom.open(path),
            _ => Err(TreeError::NotAFile { path: path.clone() }),
        }
    }
}

impl Tree for LayerStack {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        self.all().lookup(path)
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        self.all().read_dir(path)
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        self.all().open(path)
    }
}
