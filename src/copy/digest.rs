//! The digest of what a step would copy: the part of its cache key that comes from files.
//!
//! | | in the digest? |
//! |---|---|
//! | names below a matched directory, kinds, contents, link targets, device numbers | yes |
//! | the name of a match | yes, a copy may be called by it |
//! | which names are hard links of one file | yes |
//! | permission bits, extended attributes | yes, but not of a matched directory: it gives its content alone (rule A117) |
//! | owners | yes, but not from a build context, where all are 0 |
//! | times | no: a fresh checkout has new ones |
//! | what is excluded or ignored | no |
//! | what remote sources hold | no: it has digests of its own |
//!
//! Everything is written with its length before it, so that no two lists look alike.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::copy::source::{Match, select};
use crate::copy::walk::{Filter, Listed, Role, walk};
use crate::copy::{CopyError, excludes};
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::{Digest, Digester, ImagePath};
use crate::plan::{CopyFrom, CopyStep, Source};

/// The first bytes of what is hashed; to be changed with the format.
const FORMAT: &str = "coracle copy 1";

pub(crate) fn digest(step: &CopyStep, tree: &dyn Tree) -> Result<Digest, CopyError> {
    let exclude = excludes(step)?;
    let with_owners = !matches!(step.from, CopyFrom::Context | CopyFrom::NamedContext(_));
    let mut record = Record { digester: Digester::new(), with_owners };
    record.bytes(FORMAT.as_bytes());
    for source in &step.sources {
        match source {
            Source::Inline { name, text } => {
                record.bytes(b"inline");
                record.bytes(name.as_bytes());
                record.bytes(text.as_bytes());
            }
            // Whoever fetches it knows what it is without reading it again.
            Source::Remote(_) => record.bytes(b"remote"),
            Source::Path(text) => {
                record.bytes(b"path");
                let selection = select(step, tree, text)?;
                let filter = Filter { include: selection.include.as_ref(), exclude: &exclude };
                record.number(selection.matches.len() as u64);
                for found in &selection.matches {
                    let list = walk(tree, found, filter)?;
                    record.list(found, &list, &contents(tree, &list)?);
                }
            }
        }
    }
    Ok(record.digester.finish())
}

struct Record {
    digester: Digester,
    with_owners: bool,
}

impl Record {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.digester.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.digester.update(number.to_be_bytes());
    }

    fn list(&mut self, found: &Match, list: &[Listed], contents: &[Option<Digest>]) {
        self.bytes(found.path.name().unwrap_or_default());
        self.number(list.len() as u64);
        let mut first_names: BTreeMap<(u64, u64), &ImagePath> = BTreeMap::new();
        for (listed, content) in list.iter().zip(contents) {
            self.bytes(listed.relative.as_bytes());
            self.kind(&listed.node.kind);
            if let Some(inode) = listed.node.inode {
                let first = *first_names.entry(inode).or_insert(&listed.relative);
                self.bytes(first.as_bytes());
            } else {
                self.number(0);
            }
            if listed.role != Role::Top || listed.node.kind != Kind::Directory {
                self.metadata(&listed.node);
            }
            self.bytes(content.map(|digest| digest.to_string()).unwrap_or_default().as_bytes());
        }
    }

    fn kind(&mut self, kind: &Kind) {
        let (name, value): (&str, Vec<u8>) = match kind {
            Kind::File { size } => ("file", size.to_be_bytes().to_vec()),
            Kind::Directory => ("directory", Vec::new()),
            Kind::Symlink { target } => ("symlink", target.clone()),
            Kind::CharDevice { major, minor } => ("character", device(*major, *minor)),
            Kind::BlockDevice { major, minor } => ("block", device(*major, *minor)),
            Kind::Fifo => ("fifo", Vec::new()),
            // A tree has none of the others.
            _ => ("other", Vec::new()),
        };
        self.bytes(name.as_bytes());
        self.bytes(&value);
    }

    fn metadata(&mut self, node: &Node) {
        self.number(node.mode.into());
        if self.with_owners {
            self.number(node.uid.into());
            self.number(node.gid.into());
        }
        self.number(node.xattrs.len() as u64);
        for (name, value) in &node.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

fn device(major: u32, minor: u32) -> Vec<u8> {
    [major.to_be_bytes(), minor.to_be_bytes()].concat()
}

/// Hashes the files of a list on all cores; `None` for what has no content.
fn contents(tree: &dyn Tree, list: &[Listed]) -> Result<Vec<Option<Digest>>, TreeError> {
    let is_file = |index: &usize| matches!(list[*index].node.kind, Kind::File { .. });
    let files: Vec<usize> = (0..list.len()).filter(is_file).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; list.len()]);
    let failed = Mutex::new(None);
    let work = || {
        while let Some(index) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = content(tree, &list[*index].path);
            match result {
                Ok(digest) => lock(&done)[*index] = Some(digest),
                Err(error) => {
                    // The first in the list is reported, however the threads run.
                    let mut failed = lock(&failed);
                    if failed.as_ref().is_none_or(|(earlier, _)| index < earlier) {
                        *failed = Some((*index, error));
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(files.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

fn content(tree: &dyn Tree, path: &ImagePath) -> Result<Digest, TreeError> {
    let mut digester = Digester::new();
    let mut content = tree.open(path)?;
    match io::copy(&mut content.by_ref(), &mut digester) {
        Ok(_) => Ok(digester.finish()),
        Err(source) => Err(TreeError::Read { path: path.clone(), source }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;
    use crate::copy::tests::step;
    use crate::oci::Timestamp;
    use crate::plan::StageId;

    fn tree() -> MemoryTree {
        MemoryTree::new().file("/d/a", "a").file("/d/b", "b").file("/other", "o")
    }

    fn of(tree: &MemoryTree) -> Digest {
        digest(&step(&["d"], "/x"), tree).expect("read")
    }

    #[test]
    fn what_is_copied_counts() {
        let different = [
            tree().file("/d/a", "A"),
            tree().file("/d/c", ""),
            tree().link("/d/b", "a"),
            tree().hard_link("/d/b", "/d/a"),
            tree().with("/d/a", |node| node.mode = 0o600),
            tree().with("/d/a", |node| drop(node.xattrs.insert(b"user.x".into(), b"1".into()))),
            tree().dir("/d/c", 0o755),
        ];
        let mut seen = vec![of(&tree())];
        for tree in &different {
            assert!(!seen.contains(&of(tree)), "{tree:?}");
            seen.push(of(tree));
        }
    }

    #[test]
    fn what_is_not_copied_does_not_count() {
        let same = [
            tree().with("/d/a", |node| node.mtime = Timestamp::EPOCH),
            tree().file("/other", "changed"),
            tree().with("/d", |node| node.mode = 0o700),
            tree().owner("/d/a", 7, 7),
        ];
        for tree in &same {
            assert_eq!(of(tree), of(&self::tree()), "{tree:?}");
        }
    }

    #[test]
    fn a118_owners_count_where_they_are_kept() {
        let step = CopyStep { from: CopyFrom::Stage(StageId(0)), ..step(&["d"], "/x") };
        let of = |tree: &MemoryTree| digest(&step, tree).expect("read");
        assert_ne!(of(&tree()), of(&tree().owner("/d/a", 7, 7)));
    }

    #[test]
    fn a129_excluded_files_do_not_count() {
        let step = CopyStep { excludes: vec!["b".to_owned()], ..step(&["d"], "/x") };
        let of = |tree: &MemoryTree| digest(&step, tree).expect("read");
        assert_eq!(of(&tree()), of(&tree().file("/d/b", "changed")));
        assert_ne!(of(&tree()), of(&tree().file("/d/a", "changed")));
    }
}
