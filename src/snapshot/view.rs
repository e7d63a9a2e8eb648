//! `View`: stacked layers as one tree, without a mount.
//!
//! It shows what overlayfs would show: a directory is merged from all layers down to the first that
//! is opaque or hides it; anything else is the topmost layer's.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use crate::layer::{EmptyTree, Kind, LayerDir, Node, Stored, Tree, TreeError};
use crate::oci::ImagePath;

/// Directories are remembered up to this number. Walks stay in few.
const REMEMBERED: usize = 256;

/// The layers that have a part in a directory, topmost first.
type Parts = Arc<[usize]>;

/// Merged layers, read-only. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Bottom first.
    layers: Vec<Arc<LayerDir>>,
    remembered: Mutex<BTreeMap<ImagePath, Parts>>,
}

impl View {
    /// The tree of `layers`, bottom first.
    pub(crate) fn new(layers: Vec<Arc<LayerDir>>) -> Self {
        Self(Arc::new(Inner { layers, remembered: Mutex::new(BTreeMap::new()) }))
    }

    /// The layers that make up the directory `path`; `None` if there is no directory.
    fn parts(&self, path: &ImagePath) -> Result<Option<Parts>, TreeError> {
        let Some(parent) = path.parent() else {
            return Ok(Some((0..self.0.layers.len()).rev().collect()));
        };
        let remembered = || self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = remembered().get(path) {
            return Ok(Some(Arc::clone(parts)));
        }
        let Some(above) = self.parts(&parent)? else { return Ok(None) };
        let mut parts = Vec::new();
        for index in above.iter().copied() {
            match self.look(index, path)? {
                Stored::Absent => {}
                Stored::Present { node: Node { kind: Kind::Directory, .. }, opaque } => {
                    parts.push(index);
                    if opaque {
                        break;
                    }
                }
                Stored::Whiteout | Stored::Present { .. } => break,
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let parts: Parts = parts.into();
        let mut remembered = remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(path.clone(), Arc::clone(&parts));
        Ok(Some(parts))
    }

    /// What stands at `path`, and which layer has it.
    fn find(&self, path: &ImagePath) -> Result<Option<(usize, Node)>, TreeError> {
        let parent = path.parent().unwrap_or_else(ImagePath::root);
        let Some(parts) = self.parts(&parent)? else { return Ok(None) };
        for index in parts.iter().copied() {
            match self.look(index, path)? {
                Stored::Absent => {}
                Stored::Whiteout => break,
                Stored::Present { node, .. } => return Ok(Some((index, node))),
            }
        }
        Ok(None)
    }

    fn look(&self, index: usize, path: &ImagePath) -> Result<Stored, TreeError> {
        let stored = self.0.layers[index].lookup(path);
        stored.map_err(|source| TreeError::Read { path: path.clone(), source })
    }
}

impl Tree for View {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        if self.0.layers.is_empty() {
            return EmptyTree.lookup(path);
        }
        Ok(self.find(path)?.map(|(_, node)| node))
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let parts = self.parts(path)?;
        let parts = parts.ok_or_else(|| TreeError::NotADirectory { path: path.clone() })?;
        let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for index in parts.iter().copied() {
            let names = self.0.layers[index].read_dir(path);
            let names = names.map_err(|source| TreeError::Read { path: path.clone(), source })?;
            for (name, is_whiteout) in names {
                if is_whiteout && !shown.contains(&name) {
                    hidden.insert(name);
                } else if !is_whiteout && !hidden.contains(&name) {
                    shown.insert(name);
                }
            }
        }
        Ok(shown.into_iter().collect())
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        let Some((index, Node { kind: Kind::File { .. }, .. })) = self.find(path)? else {
            return Err(TreeError::NotAFile { path: path.clone() });
        };
        match self.0.layers[index].open_file(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => Err(TreeError::Read { path: path.clone(), source }),
        }
    }
}
