//! Archives that `ADD` unpacks: what is one, and what is in it.
//!
//! An archive is known by its content: a tar, plain or compressed with gzip, bzip2, xz or
//! Zstandard, whose first header is sound (rule A134). Its members' contents go, one after the
//! other, into a temporary file without a name, so that however many there are, they take no memory
//! and can be written to the layer in another order.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::copy::CopyError;
use crate::copy::staging::Content;
use crate::layer::{Entry, Kind, LayerError, LayerReader, Names, Node, Tree};
use crate::oci::{ImagePath, Timestamp};

/// One member. Its path is where it wants to go, clamped to the destination (rule A136).
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    pub(crate) content: Content,
}

/// Whether the regular file `path` is an archive that `ADD` unpacks.
pub(crate) fn is_archive(tree: &dyn Tree, path: &ImagePath) -> Result<bool, CopyError> {
    let reader = reader(tree.open(path)?);
    Ok(reader.is_ok_and(|mut reader| matches!(reader.next_entry(), Ok(Some(_)))))
}

/// Whether what begins so is an archive: compressed, whatever is inside, or a sound tar header.
///
/// This is how `BuildKit` tells an archive from a Dockerfile where a build context is expected.
pub fn begins_archive(beginning: &[u8]) -> bool {
    let magics: [&[u8]; 4] =
        [b"BZh", &[0x1f, 0x8b, 8], &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    if magics.iter().any(|magic| beginning.starts_with(magic)) {
        return true;
    }
    let Some(block) = beginning.get(..512) else { return false };
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let actual = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    header.cksum().ok() == Some(actual)
}

/// Reads the members of the archive `path` of a tree, in order.
pub(crate) fn read(
    tree: &dyn Tree,
    path: &ImagePath,
    spool_dir: &Path,
) -> Result<Vec<Member>, CopyError> {
    read_from(tree.open(path)?, path, spool_dir)
}

/// Reads the members of an archive, in order. `path` is its name, for errors.
pub(crate) fn read_from(
    content: Box<dyn Read + Send>,
    path: &ImagePath,
    spool_dir: &Path,
) -> Result<Vec<Member>, CopyError> {
    let spool = tempfile::tempfile_in(spool_dir).map_err(|source| CopyError::Spool { source })?;
    let mut spool = Spool { file: Arc::new(spool), end: 0, buffer: vec![0; 64 << 10] };
    let damaged = |source| CopyError::Archive { path: path.clone(), source };
    let mut reader = reader(content).map_err(damaged)?;
    let mut members = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(damaged)? {
        let content = match entry.kind {
            Kind::File { .. } => spool.keep(&mut reader, path)?,
            _ => Content::None,
        };
        members.push(Member { entry, content });
    }
    Ok(members)
}

impl Member {
    /// The metadata of what the member becomes.
    pub(crate) fn node(&self, kind: Kind) -> Node {
        let Entry { mode, uid, gid, mtime, .. } = self.entry;
        Node {
            // A link has no permissions of its own; the kernel shows these.
            mode: if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { mode },
            kind,
            uid,
            gid,
            // As in BuildKit, nothing is older than the epoch.
            mtime: mtime.max(Timestamp::EPOCH),
            xattrs: self.entry.xattrs.clone(),
            inode: None,
        }
    }
}

/// A reader of what may be an archive. Its compression shows in its first bytes.
fn reader(
    mut content: Box<dyn Read + Send>,
) -> Result<LayerReader<Box<dyn Read + Send>>, LayerError> {
    let mut magic = Vec::new();
    let first = content.by_ref().take(6).read_to_end(&mut magic);
    first.map_err(|source| LayerError::Source { source })?;
    let whole = io::Cursor::new(magic.clone()).chain(content);
    match magic.as_slice() {
        [b'B', b'Z', b'h', ..] => {
            LayerReader::new(bzip2::read::MultiBzDecoder::new(whole), Names::Plain)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            LayerReader::new(liblzma::read::XzDecoder::new_multi_decoder(whole), Names::Plain)
        }
        _ => LayerReader::new(whole, Names::Plain),
    }
}

/// A temporary file that holds contents one after the other.
struct Spool {
    file: Arc<File>,
    end: u64,
    buffer: Vec<u8>,
}

impl Spool {
    /// Keeps the content of the current member of the archive `path`.
    fn keep(&mut self, member: &mut impl Read, path: &ImagePath) -> Result<Content, CopyError> {
        let offset = self.end;
        loop {
            let count = match member.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let source = LayerError::Source { source };
                    return Err(CopyError::Archive { path: path.clone(), source });
                }
            };
            (&*self.file)
                .write_all(&self.buffer[..count])
                .map_err(|source| CopyError::Spool { source })?;
            self.end += count as u64;
        }
        Ok(Content::Spool { file: Arc::clone(&self.file), offset, size: self.end - offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;

    #[test]
    fn a134_archives_are_known_by_their_content() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "f", &b"x\n"[..]).expect("a Vec takes all");
        let tar = builder.into_inner().expect("a Vec takes all");
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("a Vec takes all");
            encoder.finish().expect("a Vec takes all")
        };
        let bzip2 = |bytes: &[u8]| {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).expect("a Vec takes all");
            encoder.finish().expect("a Vec takes all")
        };
        let xz = liblzma::encode_all(&tar[..], 1).expect("a Vec takes all");
        let check = |what: &str, bytes: &[u8], expected| {
            let tree = MemoryTree::new().bytes("/a", bytes);
            assert_eq!(is_archive(&tree, &ImagePath::new("/a")).expect("read"), expected, "{what}");
        };
        check("plain", &tar, true);
        check("gzip", &gzip(&tar), true);
        check("bzip2", &bzip2(&tar), true);
        check("xz", &xz, true);
        check("zstd", &zstd::encode_all(&tar[..], 1).expect("a Vec takes all"), true);
        check("text", b"just text\n", false);
        check("compressed text", &gzip(b"just text\n"), false);
        check("empty", b"", false);
        check("zeros", &[0; 10240], false);
        check("damaged", &gzip(&tar)[..20], false);
        check("damaged header", &[b"x", &tar[1..]].concat(), false);

        for bytes in [&tar, &gzip(&tar), &bzip2(&tar), &xz] {
            assert!(begins_archive(bytes));
        }
        for bytes in [&b"FROM busybox\n"[..], b"", &[0; 1024], &tar[..100]] {
            assert!(!begins_archive(bytes), "{bytes:?}");
        }
    }
}
