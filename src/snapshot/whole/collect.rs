//! What a command changed in its tree, as the upper directory that overlayfs would have filled.
//!
//! A file is changed if its change time is not before the moment at which the command could begin: a
//! command can set the modification time and the size back, but not that. A directory that was not
//! there at that moment under this name is a new one, whatever is in it. What is gone is found
//! by looking at the parent's names, and only in directories that were changed.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Statx, statx};

use crate::layer::{OverlayFormat, Tree as _, marks};
use crate::oci::ImagePath;
use crate::snapshot::SnapshotError;
use crate::snapshot::View;
use crate::snapshot::whole::clock::Moment;
use crate::snapshot::whole::duplicate::{At, Duplicator, modified};
use crate::snapshot::whole::manifest::{ASKED, Reader};
use crate::sys::beneath;

/// Where changes are looked for, and where they go.
pub(super) struct Collecting<'a> {
    /// The tree.
    pub(super) tree: BorrowedFd<'a>,
    /// An upper directory that holds nothing yet.
    pub(super) upper: BorrowedFd<'a>,
    /// The layers from which the tree was made.
    pub(super) below: &'a View,
    /// What is changed has this change time or a later one.
    pub(super) since: Moment,
    /// The directories that there were then.
    pub(super) known: Reader,
    pub(super) format: OverlayFormat,
    pub(super) duplicator: &'a Duplicator,
}

/// Fills the upper directory. Gives the names under which a file of the tree is found a second time.
pub(super) fn collect(collecting: Collecting<'_>) -> Result<Vec<ImagePath>, SnapshotError> {
    let root = ImagePath::root();
    let mut collector = Collector {
        is_there: vec![(root.clone(), false)],
        links: HashMap::new(),
        more_names: Vec::new(),
        it: collecting,
    };
    let stat = statx(collector.it.tree, "", AtFlags::EMPTY_PATH, ASKED)
        .map_err(SnapshotError::tree("look at", &root))?;
    collector.it.known.knows(&root, &stat).map_err(SnapshotError::tree("look for", &root))?;
    collector.directory(&root, &stat, false)?;
    Ok(collector.more_names)
}

struct Collector<'a> {
    it: Collecting<'a>,
    /// The directories on the way to here, and whether the upper directory has them.
    is_there: Vec<(ImagePath, bool)>,
    /// The first name of each changed file that has several.
    links: HashMap<u64, ImagePath>,
    more_names: Vec<ImagePath>,
}

impl Collector<'_> {
    /// Handles a directory, which is the last on the way to here. What is in a new one is all new.
    fn directory(
        &mut self,
        path: &ImagePath,
        stat: &Statx,
        is_new: bool,
    ) -> Result<(), SnapshotError> {
        let is_changed = is_new || self.is_changed(stat);
        let below = self.names(path, is_changed, is_new)?;
        if is_changed {
            self.bring(is_new)?;
        }
        for (name, stat) in below {
            let child = path.join(&name);
            let is_new = is_new || {
                let known = self.it.known.knows(&child, &stat);
                !known.map_err(SnapshotError::tree("look for", &child))?
            };
            self.is_there.push((child.clone(), false));
            self.directory(&child, &stat, is_new)?;
            self.is_there.pop();
        }
        if self.is_there.last().is_some_and(|(_, is_there)| *is_there) {
            self.set_time(path).map_err(SnapshotError::tree("set the time of", path))?;
        }
        Ok(())
    }

    /// Handles what is in a directory, but for other directories, which it gives.
    fn names(
        &mut self,
        path: &ImagePath,
        is_changed: bool,
        is_new: bool,
    ) -> Result<Vec<(Vec<u8>, Statx)>, SnapshotError> {
        let directory = beneath::open_directory(self.it.tree, path.relative())
            .map_err(SnapshotError::tree("open", path))?;
        let names = beneath::read_names(&directory).map_err(SnapshotError::tree("list", path))?;
        if is_changed && !is_new {
            self.hide(path, &names)?;
        }
        let mut below = Vec::new();
        for name in names {
            let failed = |action| {
                let child = path.join(&name);
                move |source: io::Error| SnapshotError::Tree { action, path: child, source }
            };
            let stat = statx(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW, ASKED);
            let stat = stat.map_err(|errno| failed("look at")(errno.into()))?;
            if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory {
                below.push((name, stat));
            } else if is_new || self.is_changed(&stat) {
                self.bring(is_new)?;
                let taken = self.file(&directory, path, &name, &stat);
                taken.map_err(failed("keep"))?;
            }
        }
        Ok(below)
    }

    fn is_changed(&self, stat: &Statx) -> bool {
        Moment::of_change(stat) >= self.it.since
    }

    /// Hides names that the layers below have and the tree has no more.
    fn hide(&mut self, path: &ImagePath, names: &[Vec<u8>]) -> Result<(), SnapshotError> {
        let before = match self.it.below.lookup(path) {
            Ok(Some(_)) => self.it.below.read_dir(path),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        let before = before.map_err(|source| SnapshotError::Merge { source })?;
        let gone: Vec<Vec<u8>> =
            before.into_iter().filter(|name| names.binary_search(name).is_err()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.bring(false)?;
        let failed = || SnapshotError::tree::<io::Error>("hide what was in", path);
        let upper = beneath::open_directory(self.it.upper, path.relative()).map_err(failed())?;
        for name in gone {
            marks::hide(&upper, &name, self.it.format).map_err(failed())?;
        }
        Ok(())
    }

    /// Copies a changed file, or links it to the copy that its first name has.
    fn file(
        &mut self,
        directory: &OwnedFd,
        path: &ImagePath,
        name: &[u8],
        stat: &Statx,
    ) -> io::Result<()> {
        let upper = beneath::open_directory(self.it.upper, path.relative())?;
        let (from, to) = (At::new(directory, name), At::new(&upper, name));
        if stat.stx_nlink > 1 {
            let child = path.join(name);
            if let Some(first) = self.links.get(&stat.stx_ino) {
                self.more_names.push(child);
                let (root, no_follow) = (self.it.upper, AtFlags::empty());
                let first = first.relative();
                return Ok(rustix::fs::linkat(root, first, to.directory, to.name, no_follow)?);
            }
            self.links.insert(stat.stx_ino, child);
        }
        self.it.duplicator.file(from, &from.stat()?, to)
    }

    /// Makes the directories on the way to here that the upper directory lacks. The last is a new
    /// one, or shows what the layers below have in it.
    fn bring(&mut self, is_new: bool) -> Result<(), SnapshotError> {
        let last = self.is_there.len() - 1;
        for index in 0..=last {
            let (path, is_there) = &self.is_there[index];
            if *is_there {
                continue;
            }
            // A new directory is brought when it is come to, so those above the last are not new.
            self.make(path, is_new && index == last).map_err(SnapshotError::tree("keep", path))?;
            self.is_there[index].1 = true;
        }
        Ok(())
    }

    fn make(&self, path: &ImagePath, is_new: bool) -> io::Result<()> {
        let from = beneath::open_directory(self.it.tree, path.relative())?;
        if !path.is_root() {
            rustix::fs::mkdirat(self.it.upper, path.relative(), Mode::RWXU)?;
        }
        let to = beneath::open_directory(self.it.upper, path.relative())?;
        let stat = rustix::fs::statat(&from, Path::new(""), AtFlags::EMPTY_PATH)?;
        self.it.duplicator.metadata(&from, &stat, &to)?;
        if is_new { marks::make_opaque(&to, self.it.format) } else { Ok(()) }
    }

    fn set_time(&self, path: &ImagePath) -> io::Result<()> {
        let from = beneath::open_directory(self.it.tree, path.relative())?;
        let stat = rustix::fs::statat(from, "", AtFlags::EMPTY_PATH)?;
        let to = beneath::open_directory(self.it.upper, path.relative())?;
        Ok(rustix::fs::futimens(to.as_fd(), &modified(&stat))?)
    }
}
