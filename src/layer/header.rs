//! Tar headers as coracle writes them: one form for each entry, so that layers are reproducible.
//!
//! The form is ustar. What ustar cannot hold (long or non-ASCII names, large numbers, fractions of
//! a second, extended attributes) goes into one PAX header before it, with sorted records. User and
//! group names, access and change times are never written.

use crate::layer::pax::{self, Records};
use crate::layer::{Entry, Kind, LayerError, whiteout};
use crate::oci::{ImagePath, Timestamp};

/// The size of a tar block; everything in an archive is padded to it.
pub(crate) const BLOCK: usize = 512;

/// What eleven octal digits hold.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// What seven octal digits hold.
const MAX_ID: u32 = 0o777_7777;

/// The header blocks of `entry`, PAX header included. The content is to follow.
pub(crate) fn encode(entry: &Entry, clamp: Option<Timestamp>) -> Result<Vec<u8>, LayerError> {
    let (kind, device) = type_flag(&entry.kind);
    let link = match &entry.kind {
        Kind::Symlink { target } => target.clone(),
        Kind::Hardlink { target } => relative_name(target),
        _ => Vec::new(),
    };
    let mut header = Block {
        name: archive_name(entry),
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        size: if let Kind::File { size } = entry.kind { size } else { 0 },
        mtime: 0,
        kind,
        link,
        device,
    };
    let mut records = header.take_what_does_not_fit(entry.mtime.clamped(clamp));
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(LayerError::XattrName { path: entry.path.clone(), name });
        }
        records.insert([pax::XATTR, name].concat(), value.clone());
    }
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let content = pax::encode(&records);
        let name = [b"PaxHeaders.0/", entry.path.name().unwrap_or(b".")].concat();
        let size = content.len() as u64;
        bytes.extend(Block { name, mode: 0o644, size, kind: b'x', ..Block::default() }.encode());
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend(header.encode());
    Ok(bytes)
}

fn archive_name(entry: &Entry) -> Vec<u8> {
    match entry.kind {
        Kind::Whiteout => relative_name(&whiteout::marker(&entry.path)),
        Kind::OpaqueWhiteout => relative_name(&whiteout::opaque_marker(&entry.path)),
        Kind::Directory if entry.path.is_root() => b"./".to_vec(),
        Kind::Directory => [&relative_name(&entry.path)[..], b"/"].concat(),
        _ => relative_name(&entry.path),
    }
}

fn relative_name(path: &ImagePath) -> Vec<u8> {
    path.as_bytes()[1..].to_vec()
}

fn type_flag(kind: &Kind) -> (u8, (u32, u32)) {
    match *kind {
        // The writer refuses sockets before it comes here.
        Kind::File { .. } | Kind::Whiteout | Kind::OpaqueWhiteout | Kind::Socket => (b'0', (0, 0)),
        Kind::Hardlink { .. } => (b'1', (0, 0)),
        Kind::Symlink { .. } => (b'2', (0, 0)),
        Kind::CharDevice { major, minor } => (b'3', (major, minor)),
        Kind::BlockDevice { major, minor } => (b'4', (major, minor)),
        Kind::Directory => (b'5', (0, 0)),
        Kind::Fifo => (b'6', (0, 0)),
    }
}

/// The fields of one header block.
#[derive(Default)]
struct Block {
    name: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    kind: u8,
    link: Vec<u8>,
    device: (u32, u32),
}

impl Block {
    /// Sets the time, and gives the values that have no room here as PAX records.
    fn take_what_does_not_fit(&mut self, mtime: Timestamp) -> Records {
        let mut records = Records::new();
        let mut record = |key: &str, value: Vec<u8>| records.insert(key.into(), value);
        // Names keep their beginnings, for readers that do not know PAX.
        for (key, name) in [("path", &self.name), ("linkpath", &self.link)] {
            if name.len() > 100 || !name.is_ascii() {
                record(key, name.clone());
            }
        }
        for (key, id) in [("uid", &mut self.uid), ("gid", &mut self.gid)] {
            if *id > MAX_ID {
                record(key, std::mem::take(id).to_string().into());
            }
        }
        if self.size > MAX_SIZE {
            record("size", std::mem::take(&mut self.size).to_string().into());
        }
        let seconds = u64::try_from(mtime.seconds).ok().filter(|seconds| *seconds <= MAX_SIZE);
        if mtime.nanoseconds != 0 || seconds.is_none() {
            record("mtime", pax::encode_time(mtime));
        }
        self.mtime = seconds.unwrap_or(0);
        records
    }

    fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, 0, 100, &self.name);
        octal(&mut block, 100, 7, self.mode.into());
        octal(&mut block, 108, 7, self.uid.into());
        octal(&mut block, 116, 7, self.gid.into());
        octal(&mut block, 124, 11, self.size);
        octal(&mut block, 136, 11, self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.kind;
        put(&mut block, 157, 100, &self.link);
        put(&mut block, 257, 8, b"ustar\x0000");
        octal(&mut block, 329, 7, self.device.0.into());
        octal(&mut block, 337, 7, self.device.1.into());
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block, 148, 6, sum);
        block[154] = 0;
        block
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, room: usize, bytes: &[u8]) {
    let length = bytes.len().min(room);
    block[at..at + length].copy_from_slice(&bytes[..length]);
}

fn octal(block: &mut [u8; BLOCK], at: usize, digits: usize, value: u64) {
    put(block, at, digits, format!("{value:0digits$o}").as_bytes());
}
