//! An index as a file: small, quick to read, and recognised when it is damaged.
//!
//! ```text
//! coracle index 1\n       which format this is
//! <32 bytes>              SHA-256 of what follows
//! <zstd>                  the entries, one after another
//! ```
//!
//! An entry has the path (how much it shares with the one before, and the rest), the kind, mode,
//! owner, time, attributes, where it begins, and perhaps its content. Numbers are written seven bits
//! a byte, the lowest first; strings with their length before them.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    sync::Arc,
};

use crate::layer::index::{Member, Members, XATTR_SIZE};
use crate::layer::{Entry, Kind};
use crate::oci::{Digest, ImagePath, Timestamp};

/// What the file begins with. A change of the format changes the number.
const MAGIC: &[u8] = b"coracle index 1\n";

/// Where the compressed part begins.
const HEAD: usize = MAGIC.len() + 32;

const LEVEL: i32 = 3;

/// No such file refers back by more than this power of two.
const WINDOW_LOG: u32 = 24;

/// About how much memory the attributes of one file may take: of an archive's, the text has at most
/// 1 MiB.
const XATTRS: usize = 8 << 20;

const FILE: u64 = 0;
const DIRECTORY: u64 = 1;
const SYMLINK: u64 = 2;
const HARDLINK: u64 = 3;
const CHAR_DEVICE: u64 = 4;
const BLOCK_DEVICE: u64 = 5;
const FIFO: u64 = 6;
const WHITEOUT: u64 = 7;
const OPAQUE: u64 = 8;
const SOCKET: u64 = 9;

pub(super) fn encode(members: &[Member]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::default();
    for member in members {
        encoder.push(member);
    }
    encoder.finish()
}

/// Makes the file entry by entry.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    unpacked: Writer,
    last: Vec<u8>,
}

impl Encoder {
    pub(super) fn push(&mut self, member: &Member) {
        let path = member.entry.path.as_bytes();
        let shared = path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        self.unpacked.number(shared as u64);
        self.unpacked.bytes(&path[shared..]);
        self.unpacked.member(member);
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
    }

    /// How many bytes the entries take so far, before they are compressed.
    pub(super) fn size(&self) -> usize {
        self.unpacked.0.len()
    }

    /// The file.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        let packed = zstd::encode_all(&self.unpacked.0[..], LEVEL)?;
        Ok([MAGIC, &raw(&packed), &packed].concat())
    }
}

/// The members in a file, if they take no more than about `limit` bytes of memory.
pub(super) fn decode(bytes: &[u8], limit: usize) -> Option<Vec<Member>> {
    let (head, packed) = bytes.split_at_checked(HEAD)?;
    let digest = head.strip_prefix(MAGIC)?;
    if digest != raw(packed) {
        return None;
    }
    let mut unpacked = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(packed).ok()?;
    decoder.window_log_max(WINDOW_LOG).ok()?;
    decoder.take(limit as u64 + 1).read_to_end(&mut unpacked).ok()?;
    if unpacked.len() > limit {
        return None;
    }
    let mut input = Reader(&unpacked);
    let mut members = Members::within(limit);
    while !input.0.is_empty() {
        let shared = input.size()?;
        let last = members.all.last().map_or(&b""[..], |member| member.entry.path.as_bytes());
        let path = [last.get(..shared)?, input.bytes()?].concat();
        members.push(input.member(ImagePath::new(path))?)?;
    }
    Some(members.all)
}

/// The digest of `bytes` as it is.
fn raw(bytes: &[u8]) -> Vec<u8> {
    let hex = Digest::of(bytes).hex();
    let pairs = hex.as_bytes().chunks_exact(2);
    let digit = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
    pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn member(&mut self, member: &Member) {
        let Entry { path: _, kind, mode, uid, gid, mtime, xattrs } = &member.entry;
        self.kind(kind);
        for number in [mode, uid, gid] {
            self.number(u64::from(*number));
        }
        // Small negative numbers become small positive ones.
        self.number(((mtime.seconds << 1) ^ (mtime.seconds >> 63)).cast_unsigned());
        self.number(u64::from(mtime.nanoseconds));
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
        self.number(member.start);
        self.number(u64::from(member.content.is_some()));
        if let Some(content) = &member.content {
            self.bytes(content);
        }
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::File { size } => {
                self.number(FILE);
                self.number(*size);
            }
            Kind::Symlink { target } => {
                self.number(SYMLINK);
                self.bytes(target);
            }
            Kind::Hardlink { target } => {
                self.number(HARDLINK);
                self.bytes(target.as_bytes());
            }
            Kind::CharDevice { major, minor } => self.device(CHAR_DEVICE, *major, *minor),
            Kind::BlockDevice { major, minor } => self.device(BLOCK_DEVICE, *major, *minor),
            Kind::Directory => self.number(DIRECTORY),
            Kind::Fifo => self.number(FIFO),
            Kind::Socket => self.number(SOCKET),
            Kind::Whiteout => self.number(WHITEOUT),
            Kind::OpaqueWhiteout => self.number(OPAQUE),
        }
    }

    fn device(&mut self, kind: u64, major: u32, minor: u32) {
        self.number(kind);
        self.number(u64::from(major));
        self.number(u64::from(minor));
    }
}

/// What is left to be read. Methods give `None` where it makes no sense.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn member(&mut self, path: ImagePath) -> Option<Member> {
        let kind = self.kind()?;
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let seconds = self.number()?;
        let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        let mtime = Timestamp { seconds, nanoseconds: self.small()? };
        let (mut xattrs, mut room) = (BTreeMap::new(), XATTRS);
        for _ in 0..self.size()? {
            let (name, value) = (self.bytes()?, self.bytes()?);
            room = room.checked_sub(name.len() + value.len() + XATTR_SIZE)?;
            xattrs.insert(name.to_vec(), value.to_vec());
        }
        let entry = Entry { path, kind, mode, uid, gid, mtime, xattrs };
        let start = self.number()?;
        let content = match self.number()? {
            0 => None,
            _ => Some(Arc::from(self.bytes()?)),
        };
        Some(Member { entry, start, content })
    }

    fn kind(&mut self) -> Option<Kind> {
        Some(match self.number()? {
            FILE => Kind::File { size: self.number()? },
            DIRECTORY => Kind::Directory,
            SYMLINK => Kind::Symlink { target: self.bytes()?.to_vec() },
            HARDLINK => Kind::Hardlink { target: ImagePath::new(self.bytes()?) },
            CHAR_DEVICE => Kind::CharDevice { major: self.small()?, minor: self.small()? },
            BLOCK_DEVICE => Kind::BlockDevice { major: self.small()?, minor: self.small()? },
            FIFO => Kind::Fifo,
            SOCKET => Kind::Socket,
            WHITEOUT => Kind::Whiteout,
            OPAQUE => Kind::OpaqueWhiteout,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::index::LIMIT;
    use crate::layer::testing::{directory, entry, file, hard_link, opaque, symlink, whiteout};

    fn members() -> Vec<Member> {
        let mut odd = entry([&b"/d/\xff"[..], &[b'n'; 300]].concat(), Kind::File { size: 1 << 40 });
        odd.uid = u32::MAX;
        odd.mode = 0o7777;
        odd.mtime = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
        odd.xattrs.insert(b"security.capability".to_vec(), b"\0\n=\xff".to_vec());
        odd.xattrs.insert(b"user.empty".to_vec(), Vec::new());
        let entries = [
            directory("/").0,
            directory("/d").0,
            odd,
            symlink("/d/l", "../x").0,
            hard_link("/d/h", "/d/l").0,
            entry("/dev", Kind::BlockDevice { major: 4095, minor: 0xf_ffff }),
            entry("/null", Kind::CharDevice { major: 1, minor: 3 }),
            entry("/pipe", Kind::Fifo),
            whiteout("/gone").0,
            opaque("/d").0,
            file("/d/passwd", "").0,
        ];
        let member = |(number, entry): (usize, Entry)| {
            let is_kept = entry.path.name() == Some(b"passwd");
            let content = is_kept.then(|| Arc::from(&b"root"[..]));
            Member { entry, start: number as u64 * 1_000_000, content }
        };
        entries.into_iter().enumerate().map(member).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for members in [Vec::new(), members()] {
            let bytes = encode(&members).expect("in memory");
            assert_eq!(decode(&bytes, LIMIT).expect("ours"), members);
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let bytes = encode(&members()).expect("in memory");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], LIMIT).is_none(), "{length}");
        }
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert!(decode(&damaged, LIMIT).is_none(), "{index}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_even_with_the_right_digest() {
        let nonsense: [&[u8]; 5] =
            [&[5], &[0, 1, b'/', 99], &[0, 200, 1, b'/'], &[0xff; 12], &[0, 1, b'/', 1, 0]];
        for unpacked in nonsense {
            let packed = zstd::encode_all(unpacked, LEVEL).expect("in memory");
            let bytes = [MAGIC, &raw(&packed), &packed].concat();
            assert!(decode(&bytes, LIMIT).is_none(), "{unpacked:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_read_does_harm(changes: Vec<(u16, u8)>, more: Vec<u8>) {
            let mut encoder = Encoder::default();
            for member in &members() {
                encoder.push(member);
            }
            let mut unpacked = [encoder.unpacked.0, more].concat();
            for (at, value) in changes {
                let at = usize::from(at) % unpacked.len();
                unpacked[at] = value;
            }
            let packed = zstd::encode_all(&unpacked[..], LEVEL).expect("in memory");
            drop(decode(&[MAGIC, &raw(&packed), &packed].concat(), LIMIT));
        }
    }

    #[test]
    fn what_takes_too_much_memory_is_refused() {
        let long = entry([&b"/"[..], &[b'n'; 10_000]].concat(), Kind::Fifo);
        let member = Member { entry: long, start: 0, content: None };
        // Each path but the first is one byte here, and ten thousand there.
        let bytes = encode(&vec![member; 100_000]).expect("in memory");
        assert!(bytes.len() < 2000, "{}", bytes.len());
        assert!(decode(&bytes, 64 << 20).is_none());
        // One file with a million attributes.
        let mut output = Writer::default();
        for number in [0, 1, u64::from(b'/'), FIFO, 0, 0, 0, 0, 0, 1_000_000] {
            output.number(number);
        }
        for number in 0..1_000_000_u32 {
            output.bytes(&number.to_le_bytes());
            output.bytes(b"");
        }
        let packed = zstd::encode_all(&output.0[..], LEVEL).expect("in memory");
        assert!(decode(&[MAGIC, &raw(&packed), &packed].concat(), LIMIT).is_none());
        let packed = zstd::encode_all(&*vec![0; 1 << 20], LEVEL).expect("in memory");
        let bytes = [MAGIC, &raw(&packed), &packed].concat();
        assert!(decode(&bytes, 1 << 16).is_none());
    }
}
