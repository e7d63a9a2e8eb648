//! Applying: one layer becomes a directory of its own, in the format that overlayfs stacks.
//!
//! The layer is hostile until its digest is known, which is at its end. Every file is made beneath
//! the directory's descriptor, through parents that are directories and not links; a link among
//! the parents is resolved inside the root. Whoever calls removes the directory if this fails.
//!
//! Layers are unpacked apart from each other, so that many can be at once. A few entries mean
//! something only with the layers below: parents that the layer does not hold, and hard links to
//! files of other layers. [`Applied`] tells of them; with those layers at hand, [`settle`] gives
//! the parents their metadata, and a second `apply` does the rest.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets>,
//! <https://docs.kernel.org/filesystems/overlayfs.html>.

mod make;
mod parents;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use crate::layer::decompress::ReadAhead;
use crate::layer::owners::{OverlayFormat, Owners, Sidecar};
use crate::layer::{Entry, Kind, LayerError, LayerReader, Names, Node, Tree};
use crate::oci::{DiffId, ImagePath, Timestamp};
use crate::sys::beneath;

/// A layer that was applied.
#[derive(Debug)]
pub struct Applied {
    /// The digest of its uncompressed tar, which is the expected one.
    pub diff_id: DiffId,
    /// Directories that had to be made because something lies in them, though the layer does not
    /// say what they are like. The root is one more often than not.
    pub implied: BTreeSet<ImagePath>,
    /// Whether the layer must be applied again with the layers below, because it holds a hard link
    /// to one of their files or hides all of their root.
    pub needs_lower: bool,
    /// Records of files that cannot carry them.
    pub(crate) sidecar: Sidecar,
}

/// What a layer is applied to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// An empty directory of the host.
    pub directory: &'a Path,
    /// How owners are kept.
    pub owners: Owners,
    /// Whose attributes are used.
    pub format: OverlayFormat,
    /// The layers below, if they are known.
    pub lower: Option<&'a dyn Tree>,
}

/// Unpacks the layer that `source` holds in any compression, and verifies its digest.
///
/// # Errors
///
/// [`LayerError`]; the directory then holds nothing that may be used.
pub fn apply(
    source: impl Read + Send + 'static,
    target: &Target<'_>,
    expected: DiffId,
) -> Result<Applied, LayerError> {
    let mut reader = LayerReader::uncompressed(ReadAhead::new(source), Names::Layer);
    let mut applier = Applier::new(target)?;
    while let Some(entry) = reader.next_entry()? {
        applier.entry(&entry, &mut reader)?;
    }
    let ahead = reader.into_inner();
    let actual = ahead.finish().map_err(|source| LayerError::Source { source })?;
    if actual != expected {
        return Err(LayerError::WrongDiffId { expected, actual });
    }
    applier.finish(actual)
}

/// Gives directories that a layer only implied the metadata that they have in `lower`.
///
/// `false` if one of them is a symbolic link there: then what the layer puts into it belongs
/// elsewhere, and the layer must be applied again with `lower` at hand.
///
/// # Errors
///
/// [`LayerError::File`], [`LayerError::Tree`].
pub fn settle(
    target: &Target<'_>,
    implied: &BTreeSet<ImagePath>,
    lower: &dyn Tree,
) -> Result<bool, LayerError> {
    let mut applier = Applier::new(target)?;
    for path in implied {
        match lower.lookup(path)? {
            Some(node @ Node { kind: Kind::Directory, .. }) => {
                let entry = node.into_entry(path.clone());
                applier.directory_metadata(&entry)?;
            }
            Some(Node { kind: Kind::Symlink { .. }, .. }) => return Ok(false),
            _ => {}
        }
    }
    applier.set_directory_times()?;
    Ok(true)
}

/// A layer being applied.
struct Applier<'a> {
    root: Rc<OwnedFd>,
    owners: Owners,
    format: OverlayFormat,
    lower: Option<&'a dyn Tree>,
    /// The last parent: as entries name it, where it is, and its descriptor.
    parent: Option<(ImagePath, ImagePath, Rc<OwnedFd>)>,
    /// Times of directories. They change whenever something is made inside, so they are set last.
    times: BTreeMap<ImagePath, Timestamp>,
    implied: BTreeSet<ImagePath>,
    opaque: BTreeSet<ImagePath>,
    sidecar: Sidecar,
    needs_lower: bool,
    buffer: Vec<u8>,
}

impl<'a> Applier<'a> {
    fn new(target: &Target<'a>) -> Result<Self, LayerError> {
        let path = ImagePath::root();
        let root = beneath::open_root(target.directory).map_err(LayerError::file("open", &path))?;
        Ok(Self {
            root: Rc::new(root),
            owners: target.owners,
            format: target.format,
            lower: target.lower,
            parent: None,
            times: BTreeMap::new(),
            implied: BTreeSet::from([path]),
            opaque: BTreeSet::new(),
            sidecar: Sidecar::default(),
            needs_lower: false,
            buffer: vec![0; 128 << 10],
        })
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        match &entry.kind {
            Kind::OpaqueWhiteout => self.opaque_whiteout(&entry.path),
            Kind::Directory if entry.path.is_root() => {
                self.implied.remove(&entry.path);
                self.directory_metadata(entry)
            }
            _ if entry.path.is_root() => Ok(()),
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Hardlink { target } => self.hard_link(&entry.path, target),
            Kind::Directory => self.directory(entry),
            Kind::File { .. } => self.file(entry, content),
            _ => self.special(entry),
        }
    }

    fn finish(mut self, diff_id: DiffId) -> Result<Applied, LayerError> {
        if self.opaque.contains(&ImagePath::root()) {
            self.hide_lower_root()?;
        }
        self.set_directory_times()?;
        // What lies in an opaque directory has nothing to do with the layers below.
        let is_hidden = |path: &ImagePath| {
            self.opaque.iter().any(|opaque| path != opaque && path.starts_with(opaque))
        };
        let implied = self.implied.iter().filter(|path| !is_hidden(path)).cloned().collect();
        Ok(Applied { diff_id, implied, needs_lower: self.needs_lower, sidecar: self.sidecar })
    }

    /// Overlayfs cannot have an opaque root, so every name below is hidden by itself.
    fn hide_lower_root(&mut self) -> Result<(), LayerError> {
        let Some(lower) = self.lower else {
            self.needs_lower = true;
            return Ok(());
        };
        for name in lower.read_dir(&ImagePath::root())? {
            let path = ImagePath::root().join(name);
            self.whiteout(&path)?;
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in std::mem::take(&mut self.times) {
            let times = make::times(time);
            beneath::open_directory(&self.root, path.relative())
                .and_then(|directory| Ok(rustix::fs::futimens(directory, &times)?))
                .map_err(LayerError::file("set the time of", &path))?;
        }
        Ok(())
    }
}
