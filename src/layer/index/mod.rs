//! The index of a layer: everything that its archive says of files but what is in them.
//!
//! [`LayerIndex`] is made in one pass over the compressed blob, or out of the table of contents that
//! some layers have (`table`). It unpacks nothing, and is small enough to be kept for good.
//! [`LayerStack`] reads a stack of layers through their indexes as one tree (`stack`): for each layer
//! it works out in memory what unpacking would have left (`apply`), and it goes back to the blob only
//! for the content of a file (`content`).
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>.

mod apply;
mod behind;
mod chunked;
mod codec;
mod content;
mod stack;
mod table;

use std::{
    io::{self, Read},
    sync::Arc,
};

use crate::layer::decompress::ReadAhead;
use crate::layer::{Entry, Kind, LayerError, LayerReader, Names};
use crate::oci::DiffId;

pub(in crate::layer) use behind::Recorder;
pub use stack::{LayerSource, LayerStack};
pub use table::TableOfContents;

/// The most memory that the names and attributes of one layer may take. Real layers of a million
/// files stay far below.
const LIMIT: usize = 1 << 30;

/// About what an entry takes beside its names.
const ENTRY_SIZE: usize = 256;

/// About what an extended attribute takes beside its name and value.
const XATTR_SIZE: usize = 64;

/// The place of members of which only a table of contents is known ([`table`]).
const NOWHERE: u64 = u64::MAX;

/// Files of at most this size are kept in the index if a build is likely to ask for their content.
const KEPT_SIZE: u64 = 64 << 10;

/// The last names of the files that are kept: those in which users and groups are looked up.
const KEPT_NAMES: [&[u8]; 2] = [b"passwd", b"group"];

/// The entries of one layer, in order, without the contents of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerIndex {
    members: Vec<Member>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    entry: Entry,
    /// Where in the uncompressed archive it begins, with all its headers; or [`NOWHERE`].
    start: u64,
    /// What is in it, if it is a small file that is likely to be asked for.
    content: Option<Arc<[u8]>>,
}

impl LayerIndex {
    /// Reads the layer that `source` holds in any compression, to its end, and verifies its digest.
    ///
    /// # Errors
    ///
    /// [`LayerError`]: the bytes cannot be read, are no layer, or are another one; or there are too
    /// many files in it.
    pub fn read(source: impl Read + Send + 'static, expected: DiffId) -> Result<Self, LayerError> {
        let mut reader = LayerReader::uncompressed(ReadAhead::new(source), Names::Layer);
        let mut members = Members::within(LIMIT);
        while let Some(entry) = reader.next_entry()? {
            let start = reader.entry_start();
            let content = kept(&entry, &mut reader)?;
            let added = members.push(Member { entry, start, content });
            added.ok_or(LayerError::TooManyFiles { limit: LIMIT })?;
        }
        let ahead = reader.into_inner();
        let actual = ahead.finish().map_err(|source| LayerError::Source { source })?;
        if actual != expected {
            return Err(LayerError::WrongDiffId { expected, actual });
        }
        Ok(Self { members: members.all })
    }

    /// Whether it says where the contents of files are. What comes from a table of contents does not.
    pub fn has_places(&self) -> bool {
        self.members.iter().all(|member| member.start != NOWHERE)
    }

    /// The index as a file. [`decode`](Self::decode) reads it.
    ///
    /// # Errors
    ///
    /// Those of the compressor, which runs in memory.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        codec::encode(&self.members)
    }

    /// Reads a file that [`encode`](Self::encode) made. `None` if it is damaged, or was made by
    /// another version of coracle: whatever the reason, the index must be made again.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes, LIMIT).map(|members| Self { members })
    }
}

impl Member {
    /// About how much memory it takes.
    fn size(&self) -> usize {
        let target = match &self.entry.kind {
            Kind::Symlink { target } => target.len(),
            Kind::Hardlink { target } => target.as_bytes().len(),
            _ => 0,
        };
        let xattrs = self.entry.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len() + XATTR_SIZE).sum();
        let content = self.content.as_ref().map_or(0, |content| content.len());
        ENTRY_SIZE + self.entry.path.as_bytes().len() + target + xattrs + content
    }
}

/// Members, as long as there is room for them.
struct Members {
    all: Vec<Member>,
    room: usize,
}

impl Members {
    /// None, with room for about so many bytes.
    fn within(room: usize) -> Self {
        Self { all: Vec::new(), room }
    }

    /// Adds one; `None` if there is no room for it.
    fn push(&mut self, member: Member) -> Option<()> {
        self.room = self.room.checked_sub(member.size())?;
        self.all.push(member);
        Some(())
    }
}

/// Whether the content of an entry is worth keeping.
fn is_kept(entry: &Entry) -> bool {
    let is_small = matches!(entry.kind, Kind::File { size } if size <= KEPT_SIZE);
    is_small && entry.path.name().is_some_and(|name| KEPT_NAMES.contains(&name))
}

/// The content of the current entry, if it is worth keeping.
fn kept(entry: &Entry, content: &mut impl Read) -> Result<Option<Arc<[u8]>>, LayerError> {
    if !is_kept(entry) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|source| LayerError::Source { source })?;
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::testing::{archive, directory, entry, file, list, symlink, whiteout};
    use crate::layer::{EmptyTree, Tree as _, TreeError};
    use crate::oci::{Compression, Descriptor, Digest, ImagePath, Layer, MediaType};
    use std::sync::Mutex;

    type Entries = Vec<(Entry, &'static str)>;

    /// Blobs, and a list of what was asked for.
    struct Blobs {
        layers: Vec<(Layer, Vec<u8>)>,
        asked: Mutex<Vec<String>>,
    }

    impl Blobs {
        fn of(layers: &[Entries]) -> Arc<Self> {
            let blob = |entries: &Entries| {
                let (bytes, diff_id) = archive(entries);
                let media_type = MediaType::OciLayer(Compression::Gzip);
                let descriptor =
                    Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
                (Layer { descriptor, diff_id }, bytes)
            };
            Arc::new(Self { layers: layers.iter().map(blob).collect(), asked: Mutex::default() })
        }

        fn stack(self: &Arc<Self>) -> LayerStack {
            let layers: Vec<Layer> = self.layers.iter().map(|(layer, _)| layer.clone()).collect();
            LayerStack::new(Arc::new(EmptyTree), &layers, Arc::clone(self) as _)
        }

        /// What was asked for since the last time: `i` an index, `b` a blob, and of which layer.
        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().expect("no panic"))
        }

        fn get(&self, layer: &Layer, what: &str) -> Vec<u8> {
            let found = self.layers.iter().position(|(known, _)| known == layer);
            let number = found.expect("a known layer");
            self.asked.lock().expect("no panic").push(format!("{what}{number}"));
            self.layers[number].1.clone()
        }
    }

    impl LayerSource for Blobs {
        fn index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
            let bytes = io::Cursor::new(self.get(layer, "i"));
            LayerIndex::read(bytes, layer.diff_id).map(Arc::new).map_err(io::Error::other)
        }

        fn complete_index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
            self.index(layer)
        }

        fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(io::Cursor::new(self.get(layer, "b"))))
        }

        fn temporary_file(&self) -> io::Result<std::fs::File> {
            tempfile::tempfile()
        }
    }

    fn path(path: &str) -> ImagePath {
        ImagePath::new(path)
    }

    #[test]
    fn layers_are_asked_from_the_top_and_no_further_than_needed() {
        let blobs = Blobs::of(&[
            vec![directory("/etc"), file("/etc/passwd", "root"), directory("/deep/er")],
            vec![directory("/etc"), file("/etc/group", "staff"), file("/app", "x")],
            vec![directory("/srv"), whiteout("/gone"), file("/top", "t")],
        ]);
        let check = |ask: &dyn Fn(&LayerStack), expected: &[&str]| {
            let stack = blobs.stack();
            ask(&stack);
            assert_eq!(blobs.asked(), expected);
            ask(&stack);
            let again = blobs.asked();
            assert!(again.iter().all(|asked| asked.starts_with('b')), "once only: {again:?}");
        };
        let there = |at: &'static str, expected: bool| {
            move |stack: &LayerStack| {
                let found = stack.lookup(&path(at)).expect("readable");
                assert_eq!(found.is_some(), expected, "{at}");
            }
        };
        check(&there("/top", true), &["i2"]);
        check(&there("/top/x", false), &["i2"]);
        check(&there("/gone/x", false), &["i2"]);
        check(&there("/etc", true), &["i2", "i1"]);
        check(&there("/app", true), &["i2", "i1"]);
        check(&there("/etc/passwd", true), &["i2", "i1", "i0"]);
        check(&there("/nowhere", false), &["i2", "i1", "i0"]);
        let read = |at: &'static str, expected: &'static [u8]| {
            move |stack: &LayerStack| {
                let bytes = stack.read(&path(at), 100).expect("readable").expect("a file");
                assert_eq!(bytes, expected);
            }
        };
        // Users and groups are in the index.
        check(&read("/etc/group", b"staff"), &["i2", "i1"]);
        check(&read("/etc/passwd", b"root"), &["i2", "i1", "i0"]);
        check(&read("/app", b"x"), &["i2", "i1", "b1"]);
    }

    #[test]
    fn a_parent_that_is_a_link_below_leads_elsewhere() {
        let blobs = Blobs::of(&[
            vec![directory("/usr"), directory("/usr/lib"), symlink("/lib", "usr/lib")],
            vec![file("/lib/x", "new")],
        ]);
        let stack = blobs.stack();
        // The layer on top does not say that it has this file.
        let found = stack.read(&path("/usr/lib/x"), 10).expect("readable");
        assert_eq!(found.as_deref(), Some(&b"new"[..]));
        assert!(matches!(
            stack.lookup(&path("/lib")).expect("readable").expect("there").kind,
            Kind::Symlink { .. }
        ));
    }

    #[test]
    fn files_are_read_in_one_pass_in_their_order_and_in_few_in_any_order() {
        let names: Vec<String> = (0..40).map(|number| format!("/f{number:02}")).collect();
        let entries = names.iter().map(|name| file(name, name.clone().leak())).collect();
        let blobs = Blobs::of(&[entries]);
        let stack = blobs.stack();
        let read = |name: &String| {
            let bytes = stack.read(&path(name), 100).expect("readable").expect("a file");
            assert_eq!(bytes, name.as_bytes());
        };
        names.iter().for_each(read);
        assert_eq!(blobs.asked(), ["i0", "b0"]);
        names.iter().rev().for_each(read);
        names.iter().for_each(read);
        assert!(blobs.asked().len() <= 5);
        // Several at once.
        let readers = names.iter().map(|name| stack.open(&path(name)).expect("a file"));
        for (mut reader, name) in readers.collect::<Vec<_>>().into_iter().zip(&names) {
            assert_eq!(io::read_to_string(&mut reader).expect("readable"), *name);
        }
    }

    #[test]
    fn another_layer_and_a_broken_one_are_errors() {
        let (bytes, diff_id) = archive(&[file("/f", "x"), file("/g", "y")]);
        let read =
            |bytes: &[u8], diff_id| LayerIndex::read(io::Cursor::new(bytes.to_vec()), diff_id);
        read(&bytes, diff_id).expect("valid");
        let other = DiffId(Digest::of("other"));
        assert!(matches!(read(&bytes, other), Err(LayerError::WrongDiffId { .. })));
        for length in [1, 12, bytes.len() / 2, bytes.len() - 1] {
            read(&bytes[..length], diff_id).expect_err("truncated");
        }
        let mut hostile = directory("/d");
        hostile.0.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        let circle = vec![symlink("/a", "b"), symlink("/b", "a"), file("/a/x", "")];
        for entries in [vec![hostile], circle, vec![file("/f", ""), file("/f/x", "")]] {
            let error = Blobs::of(&[entries]).stack().lookup(&path("/x")).expect_err("refused");
            assert!(matches!(error, TreeError::Read { .. }));
        }
    }

    #[test]
    fn a_blob_that_does_not_fit_its_index_is_an_error() {
        let blobs = Blobs::of(&[vec![file("/f", "x"), file("/g", "y")]]);
        let stack = blobs.stack();
        stack.lookup(&path("/f")).expect("readable");
        let other = Blobs::of(&[vec![file("/f", "x"), file("/other", "y")]]);
        let mut changed = Blobs { layers: blobs.layers.clone(), asked: Mutex::default() };
        changed.layers[0].1.clone_from(&other.layers[0].1);
        let contents = Arc::new(content::Contents::default());
        let wanted = entry("/g", Kind::File { size: 1 });
        let opened = contents.open(&blobs.layers[0].0, &changed, &wanted, 1024);
        assert!(opened.is_err());
        assert_eq!(list(&stack).lines().count(), 3);
    }
}
