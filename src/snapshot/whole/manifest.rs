//! Which directories a tree had before a command ran, in a file: memory does not grow with the tree.
//!
//! A directory is known by its inode number and the time at which it was made. Either alone is not
//! enough: numbers are given again, and a directory that came from elsewhere keeps its own.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};

use crate::oci::ImagePath;
use crate::snapshot::SnapshotError;
use crate::snapshot::whole::clock::Moment;
use crate::sys::beneath;

/// All that is asked of files here.
pub(super) const ASKED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// What tells one directory from another that had or has its name.
type Identity = [u8; 20];

/// The directories of a tree, on disk.
#[derive(Debug)]
pub(super) struct Manifest(File);

/// A manifest that is read alongside a walk through the tree, in the same order.
#[derive(Debug)]
pub(super) struct Reader {
    from: BufReader<File>,
    next: Option<(Vec<u8>, Identity)>,
}

impl Manifest {
    /// Walks through the tree below `root`, and remembers it in a new file at `path`.
    pub(super) fn make(root: BorrowedFd<'_>, path: &Path) -> Result<Self, SnapshotError> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(SnapshotError::io("create", path))?;
        let mut writer = BufWriter::new(&file);
        let mut waiting = vec![ImagePath::root()];
        while let Some(here) = waiting.pop() {
            let failed = SnapshotError::tree("look at", &here);
            let below = list(root, &here, &mut writer).map_err(failed)?;
            // The first is to come next.
            waiting.extend(below.into_iter().rev());
        }
        writer.flush().map_err(SnapshotError::io("write", path))?;
        drop(writer);
        Ok(Self(file))
    }

    /// Begins to read it.
    pub(super) fn read(&self) -> io::Result<Reader> {
        let mut file = self.0.try_clone()?;
        file.rewind()?;
        let mut reader = Reader { from: BufReader::new(file), next: None };
        reader.advance()?;
        Ok(reader)
    }
}

/// Writes a directory down; gives the directories in it, sorted by name.
fn list(
    root: BorrowedFd<'_>,
    path: &ImagePath,
    to: &mut impl io::Write,
) -> io::Result<Vec<ImagePath>> {
    let directory = beneath::open_directory(root, path.relative())?;
    let stat = statx(&directory, "", AtFlags::EMPTY_PATH, ASKED)?;
    let length = u32::try_from(path.as_bytes().len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_ne_bytes())?;
    to.write_all(path.as_bytes())?;
    to.write_all(&identity(&stat))?;
    let mut below = Vec::new();
    for (name, kind) in beneath::read_entries(&directory)? {
        let is_directory = match kind {
            FileType::Directory => true,
            FileType::Unknown => is_directory(directory.as_fd(), &name)?,
            _ => false,
        };
        if is_directory {
            below.push(path.join(name));
        }
    }
    Ok(below)
}

fn is_directory(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn identity(stat: &Statx) -> Identity {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&stat.stx_ino.to_ne_bytes());
    bytes[8..].copy_from_slice(&Moment::of_birth(stat).to_bytes());
    bytes
}

impl Reader {
    /// Whether the directory `path`, as `stat` tells of it, was there. Paths must come in the order
    /// of a walk.
    pub(super) fn knows(&mut self, path: &ImagePath, stat: &Statx) -> io::Result<bool> {
        loop {
            let Some((next, known)) = &self.next else { return Ok(false) };
            match in_walk(next, path.as_bytes()) {
                Ordering::Less => self.advance()?,
                Ordering::Equal => return Ok(*known == identity(stat)),
                Ordering::Greater => return Ok(false),
            }
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.next = match self.from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
            Ok(()) => {
                let mut path = vec![0; u32::from_ne_bytes(length) as usize];
                self.from.read_exact(&mut path)?;
                let mut identity = [0; 20];
                self.from.read_exact(&mut identity)?;
                Some((path, identity))
            }
        };
        Ok(())
    }
}

/// Which of two paths a walk comes to first: that of a directory before those in it, and before its
/// next neighbour.
fn in_walk(one: &[u8], other: &[u8]) -> Ordering {
    let names = |path| <[u8]>::split(path, |byte| *byte == b'/').filter(|name| !name.is_empty());
    names(one).cmp(names(other))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_walk_comes_to_what_is_in_a_directory_before_its_neighbour() {
        for pair in ["/", "/a", "/a/z", "/a-b", "/a-b/c", "/b"].windows(2).map(|it| (it[0], it[1]))
        {
            assert_eq!(in_walk(pair.0.as_bytes(), pair.1.as_bytes()), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn directories_that_came_from_elsewhere_or_were_made_anew_are_not_known() {
        let directory = tempfile::tempdir().expect("writable");
        let tree = directory.path().join("tree");
        for name in ["a/in", "a-b", "same/deep", "moved", "anew"] {
            fs::create_dir_all(tree.join(name)).expect("writable");
        }
        let root = beneath::open_root(&tree).expect("open");
        let manifest = Manifest::make(root.as_fd(), &directory.path().join("list"));
        let manifest = manifest.expect("readable");
        fs::rename(tree.join("moved"), tree.join("to")).expect("writable");
        fs::remove_dir(tree.join("anew")).expect("writable");
        fs::create_dir(tree.join("anew")).expect("writable");
        fs::remove_dir_all(tree.join("a")).expect("writable");
        let mut reader = manifest.read().expect("readable");
        let mut known = Vec::new();
        for name in ["/", "/a-b", "/anew", "/same", "/same/deep", "/to"] {
            let path = ImagePath::new(name);
            let stat = statx(&root, path.relative(), AtFlags::empty(), ASKED).expect("there");
            if reader.knows(&path, &stat).expect("readable") {
                known.push(name);
            }
        }
        assert_eq!(known, ["/", "/a-b", "/same", "/same/deep"]);
    }
}
