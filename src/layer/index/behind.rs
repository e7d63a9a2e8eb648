//! The index that coracle puts behind the archive of a large layer, for those who come to ask what is
//! in the layer, and would have to download all of it.
//!
//! It stands after the last byte that the archive needs, in members of gzip without data, cut into
//! extra fields of their headers: decompressors skip those. So the layer is what it would be without,
//! and has the same diff ID. It does not say where in the archive a file begins: whoever wants the
//! content of a file gets the layer, and with it an index that nobody can have made up. An annotation
//! of the layer says where the members are, and their digest:
//!
//! ```text
//! dev.coracle.layer.index: OFFSET:LENGTH:sha256:…
//! ```
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc1952>, section 2.3.1.1.

use std::sync::Arc;

use crate::layer::Entry;
use crate::layer::index::table::{Form, ROOM, TableOfContents};
use crate::layer::index::{Member, NOWHERE, codec, is_kept};
use crate::oci::{Descriptor, Digest, Timestamp};

/// The annotation of a layer.
const ANNOTATION: &str = "dev.coracle.layer.index";

/// Who asks what is in a smaller layer may as well have it.
const WORTH_IT: u64 = 1 << 20;

/// The layer is so many times as large at least: whoever downloads it pays for the index.
const MOST_OF_IT: u64 = 32;

/// The most memory that the entries of a layer may take here; those of some 200,000 files do.
const MOST_MEMORY: usize = 8 << 20;

/// The header of a member with an extra field, up to its length.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];

/// What our part of the extra field begins with, before its length.
const NAME: [u8; 2] = *b"ci";

/// Data of no bytes: a last block without any, their checksum, and how many there are.
const NO_DATA: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How much one member holds. `BusyBox` reads headers of up to 16 KiB.
const PIECE: usize = 8 << 10;

/// Makes the index of a layer while it is written.
#[derive(Debug)]
pub(in crate::layer) struct Recorder {
    /// `None` when there are too many files.
    entries: Option<codec::Encoder>,
}

impl Recorder {
    pub(in crate::layer) fn new() -> Self {
        Self { entries: Some(codec::Encoder::default()) }
    }

    /// Whether [`add`](Self::add) wants the content of this entry.
    pub(in crate::layer) fn wants_content(&self, entry: &Entry) -> bool {
        self.entries.is_some() && is_kept(entry)
    }

    /// The next entry.
    pub(in crate::layer) fn add(
        &mut self,
        entry: &Entry,
        clamp: Option<Timestamp>,
        content: Option<&[u8]>,
    ) {
        let Some(entries) = &mut self.entries else { return };
        let entry = Entry { mtime: entry.mtime.clamped(clamp), ..entry.clone() };
        entries.push(&Member { entry, start: NOWHERE, content: content.map(Arc::from) });
        if entries.size() > MOST_MEMORY {
            self.entries = None;
        }
    }

    /// What is to be written behind a layer of `length` bytes; `None` if it is not worth it.
    pub(in crate::layer) fn finish(self, length: u64) -> Option<(TableOfContents, Vec<u8>)> {
        let entries = self.entries.filter(|_| length >= WORTH_IT)?;
        let bytes = members(&entries.finish().ok()?);
        if bytes.len() as u64 > length / MOST_OF_IT {
            return None;
        }
        let digest = Digest::of(&bytes);
        let (offset, length) = (length, bytes.len() as u64);
        Some((TableOfContents { offset, length, digest, form: Form::Behind }, bytes))
    }
}

impl TableOfContents {
    /// Adds the annotation to the layer.
    pub(crate) fn announce(&self, layer: &mut Descriptor) {
        let Self { offset, length, digest, form: _ } = self;
        layer.annotations.insert(ANNOTATION.to_owned(), format!("{offset}:{length}:{digest}"));
    }
}

/// Where the annotation says that the index is.
pub(super) fn announced(layer: &Descriptor) -> Option<TableOfContents> {
    let mut fields = layer.annotations.get(ANNOTATION)?.splitn(3, ':');
    let mut number = || fields.next()?.parse().ok();
    let (offset, length) = (number()?, number()?);
    let digest = fields.next()?.parse().ok()?;
    Some(TableOfContents { offset, length, digest, form: Form::Behind })
}

/// The entries that the index names.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Member>> {
    let mut file = Vec::new();
    while !bytes.is_empty() {
        let fields = bytes.strip_prefix(&HEAD)?;
        let (field, rest) = cut(fields)?;
        let (content, nothing) = cut(field.strip_prefix(&NAME)?)?;
        if !nothing.is_empty() {
            return None;
        }
        file.extend_from_slice(content);
        bytes = rest.strip_prefix(&NO_DATA)?;
    }
    let mut members = codec::decode(&file, ROOM)?;
    // Whatever it says: contents are not read by it.
    for member in &mut members {
        member.start = NOWHERE;
    }
    Some(members)
}

/// What has its length before it, and the rest.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// Members of gzip that hold `file` and no data.
fn members(file: &[u8]) -> Vec<u8> {
    let member = |piece: &[u8]| {
        let with_length = |name: &[u8], content: &[u8]| {
            let length = u16::try_from(content.len()).expect("pieces are small");
            [name, &length.to_le_bytes(), content].concat()
        };
        let field = with_length(&NAME, piece);
        [&with_length(&HEAD, &field)[..], &NO_DATA].concat()
    };
    file.chunks(PIECE).flat_map(member).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;
    use crate::layer::testing::{directory, entry, file, hard_link, opaque, symlink, whiteout};
    use crate::layer::{Kind, LayerIndex, LayerWriter};
    use crate::oci::{Compression, MediaType};

    /// A layer that is written with an index, if it is worth one.
    fn layer(entries: &[(Entry, Vec<u8>)], clamp: Option<Timestamp>) -> (Descriptor, Vec<u8>) {
        let mut writer = LayerWriter::new(Vec::new(), Compression::Gzip, clamp).indexed();
        for (entry, content) in entries {
            writer.append(entry, Some(&mut &content[..])).expect("a valid entry");
        }
        let written = writer.finish().expect("a Vec takes all");
        let (media_type, bytes) = (MediaType::OciLayer(Compression::Gzip), written.sink);
        let mut descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        if let Some(table) = &written.index {
            table.announce(&mut descriptor);
        }
        // Whoever has the blob finds nothing but the archive in it.
        let mut archive = Vec::new();
        let mut gzip = flate2::read::MultiGzDecoder::new(&bytes[..]);
        gzip.read_to_end(&mut archive).expect("valid gzip");
        assert_eq!(Digest::of(&archive), written.diff_id.0);
        assert_eq!(archive.len() as u64, written.uncompressed);
        let table = written.index.as_ref().map(|it| it.read(&bytes[at(it)..]).expect("readable"));
        let mut all = LayerIndex::read(Cursor::new(bytes.clone()), written.diff_id).expect("valid");
        for member in &mut all.members {
            member.start = NOWHERE;
        }
        assert!(table.is_none_or(|table| table == all), "the table says what the archive says");
        (descriptor, bytes)
    }

    fn at(table: &TableOfContents) -> usize {
        usize::try_from(table.offset).expect("small")
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    fn large(path: &str) -> (Entry, Vec<u8>) {
        let size = 2 * WORTH_IT;
        (entry(path, Kind::File { size }), noise(usize::try_from(size).expect("small")))
    }

    fn owned((entry, content): (Entry, &str)) -> (Entry, Vec<u8>) {
        (entry, content.as_bytes().to_vec())
    }

    #[test]
    fn a_large_layer_has_its_index_behind_it() {
        let mut odd = entry(format!("/{}", "n".repeat(200)), Kind::Directory);
        odd.xattrs.insert(b"user.x".to_vec(), b"\0y".to_vec());
        odd.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        odd.mtime = Timestamp { seconds: 2_000_000_000, nanoseconds: 5 };
        let mut old = entry("/old", Kind::Fifo);
        old.mtime = Timestamp { seconds: -7, nanoseconds: 999_999_999 };
        let entries = [
            owned(directory("/etc")),
            owned(file("/etc/passwd", "root:x:0:0::/:/bin/sh\n")),
            large("/large"),
            (odd, Vec::new()),
            (old, Vec::new()),
            owned(symlink("/link", "etc")),
            owned(hard_link("/hard", "/large")),
            owned(whiteout("/etc/gone")),
            owned(opaque("/etc")),
            (entry("/null", Kind::CharDevice { major: 1, minor: 3 }), Vec::new()),
            owned(directory("/")),
        ];
        for clamp in [None, Some(Timestamp::from_seconds(9))] {
            let (descriptor, bytes) = layer(&entries, clamp);
            let table = TableOfContents::of(&descriptor).expect("it is announced");
            assert_eq!(table.offset + table.length, bytes.len() as u64);
            assert!(table.length < 1000, "{}", table.length);
            let index = table.read(&bytes[at(&table)..]).expect("it is the table");
            assert!(!index.has_places());
            assert_eq!(index.members[1].content.as_deref(), Some(&entries[1].1[..]));
        }
    }

    #[test]
    fn small_layers_and_those_of_many_small_files_have_none() {
        let (descriptor, _) = layer(&[owned(file("/f", "small"))], None);
        assert!(descriptor.annotations.is_empty());
        let name = |number: u32| format!("/{}", Digest::of(number.to_string()).hex());
        let many: Vec<_> = (0..25_000).map(|it| owned(file(&name(it), "a"))).collect();
        let (descriptor, bytes) = layer(&many, None);
        assert!(bytes.len() as u64 > WORTH_IT, "{}", bytes.len());
        assert!(descriptor.annotations.is_empty());
        let mut recorder = Recorder::new();
        let mut long = entry("/f", Kind::Fifo);
        long.xattrs.insert(b"user.x".to_vec(), noise(MOST_MEMORY));
        recorder.add(&long, None, None);
        assert!(recorder.finish(u64::MAX).is_none(), "memory is bounded");
    }

    #[test]
    fn what_takes_several_members_is_read_back_and_damage_is_noticed() {
        let members_of = |count: u32| {
            let mut encoder = codec::Encoder::default();
            for number in 0..count {
                let name = Digest::of(number.to_string()).hex();
                let entry = entry(format!("/{name}"), Kind::Fifo);
                encoder.push(&Member { entry, start: NOWHERE, content: None });
            }
            members(&encoder.finish().expect("in memory"))
        };
        let bytes = members_of(5000);
        assert!(bytes.len() > 2 * PIECE, "{}", bytes.len());
        assert_eq!(read(&bytes).expect("ours").len(), 5000);
        let bytes = members_of(5);
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_none(), "cut at {at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_none(), "{at}");
        }
    }

    #[test]
    fn annotations_say_where_the_index_is() {
        let digest = Digest::of("index");
        let check = |value: &str, expected: Option<(u64, u64)>| {
            let media_type = MediaType::OciLayer(Compression::Gzip);
            let mut layer = Descriptor::new(media_type, Digest::of("layer"), 1000);
            layer
                .annotations
                .insert(ANNOTATION.to_owned(), value.replace('D', &digest.to_string()));
            let found = TableOfContents::of(&layer);
            assert_eq!(found.map(|it| (it.offset, it.length)), expected, "{value}");
        };
        check("900:100:D", Some((900, 100)));
        check("901:100:D", None);
        check("900:0:D", None);
        check("18446744073709551615:1:D", None);
        check("-1:1:D", None);
        check("1:D", None);
        check("1:2:", None);
        check("1:2:sha256:x", None);
    }
}
