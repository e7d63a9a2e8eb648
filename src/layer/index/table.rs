//! Tables of contents: indexes that layers have in their own blobs, beside their archives.
//!
//! The manifest says where in the blob one is, and what digest it has: so it can be had without the
//! rest of the layer, and whoever trusts the manifest can trust it. There are two forms: `chunked`,
//! and `behind`, which coracle makes.

use crate::layer::index::{LayerIndex, behind, chunked};
use crate::oci::{Descriptor, Digest};

/// The most that a table may take, packed and unpacked: that of a hundred thousand files does not.
pub(super) const LIMIT: u64 = 64 << 20;

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
        let table = behind::announced(layer).or_else(|| chunked::announced(layer))?;
        let end = table.offset.checked_add(table.length)?;
        (table.length > 0 && table.length <= LIMIT && end <= layer.size).then_some(table)
    }

    /// The index that the table makes; `None` if `bytes` are not the table, or no table at all.
    pub fn read(&self, bytes: &[u8]) -> Option<LayerIndex> {
        if Digest::of(bytes) != self.digest {
            return None;
        }
        let members = match self.form {
            Form::Chunked => chunked::read(bytes),
            Form::Behind => behind::read(bytes),
        };
        Some(LayerIndex { members: members? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, MediaType};

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
