//! Tables of contents: indexes that layers have in their own blobs, beside their archives.
//!
//! The manifest says where in the blob one is, and what digest it has: so it can be had without the
//! rest of the layer, and whoever trusts the manifest can trust it. There are two forms: `chunked`,
//! and `behind`, which coracle makes.

use crate::layer::index::{LayerIndex, Member, behind, chunked, is_kept};
use crate::layer::read::LONGEST_PATH;
use crate::layer::{Kind, whiteout};
use crate::oci::{Descriptor, Digest};

/// The most that a table may take as it is in the blob; that of a hundred thousand files does not.
pub(super) const LIMIT: u64 = 64 << 20;

/// About how much memory the index may take that comes out of one.
pub(super) const ROOM: usize = 128 << 20;

/// Where a layer has its table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOfContents {
    /// Where it begins in the blob.
    pub offset: u64,
    /// How many bytes it has there.
    pub length: u64,
    /// Their digest.
    pub digest: Digest,
    pub(super) form: Form,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chunked,
    Behind,
}

impl TableOfContents {
    /// Reads the annotations; `None` if the layer has no such table, or one that is too large.
    pub fn of(layer: &Descriptor) -> Option<Self> {
        let fits = |table: &Self| {
            let end = table.offset.checked_add(table.length);
            table.length > 0 && table.length <= LIMIT && end.is_some_and(|end| end <= layer.size)
        };
        behind::announced(layer).filter(fits).or_else(|| chunked::announced(layer).filter(fits))
    }

    /// The index that the table makes; `None` if `bytes` are not the table, or no table at all.
    pub fn read(&self, bytes: &[u8]) -> Option<LayerIndex> {
        if Digest::of(bytes) != self.digest {
            return None;
        }
        let members = match self.form {
            Form::Chunked => chunked::read(bytes),
            Form::Behind => behind::read(bytes),
        }?;
        members.iter().all(is_possible).then_some(LayerIndex { members })
    }
}

/// Whether an archive could say this, as a `LayerReader` reads it.
fn is_possible(member: &Member) -> bool {
    let Member { entry, content, start: _ } = member;
    let is_path = |bytes: &[u8]| !bytes.contains(&0) && bytes.len() <= LONGEST_PATH;
    let leads_somewhere = match &entry.kind {
        Kind::Symlink { target } => !target.is_empty() && is_path(target),
        Kind::Hardlink { target } => is_path(target.as_bytes()),
        Kind::Socket => false,
        _ => true,
    };
    let holds_that = content.as_ref().is_none_or(|content| {
        let is_all = entry.kind == Kind::File { size: content.len() as u64 };
        is_all && is_kept(entry)
    });
    let is_named = is_path(entry.path.as_bytes()) && !whiteout::is_reserved(&entry.path);
    let is_number = entry.mode <= 0o7777 && entry.mtime.nanoseconds < 1_000_000_000;
    is_named && leads_somewhere && holds_that && is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, MediaType};

    #[test]
    fn what_no_archive_could_say_is_not_believed() {
        use crate::layer::testing::{entry, file, symlink};
        let check = |expected, entry, content: Option<&[u8]>| {
            let member = Member { entry, start: 0, content: content.map(std::sync::Arc::from) };
            assert_eq!(is_possible(&member), expected, "{member:?}");
        };
        let passwd = || entry("/etc/passwd", Kind::File { size: 4 });
        check(true, passwd(), Some(b"root"));
        check(false, passwd(), Some(b"roots"));
        check(false, entry("/bin/sh", Kind::File { size: 4 }), Some(b"root"));
        check(true, file("/f", "x").0, None);
        check(false, entry(b"/a\0b", Kind::Fifo), None);
        check(false, entry("/.wh.a", Kind::Fifo), None);
        check(false, entry("/s", Kind::Socket), None);
        check(true, symlink("/l", "x").0, None);
        check(false, symlink("/l", "").0, None);
        check(false, symlink("/l", "a\0b").0, None);
        check(false, entry(format!("/{}", "a/".repeat(3000)), Kind::Fifo), None);
        let mut odd = passwd();
        odd.mode = 0o10_000;
        check(false, odd, None);
        let mut odd = passwd();
        odd.mtime.nanoseconds = 1_000_000_000;
        check(false, odd, None);
    }

    #[test]
    fn bytes_that_are_not_the_table_are_not_read() {
        let contents = TableOfContents {
            offset: 0,
            length: 5,
            digest: Digest::of("another"),
            form: Form::Behind,
        };
        assert_eq!(contents.read(b"bytes"), None);
        let layer = Descriptor::new(MediaType::OciLayer(Compression::Zstd), Digest::of(""), 0);
        assert_eq!(TableOfContents::of(&layer), None);
    }
}
