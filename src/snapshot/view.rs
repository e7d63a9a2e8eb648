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

    /// The names in the directory `path`, and which layer has what is shown of each.
    pub(super) fn entries(&self, path: &ImagePath) -> Result<BTreeMap<Vec<u8>, usize>, TreeError> {
        let parts = self.parts(path)?;
        let parts = parts.ok_or_else(|| TreeError::NotADirectory { path: path.clone() })?;
        let (mut shown, mut hidden) = (BTreeMap::new(), BTreeSet::new());
        for index in parts.iter().copied() {
            let names = self.0.layers[index].read_dir(path);
            let names = names.map_err(|source| TreeError::Read { path: path.clone(), source })?;
            for (name, is_whiteout) in names {
                if is_whiteout && !shown.contains_key(&name) {
                    hidden.insert(name);
                } else if !is_whiteout && !hidden.contains(&name) {
                    shown.entry(name).or_insert(index);
                }
            }
        }
        Ok(shown)
    }

    /// The layers, bottom first.
    pub(super) fn layers(&self) -> &[Arc<LayerDir>] {
        &self.0.layers
    }

    /// Which layer the metadata of the directory `path` is from; `None` if there is no directory.
    pub(super) fn topmost(&self, path: &ImagePath) -> Result<Option<usize>, TreeError> {
        Ok(self.parts(path)?.and_then(|parts| parts.first().copied()))
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
        Ok(self.entries(path)?.into_keys().collect())
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

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _,
        fs::{self, File},
        io::{self, Cursor},
    };

    use super::*;
    use crate::layer::testing::{archive, entry, owners};
    use crate::layer::{Entry, LayerIndex, LayerSource, LayerStack, OverlayFormat};
    use crate::oci::{Compression, Descriptor, Digest, Layer, MediaType, Timestamp};
    use crate::sandbox::Style;
    use crate::snapshot::Snapshotter;

    /// Numbers that look random and are the same each time (xorshift).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u16) -> u16 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            u16::try_from(self.0 % u64::from(limit)).expect("it is below the limit")
        }

        fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
            choices[usize::from(self.below(u16::try_from(N).expect("there are few")))]
        }

        fn path(&mut self) -> String {
            let names: Vec<&str> =
                (0..=self.below(3)).map(|_| self.one_of(["/a", "/b", "/c"])).collect();
            names.concat()
        }

        /// Anything that an archive can hold, sensible or not.
        fn entry(&mut self) -> (Entry, &'static str) {
            let path = self.path();
            let target = match self.below(4) {
                0 => self.path(),
                1 => format!("..{}", self.path()),
                2 => "../../..".to_owned(),
                _ => "b".to_owned(),
            };
            let (kind, content) = match self.below(24) {
                5..10 => (Kind::File { size: 4 }, self.one_of(["some", "text"])),
                10..12 => (Kind::Symlink { target: target.into() }, ""),
                12 => (Kind::Hardlink { target: ImagePath::new(self.path()) }, ""),
                13..17 => (Kind::Whiteout, ""),
                17..19 => (Kind::OpaqueWhiteout, ""),
                19 => (Kind::Fifo, ""),
                20 => (Kind::CharDevice { major: 1, minor: 3 }, ""),
                _ => (Kind::Directory, ""),
            };
            let path = if self.below(30) == 0 { "/".to_owned() } else { path };
            let mut entry = entry(path, kind);
            entry.mode = self.one_of([0o644, 0o755, 0o4711, 0o1777]);
            (entry.uid, entry.gid) = (self.below(3).into(), self.below(3).into());
            entry.mtime = Timestamp::from_seconds(self.below(1000).into());
            (entry, content)
        }
    }

    struct Blobs(Vec<(Layer, Vec<u8>)>);

    impl Blobs {
        fn bytes(&self, layer: &Layer) -> Cursor<Vec<u8>> {
            let found = self.0.iter().find(|(known, _)| known == layer);
            Cursor::new(found.expect("a known layer").1.clone())
        }
    }

    impl LayerSource for Blobs {
        fn index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
            let index = LayerIndex::read(self.bytes(layer), layer.diff_id);
            let index = index.map_err(io::Error::other)?;
            // As it comes back from the store.
            let index = LayerIndex::decode(&index.encode()?);
            Ok(Arc::new(index.expect("it was just made")))
        }

        fn complete_index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
            self.index(layer)
        }

        fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(self.bytes(layer)))
        }

        fn temporary_file(&self) -> io::Result<File> {
            tempfile::tempfile()
        }
    }

    /// Everything that a tree says, with hard links by the name that comes first.
    fn describe(tree: &dyn Tree) -> Result<String, TreeError> {
        let mut text = String::new();
        let mut first: BTreeMap<(u64, u64), ImagePath> = BTreeMap::new();
        let mut waiting = vec![ImagePath::root()];
        while let Some(path) = waiting.pop() {
            let node = tree.lookup(&path)?.expect("it was listed");
            let link = node.inode.map(|it| first.entry(it).or_insert_with(|| path.clone()).clone());
            let content = match node.kind {
                Kind::File { .. } => io::read_to_string(tree.open(&path)?).expect("readable"),
                _ => String::new(),
            };
            if node.kind == Kind::Directory {
                let names = tree.read_dir(&path)?;
                waiting.extend(names.into_iter().rev().map(|name| path.join(name)));
            } else {
                assert!(tree.read_dir(&path).is_err());
            }
            let node = Node { inode: None, ..node };
            writeln!(text, "{path} {node:?} {link:?} {content}").expect("a String takes all");
        }
        Ok(text)
    }

    fn answers(seed: u64) -> Result<(), String> {
        let mut numbers = Numbers(seed);
        let layers: Vec<Vec<_>> = (0..=numbers.below(4))
            .map(|_| (0..=numbers.below(7)).map(|_| numbers.entry()).collect())
            .collect();
        let blob = |entries: &Vec<(Entry, &'static str)>| {
            let (bytes, diff_id) = archive(entries);
            let media_type = MediaType::OciLayer(Compression::Gzip);
            let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
            (Layer { descriptor, diff_id }, bytes)
        };
        let blobs = Arc::new(Blobs(layers.iter().map(blob).collect()));
        let order: Vec<Layer> = blobs.0.iter().map(|(layer, _)| layer.clone()).collect();
        let directory = tempfile::tempdir().expect("writable");
        let temporary = directory.path().join("tmp");
        fs::create_dir(&temporary).expect("writable");
        let root = directory.path().join("snapshots");
        let snapshotter =
            Snapshotter::new(&root, temporary, owners(), OverlayFormat::User, Style::Overlay);
        let snapshotter = snapshotter.expect("writable");
        let open = |layer: &Layer| Ok(Box::new(blobs.bytes(layer)) as Box<dyn Read + Send>);
        let unpacked = snapshotter.ensure(&order, &open).map_err(|error| error.to_string());
        let shown = || format!("seed {seed}: {layers:#?}");
        for split in 0..=order.len() {
            // The lower ones unpacked, the upper ones not.
            let lower = match (&unpacked, split) {
                (Err(_), 1..) => break,
                _ => snapshotter.ensure(&order[..split], &open).expect("they were unpacked before"),
            };
            let bottom = Arc::new(lower.view());
            let stack = LayerStack::new(bottom, &order[split..], Arc::clone(&blobs) as _);
            match (&unpacked, describe(&stack)) {
                (Ok(unpacked), Ok(indexed)) => {
                    let unpacked = describe(&unpacked.view()).expect("readable");
                    assert_eq!(indexed, unpacked, "{split} {}", shown());
                }
                (Err(_), Err(_)) => {}
                (unpacked, indexed) => {
                    panic!("{split}: {unpacked:?}\n{indexed:?}\n{}", shown())
                }
            }
        }
        unpacked.map(drop)
    }

    #[test]
    fn an_index_gives_the_answers_that_unpacking_gives() {
        let count = 300;
        let valid = (1..=count)
            .filter(|seed: &u64| answers(u64::wrapping_mul(*seed, 0x9E37_79B9_7F4A_7C15)).is_ok());
        let valid = valid.count();
        assert!(valid > 100, "only {valid} of {count} stacks could be unpacked at all");
    }
}
