//! `Active`: a root file system that a step is changing.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::layer::{DiffSummary, LayerWriter, Target, diff, settle};
use crate::oci::{DiffId, ImagePath};
use crate::sandbox::{OverlayDirs, RootFs};
use crate::snapshot::{Committed, SnapshotError, Snapshotter, above, discard};

/// A stack with a layer on top that is not finished. Nobody else sees it.
///
/// Dropping it instead of committing it throws the changes away.
#[derive(Debug)]
pub struct Active {
    snapshotter: Snapshotter,
    parent: Committed,
    /// Holds `fs` and `work`.
    directory: PathBuf,
    upper: PathBuf,
}

impl Active {
    pub(super) fn new(snapshotter: Snapshotter, parent: Committed) -> Result<Self, SnapshotError> {
        let directory = snapshotter.temporary("active")?;
        let upper = directory.join("fs");
        let active = Self { snapshotter, parent, directory, upper };
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

    /// What to mount for the step.
    pub fn root(&self) -> RootFs {
        RootFs::Overlay(OverlayDirs {
            lower: self.parent.paths.clone(),
            upper: self.upper.clone(),
            work: self.directory.join("work"),
        })
    }

    /// Receives the changes.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// The finished layers below.
    pub fn parent(&self) -> &Committed {
        &self.parent
    }

    /// Writes the changes as a layer. It must not be mounted any more.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Diff`]; the writer is then unusable.
    pub fn diff<W: Write + Send + 'static>(
        &self,
        writer: &mut LayerWriter<W>,
    ) -> Result<DiffSummary, SnapshotError> {
        let (owners, format) = (self.snapshotter.0.owners, self.snapshotter.0.format);
        diff(&self.upper, &self.parent.view(), format, owners, writer)
            .map_err(|source| SnapshotError::Diff { source })
    }

    /// Publishes the changes as the layer `diff_id`, which [`diff`](Self::diff) has written.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`]; the changes are then thrown away.
    pub fn commit(self, diff_id: DiffId) -> Result<Committed, SnapshotError> {
        discard(&self.directory.join("work"));
        self.snapshotter.publish(&self.directory, above(self.parent.chain, diff_id))?;
        self.snapshotter.stack(&self.parent, diff_id)
    }
}

impl Drop for Active {
    /// Removes the changes; if they were published, nothing is there any more.
    fn drop(&mut self) {
        discard(&self.directory);
    }
}
