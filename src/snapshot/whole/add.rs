//! Putting one more layer onto a tree: what a COPY made between two commands.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode};

use crate::layer::{Kind, LayerDir, Node, Sidecar, Stored};
use crate::oci::ImagePath;
use crate::snapshot::SnapshotError;
use crate::snapshot::whole::duplicate::{At, Duplicator};
use crate::sys::beneath;

/// Changes the tree below `root` as `layer` says. `records` are those of the tree.
pub(super) fn add(
    layer: &LayerDir,
    root: BorrowedFd<'_>,
    records: &mut Sidecar,
    duplicator: &Duplicator,
) -> Result<(), SnapshotError> {
    Adder { layer, root, records, duplicator }.directory(&ImagePath::root())
}

struct Adder<'a> {
    layer: &'a LayerDir,
    root: BorrowedFd<'a>,
    records: &'a mut Sidecar,
    duplicator: &'a Duplicator,
}

impl Adder<'_> {
    /// Handles what the layer has in a directory that both have.
    fn directory(&mut self, path: &ImagePath) -> Result<(), SnapshotError> {
        let failed = || SnapshotError::tree::<io::Error>("add", path);
        let entries = self.layer.read_dir(path).map_err(failed())?;
        let mut below = Vec::new();
        {
            let from = beneath::open_directory(self.layer.root(), path.relative());
            let from = from.map_err(failed())?;
            let to = beneath::open_directory(self.root, path.relative()).map_err(failed())?;
            for (name, is_whiteout) in entries {
                let child = path.join(&name);
                let (from, to) = (At::new(&from, &name), At::new(&to, &name));
                let is_directory = self
                    .name(&child, from, to, &name, is_whiteout)
                    .map_err(SnapshotError::tree("add", &child))?;
                if is_directory {
                    below.push(child);
                }
            }
        }
        for child in below {
            self.directory(&child)?;
        }
        // When nothing changes in it any more, for the sake of its time.
        let from = beneath::open_directory(self.layer.root(), path.relative()).map_err(failed())?;
        let to = beneath::open_directory(self.root, path.relative()).map_err(failed())?;
        rustix::fs::statat(&from, "", AtFlags::EMPTY_PATH)
            .map_err(io::Error::from)
            .and_then(|stat| self.duplicator.metadata(&from, &stat, to.as_fd()))
            .map_err(failed())
    }

    /// Handles one name; says whether it is a directory now, whose content is yet to be handled.
    fn name(
        &mut self,
        path: &ImagePath,
        from: At<'_>,
        to: At<'_>,
        name: &[u8],
        is_whiteout: bool,
    ) -> io::Result<bool> {
        let stat = from.stat()?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && !is_whiteout {
            let stays = self.stays(path)?
                && to
                    .stat()
                    .is_ok_and(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory);
            if !stays {
                self.remove(path, to, name)?;
                rustix::fs::mkdirat(to.directory, to.name, Mode::RWXU)?;
            }
            return Ok(true);
        }
        self.remove(path, to, name)?;
        if !is_whiteout {
            self.duplicator.file(from, &stat, to)?;
            if let Some(record) = self.layer.record(path) {
                self.records.insert(path.clone(), record);
            }
        }
        Ok(false)
    }

    /// Whether a directory of the layer shows what is in the one below.
    fn stays(&self, path: &ImagePath) -> io::Result<bool> {
        let stored = self.layer.lookup(path)?;
        let Stored::Present { node: Node { kind: Kind::Directory, .. }, opaque } = stored else {
            return Ok(false);
        };
        Ok(!opaque)
    }

    fn remove(&mut self, path: &ImagePath, to: At<'_>, name: &[u8]) -> io::Result<()> {
        if !self.records.is_empty() {
            self.records.remove(path);
        }
        beneath::remove_tree(to.directory, name)
    }
}
