//! How the owner, mode and kind of a file are kept where the file system cannot hold them.
//!
//! With one user ID nobody can `chown`, with a range of them nobody can give a file to others, and in
//! a user namespace nobody can make a device. What the image says is then written beside the file: in
//! the extended attribute `user.coracle.stat`, as `uid:gid:mode` (mode in octal), with `:major.minor`
//! for a device, whose mode has its type bits, and with `:=uid.gid` where another owner that is real
//! stands in for the one that cannot be.
//! It dies with the file, and survives renames and overlayfs's copies. Symbolic links and pipes
//! cannot carry it; theirs are in a file next to the directory ([`Sidecar`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::layer::{Kind, pax};
use crate::oci::ImagePath;
use crate::sys::xattr;

/// The attribute that holds a [`Record`].
pub(crate) const STAT: &[u8] = b"user.coracle.stat";

/// Precedes the names of attributes that could not be set under their own name.
pub(crate) const HELD: &[u8] = b"user.coracle.x.";

const TYPE: u32 = 0o170_000;
const CHAR: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;

/// How owners and modes are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As real owners and modes: for root, or a user with a range of IDs. Owners outside of the range
    /// are in records.
    Real,
    /// In records: for a user with one ID. Without a record a file belongs to root, and its real
    /// mode is its mode.
    Recorded,
}

/// Whose attributes say that a directory hides what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayFormat {
    /// `user.overlay.*`, for overlays mounted with `userxattr` in a user namespace.
    User,
    /// `trusted.overlay.*`, for overlays that root mounts.
    Trusted,
}

impl OverlayFormat {
    /// The attribute that makes a directory opaque, with the value `y`.
    pub(crate) fn opaque(self) -> &'static [u8] {
        match self {
            Self::User => b"user.overlay.opaque",
            Self::Trusted => b"trusted.overlay.opaque",
        }
    }

    /// The attribute that makes an empty file a whiteout, where devices cannot be made.
    pub(crate) fn whiteout(self) -> &'static [u8] {
        match self {
            Self::User => b"user.overlay.whiteout",
            Self::Trusted => b"trusted.overlay.whiteout",
        }
    }
}

/// Whether an attribute belongs to overlayfs or to coracle, and is none of the image.
pub(crate) fn is_internal(name: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay.", b"user.coracle."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Who owns on disk what belongs to somebody for whom there is no ID: nobody, as the kernel would
/// show it; or root, where the range is so short that nobody is outside of it too.
pub(crate) const STAND_INS: [u32; 2] = [65_534, 0];

/// What the image says of a file, as far as its file system does not say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// With type bits for a device, else without.
    pub(crate) mode: u32,
    pub(crate) device: Option<(u32, u32)>,
    /// Who owned the file on disk when this was recorded, where that is to be somebody else than now
    /// if a command has changed the owner since.
    pub(crate) stand_in: Option<(u32, u32)>,
}

impl Record {
    /// The record of a file with these properties.
    pub(crate) fn new(kind: &Kind, mode: u32, uid: u32, gid: u32) -> Self {
        let (kind, device) = match *kind {
            Kind::CharDevice { major, minor } => (CHAR, Some((major, minor))),
            Kind::BlockDevice { major, minor } => (BLOCK, Some((major, minor))),
            _ => (0, None),
        };
        Self { uid, gid, mode: kind | mode, device, stand_in: None }
    }

    /// The value of the attribute.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { uid, gid, mode, device, stand_in } = self;
        let mut text = format!("{uid}:{gid}:{mode:o}");
        if let Some((major, minor)) = device {
            text.extend([":", &major.to_string(), ".", &minor.to_string()]);
        }
        if let Some((uid, gid)) = stand_in {
            text.extend([":=", &uid.to_string(), ".", &gid.to_string()]);
        }
        text.into_bytes()
    }

    /// Reads the value of the attribute; `None` if it is not one of ours.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.split(|byte| *byte == b':');
        let (uid, gid) = (pax::number(parts.next()?)?, pax::number(parts.next()?)?);
        let mode = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 8).ok()?;
        let (mut device, mut stand_in) = (None, None);
        for part in parts {
            match part.strip_prefix(b"=") {
                Some(owner) => stand_in = Some(pair(owner)?),
                None => device = Some(pair(part)?),
            }
        }
        Some(Self { uid, gid, mode, device, stand_in })
    }

    /// The device that the file stands for.
    pub(crate) fn device(&self) -> Option<Kind> {
        let (major, minor) = self.device?;
        match self.mode & TYPE {
            CHAR => Some(Kind::CharDevice { major, minor }),
            BLOCK => Some(Kind::BlockDevice { major, minor }),
            _ => None,
        }
    }

    /// The owner, given the real one where owners are real: a command that changed it meant to.
    pub(crate) fn owner(&self, real: (u32, u32)) -> (u32, u32) {
        if self.stand_in == Some(real) { (self.uid, self.gid) } else { real }
    }

    /// The mode, given the real one: a command that changed the real mode meant to.
    pub(crate) fn mode(&self, kind: &Kind, real: u32) -> u32 {
        let recorded = self.mode & 0o7777;
        if real_mode(kind, recorded) == real { recorded } else { real }
    }
}

/// `number.number`
fn pair(text: &[u8]) -> Option<(u32, u32)> {
    let dot = text.iter().position(|byte| *byte == b'.')?;
    Some((pax::number(&text[..dot])?, pax::number(&text[dot + 1..])?))
}

/// The mode that a file of the image has on disk where modes are recorded.
///
/// The one user that there is must be able to read everything. A setuid file would give *that
/// user's* rights to all users of the machine who can reach the store.
pub(crate) fn real_mode(kind: &Kind, mode: u32) -> u32 {
    match kind {
        Kind::Directory => mode | 0o700,
        Kind::File { .. } => mode & 0o777 | 0o600,
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => 0o600,
        _ => mode,
    }
}

/// Makes a directory have this mode and owner, as far as owners are recorded.
///
/// # Errors
///
/// What the kernel says: the file system may have no extended attributes.
pub fn record_directory(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    let real = real_mode(&Kind::Directory, mode);
    fs::set_permissions(path, fs::Permissions::from_mode(real))?;
    let record = Record::new(&Kind::Directory, mode, uid, gid);
    xattr::set_of(File::open(path)?, STAT, &record.encode())
}

/// Records of files that cannot carry them, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sidecar(BTreeMap<ImagePath, Record>);

impl Sidecar {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, path: &ImagePath) -> Option<Record> {
        self.0.get(path).copied()
    }

    /// All records, by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Record)> {
        self.0.iter()
    }

    pub(crate) fn insert(&mut self, path: ImagePath, record: Record) {
        self.0.insert(path, record);
    }

    /// Forgets `path` and what is below it.
    pub(crate) fn remove(&mut self, path: &ImagePath) {
        self.0.retain(|other, _| !other.starts_with(path));
    }

    /// Keeps the records of those paths that `is_kept` says yes to.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&ImagePath) -> bool) {
        self.0.retain(|path, _| is_kept(path));
    }

    /// The content of the file: each record and its path, each ended by a zero byte.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, record) in &self.0 {
            bytes.extend(record.encode());
            bytes.push(0);
            bytes.extend_from_slice(path.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads the file; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut records = BTreeMap::new();
        let mut parts = bytes.split(|byte| *byte == 0);
        while let Some(record) = parts.next().filter(|part| !part.is_empty()) {
            records.insert(ImagePath::new(parts.next()?), Record::decode(record)?);
        }
        Some(Self(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_text() {
        let check = |text: &str, kind: Option<Kind>| {
            let record = Record::decode(text.as_bytes()).expect("a record");
            assert_eq!(String::from_utf8_lossy(&record.encode()), text);
            assert_eq!(record.device(), kind);
        };
        check("0:0:644", None);
        check("1000:4294967295:4755", None);
        check("0:6:60660:8.1", Some(Kind::BlockDevice { major: 8, minor: 1 }));
        check("0:0:20666:1.3", Some(Kind::CharDevice { major: 1, minor: 3 }));
        check("70000:5:644:=65534.5", None);
        for text in ["", "0", "0:0", "0:0:8", "a:0:0", "0:0:0:1", "-1:0:0", "0:0:0:=1"] {
            assert_eq!(Record::decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_mode_that_was_changed_since_wins_over_the_record() {
        let file = Kind::File { size: 0 };
        let check = |recorded, real, expected| {
            let record = Record { uid: 0, gid: 0, mode: recorded, device: None, stand_in: None };
            assert_eq!(record.mode(&file, real), expected);
        };
        check(0o4755, 0o755, 0o4755);
        check(0o4755, 0o700, 0o700);
        check(0o000, 0o600, 0o000);
        check(0o000, 0o644, 0o644);
    }

    #[test]
    fn an_owner_that_was_changed_since_wins_over_the_record() {
        let record = Record::decode(b"70000:70001:644:=65534.5").expect("a record");
        assert_eq!(record.owner((65_534, 5)), (70_000, 70_001));
        assert_eq!(record.owner((65_534, 6)), (65_534, 6));
        let device = Record::decode(b"5:6:20666:1.3").expect("a record");
        assert_eq!(device.owner((7, 8)), (7, 8));
    }

    #[test]
    fn the_sidecar_survives_its_file() {
        let mut sidecar = Sidecar::default();
        let record = Record { uid: 1, gid: 2, mode: 0o777, device: None, stand_in: None };
        sidecar.insert(ImagePath::new("/a\nb"), record);
        sidecar.insert(ImagePath::new("/c"), record);
        assert_eq!(Sidecar::decode(&sidecar.encode()).as_ref(), Some(&sidecar));
        sidecar.remove(&ImagePath::new("/c"));
        assert_eq!(sidecar.get(&ImagePath::new("/c")), None);
        assert_eq!(Sidecar::decode(b"x\0/a\0"), None);
    }
}
