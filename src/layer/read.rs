//! `LayerReader`: the entries of a tar archive, one after another.
//!
//! Ustar, PAX (with global headers) and GNU archives are understood, sparse files included. What
//! the archive says of itself is bounded: names, links and PAX records together have at most 1 MiB
//! an entry. Names are made absolute and clean; `..` cannot leave the root.
//!
//! This module only reads. Whether an entry may be made, and where, `layer::apply` decides.
//!
//! Spec: <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use crate::layer::decompress::decompress;
use crate::layer::pax::{self, Records};
use crate::layer::sparse::{self, Map};
use crate::layer::whiteout;
use crate::layer::{Entry, Kind, LayerError};
use crate::oci::{ImagePath, Timestamp};

const BLOCK: usize = 512;

/// No kernel takes a longer one.
pub(crate) const LONGEST_PATH: usize = 4096;

/// The most that names, links, PAX records and sparse maps of one entry may take.
const MAX_EXTENSION: u64 = 1 << 20;

/// The most that the records may take which hold for all entries that follow.
const MAX_GLOBAL: usize = 16 << 10;

/// Where the numbers of a header stand.
type Field = std::ops::Range<usize>;
const MODE: Field = 100..108;
const UID: Field = 108..116;
const GID: Field = 116..124;
const SIZE: Field = 124..136;
const MTIME: Field = 136..148;
const MAJOR: Field = 329..337;
const MINOR: Field = 337..345;

/// What names beginning with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// In a layer they are whiteouts.
    Layer,
    /// In any other archive they are names.
    Plain,
}

/// Reads the entries of one archive. After [`next_entry`](Self::next_entry), reading from it yields
/// the content of that entry.
pub struct LayerReader<R: Read> {
    source: R,
    names: Names,
    /// Bytes of the archive read so far.
    position: u64,
    /// Where the current entry begins, with the headers that extend it.
    start: u64,
    /// Bytes of the current entry that are still in the archive, and their padding.
    stored: u64,
    padding: u64,
    content: Map,
    global: Records,
}

impl<'a> LayerReader<Box<dyn Read + Send + 'a>> {
    /// Reads an archive; gzip and zstd are recognised by their first bytes.
    ///
    /// # Errors
    ///
    /// [`LayerError::Source`].
    pub fn new(source: impl Read + Send + 'a, names: Names) -> Result<Self, LayerError> {
        let source = decompress(source).map_err(|source| LayerError::Source { source })?;
        Ok(Self::uncompressed(source, names))
    }
}

impl<R: Read> LayerReader<R> {
    /// Reads an archive that is not compressed.
    pub fn uncompressed(source: R, names: Names) -> Self {
        let (global, content) = (Records::new(), Map::default());
        Self { source, names, position: 0, start: 0, stored: 0, padding: 0, content, global }
    }

    /// Says that the source begins at this place of the archive, where an entry begins.
    pub(crate) fn at(self, position: u64) -> Self {
        Self { position, start: position, ..self }
    }

    /// The next entry; what is left of the one before it is skipped. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`LayerError::Malformed`], [`LayerError::Source`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        loop {
            let rest = self.stored + self.padding;
            self.skip(rest)?;
            (self.stored, self.padding, self.content) = (0, 0, Map::default());
            self.start = self.position;
            let Some(raw) = self.raw_entry()? else { return Ok(None) };
            if let Some(entry) = self.interpret(&raw)? {
                return Ok(Some(entry));
            }
        }
    }

    /// Where in the uncompressed archive the current entry begins, with all its headers.
    pub(crate) fn entry_start(&self) -> u64 {
        self.start
    }

    /// Gives the source back, positioned behind what was read.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// One header with all that was written before it to extend it.
    fn raw_entry(&mut self) -> Result<Option<Raw>, LayerError> {
        let mut records = self.global.clone();
        let mut extension = 0;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type().as_byte();
            if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
                let position = self.position;
                return Ok(Some(Raw { header, records, position }));
            }
            let size = header.entry_size().map_err(|_| self.malformed("a size is no number"))?;
            extension = size.saturating_add(extension);
            if extension > MAX_EXTENSION {
                return Err(self.malformed("a name or PAX header has more than 1 MiB"));
            }
            let mut content = vec![0; usize::try_from(size).expect("1 MiB at most")];
            self.fill(&mut content)?;
            self.skip(padding(size))?;
            match kind {
                b'L' => drop(records.insert(b"path".to_vec(), until_nul(&content).to_vec())),
                b'K' => drop(records.insert(b"linkpath".to_vec(), until_nul(&content).to_vec())),
                _ => {
                    let into = if kind == b'g' { &mut self.global } else { &mut records };
                    let decoded = pax::decode(&content, into);
                    decoded.ok_or_else(|| self.malformed("a PAX record is malformed"))?;
                }
            }
            if kind == b'g' {
                let size = self.global.iter().map(|(key, value)| key.len() + value.len());
                if size.sum::<usize>() > MAX_GLOBAL {
                    return Err(self.malformed("global PAX records have more than 16 KiB"));
                }
                let local = std::mem::replace(&mut records, self.global.clone());
                records.extend(local);
            }
        }
    }

    /// The next header block; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut header = tar::Header::new_old();
        let mut length = 0;
        while length < BLOCK {
            let count = read(&mut self.source, &mut header.as_mut_bytes()[length..])?;
            if count == 0 {
                break;
            }
            length += count;
        }
        self.position += length as u64;
        // Some writers forget the two empty blocks at the end.
        if length == 0 || (length == BLOCK && header.as_bytes().iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        if length < BLOCK {
            return Err(self.malformed("the archive ends within a header"));
        }
        let bytes = header.as_bytes();
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let actual = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        if header.cksum().ok() != Some(actual) {
            return Err(self.malformed("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// What the entry is; `None` if it is nothing that a file system could hold.
    fn interpret(&mut self, raw: &Raw) -> Result<Option<Entry>, LayerError> {
        let kind = raw.header.entry_type().as_byte();
        let size = raw.size().ok_or_else(|| self.malformed("a size is no number"))?;
        // Only files have content. Other entries sometimes state a size all the same.
        let stored = if matches!(kind, b'1'..=b'6') { 0 } else { size };
        self.stored = stored;
        self.padding = padding(stored);
        let bad = |problem| LayerError::Malformed { position: raw.position, problem };
        let mut name = raw.name();
        if let Some((path, map)) = self.sparse_map(raw)? {
            name = path.unwrap_or(name);
            self.content = map;
        } else {
            self.content = Map::whole(stored);
        }
        if name.contains(&0) {
            return Err(bad("a name holds a zero byte"));
        }
        if name.len() > LONGEST_PATH {
            return Err(bad("a name has more than 4096 bytes"));
        }
        let mut path = ImagePath::new(&name);
        let kind = match kind {
            _ if name.is_empty() => return Err(bad("an entry has no name")),
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File { size: self.content.size() },
            b'1' => Kind::Hardlink { target: ImagePath::new(raw.link()) },
            b'2' => Kind::Symlink { target: raw.link() },
            b'3' | b'4' => raw.device().ok_or_else(|| bad("a device number is malformed"))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            // Volume labels, directory listings of incremental backups and the like.
            _ => return Ok(None),
        };
        let kind = match self.names {
            Names::Plain => kind,
            Names::Layer => match whiteout::interpret(&mut path) {
                Err(whiteout::Skipped) => return Ok(None),
                Ok(marker) => marker.unwrap_or(kind),
            },
        };
        if matches!(&kind, Kind::Symlink { target } if target.is_empty() || target.contains(&0)) {
            return Err(bad("a symbolic link leads nowhere"));
        }
        raw.entry(path, kind).map(Some).ok_or_else(|| bad("a field of a header is no number"))
    }

    /// The name and the map of a sparse file, in whichever of GNU tar's four ways.
    fn sparse_map(&mut self, raw: &Raw) -> Result<Option<Sparse>, LayerError> {
        let bad = |problem| LayerError::Malformed { position: raw.position, problem };
        if raw.header.entry_type().as_byte() == b'S' {
            let mut map = sparse::Builder::new(self.stored);
            let mut more = map.old_gnu(&raw.header).ok_or_else(|| bad("a sparse map is broken"))?;
            while more {
                let mut block = [0; BLOCK];
                self.fill(&mut block)?;
                more = map.extension(&block).ok_or_else(|| bad("a sparse map is broken"))?;
            }
            return map
                .finish()
                .map(|map| Some((None, map)))
                .ok_or_else(|| bad("a sparse map is broken"));
        }
        let text = |key: &str| raw.records.get(key.as_bytes());
        let size = text("GNU.sparse.realsize").or_else(|| text("GNU.sparse.size"));
        let Some(size) = size else { return Ok(None) };
        let size = pax::number(size).ok_or_else(|| bad("a sparse map is broken"))?;
        let map = match text("GNU.sparse.map") {
            Some(map) => sparse::Builder::from_list(map, size, self.stored),
            None if text("GNU.sparse.major").is_some_and(|major| major == b"1") => {
                self.map_in_content(size)?
            }
            None => None,
        };
        let map = map.and_then(sparse::Builder::finish);
        let map = map.ok_or_else(|| bad("a sparse map is broken"))?;
        Ok(Some((text("GNU.sparse.name").cloned(), map)))
    }

    /// PAX sparse format 1.0: the map is text at the beginning of the content.
    fn map_in_content(&mut self, size: u64) -> Result<Option<sparse::Builder>, LayerError> {
        let mut text = Vec::new();
        loop {
            if self.stored < BLOCK as u64 || text.len() as u64 >= MAX_EXTENSION {
                return Ok(None);
            }
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            self.stored -= BLOCK as u64;
            text.extend_from_slice(&block);
            if let Some(list) = sparse::complete_list(&text) {
                return Ok(sparse::Builder::from_list(&list, size, self.stored));
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), LayerError> {
        let mut length = 0;
        while length < buffer.len() {
            match read(&mut self.source, &mut buffer[length..])? {
                0 => return Err(self.malformed("the archive ends within an entry")),
                count => length += count,
            }
        }
        self.position += length as u64;
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        let mut buffer = [0; 8192];
        while count > 0 {
            let length = usize::try_from(count).map_or(buffer.len(), |n| n.min(buffer.len()));
            self.fill(&mut buffer[..length])?;
            count -= length as u64;
        }
        Ok(())
    }

    fn malformed(&self, problem: &'static str) -> LayerError {
        LayerError::Malformed { position: self.position, problem }
    }
}

/// Content that may know of zeros without producing them.
pub(crate) trait Content: Read {
    /// Passes over the zeros that come next, and tells how many there were.
    fn skip_hole(&mut self) -> u64 {
        0
    }
}

impl<R: Read> Content for LayerReader<R> {
    fn skip_hole(&mut self) -> u64 {
        self.content.skip_hole()
    }
}

impl Content for Box<dyn Read + Send> {}

impl<R: Read> Read for LayerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (zeros, length) = self.content.next(buffer.len());
        if zeros {
            buffer[..length].fill(0);
            return Ok(length);
        }
        if length == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..length])?;
        if count == 0 {
            let text = "the archive ends within a file";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.content.advance(count as u64);
        self.position += count as u64;
        self.stored -= count as u64;
        Ok(count)
    }
}

fn read(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LayerError> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|source| LayerError::Source { source }),
        }
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name of a sparse file, where it is not the header's, and its map.
type Sparse = (Option<Vec<u8>>, Map);

/// A header, and the PAX records that override it.
struct Raw {
    header: tar::Header,
    records: Records,
    position: u64,
}

impl Raw {
    fn name(&self) -> Vec<u8> {
        let own = || self.header.path_bytes().into_owned();
        self.records.get(&b"path"[..]).cloned().unwrap_or_else(own)
    }

    fn link(&self) -> Vec<u8> {
        let own =
            || self.header.link_name_bytes().map_or_else(Vec::new, std::borrow::Cow::into_owned);
        self.records.get(&b"linkpath"[..]).cloned().unwrap_or_else(own)
    }

    /// A number from a PAX record, else from the header's `field`.
    fn number<N: TryFrom<i64> + std::str::FromStr>(&self, key: &str, field: Field) -> Option<N> {
        match self.records.get(key.as_bytes()) {
            Some(text) => pax::number(text),
            None => N::try_from(self.field(field)?).ok(),
        }
    }

    /// A numeric field: octal digits, or a binary number where they have no room.
    fn field(&self, field: Field) -> Option<i64> {
        let bytes = &self.header.as_bytes()[field];
        if bytes[0] & 0x80 != 0 {
            let first = i128::from((bytes[0] << 1).cast_signed() >> 1);
            let value = bytes[1..].iter().try_fold(first, |value, byte| {
                value.checked_mul(256).map(|value| value | i128::from(*byte))
            });
            return i64::try_from(value?).ok();
        }
        let text = std::str::from_utf8(until_nul(bytes)).ok()?.trim_matches(' ');
        // Writers leave fields blank that they think nobody needs.
        if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
    }

    fn size(&self) -> Option<u64> {
        // Sizes near 2^64 would overflow when they are padded.
        self.number("size", SIZE).filter(|size| *size < 1 << 62)
    }

    fn device(&self) -> Option<Kind> {
        let major = u32::try_from(self.field(MAJOR)?).ok()?;
        let minor = u32::try_from(self.field(MINOR)?).ok()?;
        Some(if self.header.entry_type().as_byte() == b'3' {
            Kind::CharDevice { major, minor }
        } else {
            Kind::BlockDevice { major, minor }
        })
    }

    fn mtime(&self) -> Option<Timestamp> {
        match self.records.get(&b"mtime"[..]) {
            Some(text) => pax::decode_time(text),
            None => self.field(MTIME).map(Timestamp::from_seconds),
        }
    }

    fn entry(&self, path: ImagePath, kind: Kind) -> Option<Entry> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in &self.records {
            if let Some(name) = key.strip_prefix(pax::XATTR) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        Some(Entry {
            path,
            kind,
            mode: u32::try_from(self.field(MODE)? & 0o7777).ok()?,
            uid: self.number("uid", UID)?,
            gid: self.number("gid", GID)?,
            mtime: self.mtime()?,
            xattrs,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::layer::testing::{archive, directory, entry, file, symlink};
    use crate::oci::Digest;

    /// Entries with the digests of their contents.
    fn read_all(bytes: &[u8], names: Names) -> Result<Vec<(Entry, Digest)>, LayerError> {
        let mut reader = LayerReader::new(bytes, names)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            let read = reader.read_to_end(&mut content);
            read.map_err(|source| LayerError::Source { source })?;
            entries.push((entry, Digest::of(content)));
        }
        Ok(entries)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut odd = entry([&b"/\xff"[..], &[b'n'; 300]].concat(), Kind::File { size: 2 });
        odd.uid = u32::MAX;
        odd.mtime = Timestamp { seconds: -5, nanoseconds: 1 };
        odd.xattrs.insert(b"security.capability".to_vec(), b"\0\n=\xff".to_vec());
        odd.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        let entries = [
            directory("/"),
            (odd, "xy"),
            symlink("/l", &"t".repeat(200)),
            (entry("/d", Kind::BlockDevice { major: 4095, minor: 0xf_ffff }), ""),
            (entry("/gone", Kind::Whiteout), ""),
            (entry("/", Kind::OpaqueWhiteout), ""),
            (entry("/h", Kind::Hardlink { target: ImagePath::new("/l") }), ""),
        ];
        let read = read_all(&archive(&entries).0, Names::Layer).expect("our own archive");
        let expected: Vec<_> =
            entries.into_iter().map(|(entry, content)| (entry, Digest::of(content))).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn sparse_files_of_gnu_tar_are_filled_with_zeros() {
        let directory = tempfile::tempdir().expect("writable");
        let mut content = vec![0; 3_000_000];
        // More pieces than fit into a header, so that there is an extension block.
        for piece in 0..30 {
            content[piece * 100_000] = b'x';
        }
        let sparse = File::create(directory.path().join("f"), &content);
        for format in ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"] {
            let output = Command::new("tar")
                .args(["-cS", "-C"])
                .arg(directory.path())
                .args(format!("--format={format}").split(' '))
                .arg("f")
                .output()
                .expect("tar is installed");
            assert!(output.stdout.len() < 1_000_000, "{format} is sparse");
            let read = read_all(&output.stdout, Names::Layer).expect("valid");
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].0.path, ImagePath::new("/f"), "{format}");
            assert_eq!(read[0].0.kind, Kind::File { size: 3_000_000 }, "{format}");
            assert_eq!(read[0].1, sparse, "{format}");
        }
    }

    /// A file with holes.
    struct File;

    impl File {
        fn create(path: std::path::PathBuf, content: &[u8]) -> Digest {
            use std::os::unix::fs::FileExt as _;
            let file = fs::File::create(path).expect("writable");
            file.set_len(content.len() as u64).expect("writable");
            for (offset, byte) in content.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                file.write_all_at(&[*byte], offset as u64).expect("writable");
            }
            Digest::of(content)
        }
    }

    #[test]
    fn gnu_long_names_and_global_pax_headers_are_understood() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut global = tar::Header::new_ustar();
        let content = b"19 mtime=1234567.5\n";
        global.set_entry_type(tar::EntryType::XGlobalHeader);
        global.set_size(content.len() as u64);
        global.set_cksum();
        builder.append(&global, &content[..]).expect("a Vec takes all");
        let name = "long/".repeat(50);
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        for number in ["1", "2"] {
            let path = format!("{name}{number}");
            builder.append_data(&mut header, path, &b"x"[..]).expect("a Vec takes all");
        }
        let bytes = builder.into_inner().expect("a Vec takes all");
        let read = read_all(&bytes, Names::Layer).expect("valid");
        let late = Timestamp { seconds: 1_234_567, nanoseconds: 500_000_000 };
        for ((entry, _), number) in read.iter().zip(["1", "2"]) {
            assert_eq!(entry.path, ImagePath::new(format!("{name}{number}")));
            assert_eq!(entry.mtime, late);
        }
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_name_that_no_kernel_takes_is_refused() {
        let read = |names: usize| {
            let (bytes, _) = archive(&[file(&"/a".repeat(names), "")]);
            read_all(&bytes, Names::Layer)
        };
        assert_eq!(read(2048).expect("long enough").len(), 1);
        let error = read(2050).expect_err("too long");
        assert!(error.to_string().contains("more than 4096 bytes"), "{error}");
    }

    #[test]
    fn reserved_names_are_names_in_plain_archives() {
        let (bytes, _) = archive(&[(entry("/d/x", Kind::Whiteout), ""), file("/f", "")]);
        let paths = |names| {
            let read = read_all(&bytes, names).expect("valid");
            read.into_iter().map(|(entry, _)| entry.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(Names::Plain), ["/d/.wh.x", "/f"]);
        assert_eq!(paths(Names::Layer), ["/d/x", "/f"]);
    }
}
