//! `Active`: a root file system that a step is changing.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::layer::{
    DiffSummary, LayerDir, LayerWriter, LinkOwners, Owners, Sidecar, Target, diff_of, settle,
};
use crate::oci::{DiffId, ImagePath};
use crate::sandbox::{OverlayDirs, RootFs, Style};
use crate::snapshot::whole::Whole;
use crate::snapshot::{Committed, SnapshotError, Snapshotter, above, discard};

/// A stack with a layer on top that is not finished. Nobody else sees it.
///
/// Dropping it instead of committing it throws the changes away.
#[derive(Debug)]
pub struct Active {
    snapshotter: Snapshotter,
    parent: Committed,
    /// Holds `fs`, and `work` or `records`.
    directory: PathBuf,
    upper: PathBuf,
    /// What the step works in, if not in an overlay.
    pub(super) whole: Option<Whole>,
    /// What was found in there, once it was looked through.
    collected: Mutex<Option<Collected>>,
}

/// What is known of an upper directory beside what is in it.
#[derive(Debug, Clone, Default)]
struct Collected {
    records: Sidecar,
    /// Names under which files are found a second time.
    twice: Vec<ImagePath>,
}

impl Active {
    pub(super) fn new(snapshotter: Snapshotter, parent: Committed) -> Result<Self, SnapshotError> {
        let whole = match snapshotter.0.style {
            Style::Overlay => None,
            Style::Directory | Style::RecordedDirectory => {
                Some(Whole::prepare(&snapshotter, &parent)?)
            }
        };
        let directory = snapshotter.temporary("active")?;
        let upper = directory.join("fs");
        let collected = Mutex::default();
        let active = Self { snapshotter, parent, directory, upper, whole, collected };
        for path in [&active.upper, &active.directory.join("work")] {
            fs::create_dir(path).map_err(SnapshotError::io("create", path))?;
        }
        // Overlayfs shows the root of the topmost layer, not a merged one.
        let (owners, format) = (active.snapshotter.0.owners, active.snapshotter.0.format);
        let target = Target { directory: &active.upper, owners, format, lower: None };
        let root = BTreeSet::from([ImagePath::root()]);
        settle(&target, &root, &active.parent.view())
            .map_err(|source| SnapshotError::Prepare { source })?;
        Ok(active)
    }

    /// What the step is to have as its root.
    pub fn root(&self) -> RootFs {
        match &self.whole {
            Some(whole) => RootFs::Directory(whole.spec()),
            None => RootFs::Overlay(OverlayDirs {
                lower: self.parent.paths.clone(),
                upper: self.upper.clone(),
                work: self.directory.join("work"),
            }),
        }
    }

    /// Receives the changes: at once, or when [`diff`](Self::diff) looks for them.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// The finished layers below.
    pub fn parent(&self) -> &Committed {
        &self.parent
    }

    /// Writes the changes as a layer. It must not be in use any more.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Diff`], and those of reading a tree; the writer is then unusable.
    pub fn diff<W: Write + Send + 'static>(
        &self,
        writer: &mut LayerWriter<W>,
    ) -> Result<DiffSummary, SnapshotError> {
        let Collected { records, .. } = self.collected()?;
        let (owners, format) = (self.snapshotter.0.owners, self.snapshotter.0.format);
        let links = match (owners, self.snapshotter.0.style) {
            (Owners::Recorded, Style::Overlay | Style::Directory) => LinkOwners::Below,
            (Owners::Real, _) | (_, Style::RecordedDirectory) => LinkOwners::Known,
        };
        let upper = LayerDir::open(&self.upper, owners, format, records);
        let upper = upper.map_err(SnapshotError::io("open", &self.upper))?;
        diff_of(upper, &self.parent.view(), links, writer)
            .map_err(|source| SnapshotError::Diff { source })
    }

    /// Sees to it that the upper directory holds the changes.
    fn collected(&self) -> Result<Collected, SnapshotError> {
        let Some(whole) = &self.whole else { return Ok(Collected::default()) };
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(collected) = &*collected {
            return Ok(collected.clone());
        }
        let twice = whole.collect(&self.snapshotter, &self.parent, &self.upper)?;
        let records = match self.snapshotter.0.style {
            Style::RecordedDirectory => whole.records_of(&self.upper)?,
            Style::Overlay | Style::Directory => Sidecar::default(),
        };
        if !records.is_empty() {
            let path = self.directory.join("records");
            fs::write(&path, records.encode()).map_err(SnapshotError::io("write", &path))?;
        }
        Ok(collected.insert(Collected { records, twice }).clone())
    }

    /// Publishes the changes as the layer `diff_id`, which [`diff`](Self::diff) has written.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`]; the changes are then thrown away.
    pub fn commit(mut self, diff_id: DiffId) -> Result<Committed, SnapshotError> {
        let Collected { twice, .. } = self.collected()?;
        discard(&self.directory.join("work"));
        self.snapshotter.publish(&self.directory, above(self.parent.chain, diff_id))?;
        let committed = self.snapshotter.stack(&self.parent, diff_id)?;
        if let Some(whole) = self.whole.take() {
            whole.keep(&self.snapshotter, &committed, &twice);
        }
        Ok(committed)
    }
}

impl Drop for Active {
    /// Removes the changes; if they were published, nothing is there any more.
    fn drop(&mut self) {
        discard(&self.directory);
    }
}
