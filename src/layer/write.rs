//! `LayerWriter`: entries in, a compressed tar and the digest of the uncompressed one out.
//!
//! One pass, constant memory. Equal entries in equal order give equal bytes, whatever the machine.
//! The digest of the compressed bytes is the business of the sink they are written to.

use std::{
    io::{self, Read, Write},
    num::NonZero,
    thread,
};

use crate::layer::compress::Compressor;
use crate::layer::index::Recorder;
use crate::layer::{Entry, Kind, LayerError, TableOfContents, header, whiteout};
use crate::oci::{Compression, DiffId, Digester, Timestamp};

/// How much of a file is read at a time.
const BUFFER: usize = 128 << 10;

/// Writes one layer. Entries stand in the archive in the order of the calls.
pub struct LayerWriter<W: Write + Send + 'static> {
    compressor: Compressor<Counted<W>>,
    digester: Digester,
    clamp: Option<Timestamp>,
    /// Of a layer that is to have an index.
    recorder: Option<Recorder>,
    uncompressed: u64,
    entries: u64,
    buffer: Vec<u8>,
    /// Whether an entry was left half-written.
    broken: bool,
}

/// A finished layer.
#[derive(Debug)]
pub struct Written<W> {
    /// What holds the compressed bytes.
    pub sink: W,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// How many bytes the uncompressed tar has.
    pub uncompressed: u64,
    /// How many entries were appended.
    pub entries: u64,
    /// Where the index is that was written behind the layer, if one was.
    pub index: Option<TableOfContents>,
}

impl<W: Write + Send + 'static> LayerWriter<W> {
    /// A writer that compresses on all cores. Times later than `clamp` are set to it.
    pub fn new(sink: W, compression: Compression, clamp: Option<Timestamp>) -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_threads(sink, compression, clamp, threads)
    }

    /// Like [`new`](Self::new), on `threads` threads. The bytes are the same.
    pub fn with_threads(
        sink: W,
        compression: Compression,
        clamp: Option<Timestamp>,
        threads: usize,
    ) -> Self {
        Self {
            compressor: Compressor::new(Counted { sink, count: 0 }, compression, threads),
            digester: Digester::new(),
            clamp,
            recorder: None,
            uncompressed: 0,
            entries: 0,
            buffer: Vec::new(),
            broken: false,
        }
    }

    /// The same with an index behind a large layer ([`TableOfContents`]). Only gzip has room for one.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.recorder = matches!(self.compressor, Compressor::Gzip(_)).then(Recorder::new);
        self
    }

    /// How many entries were appended so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Appends one entry. A file's `content` must have exactly the size that its entry says.
    ///
    /// # Errors
    ///
    /// [`LayerError::Changed`], [`LayerError::Content`], [`LayerError::Sink`]: the layer is then
    /// unusable. [`LayerError::ReservedName`], [`LayerError::Socket`] and [`LayerError::XattrName`]
    /// if a layer cannot hold such an entry: nothing was written.
    pub fn append(
        &mut self,
        entry: &Entry,
        content: Option<&mut dyn Read>,
    ) -> Result<(), LayerError> {
        if whiteout::is_reserved(&entry.path) {
            return Err(LayerError::ReservedName { path: entry.path.clone() });
        }
        if entry.kind == Kind::Socket {
            return Err(LayerError::Socket { path: entry.path.clone() });
        }
        let header = header::encode(entry, self.clamp)?;
        self.broken = true;
        self.put(&header)?;
        let mut nothing = io::empty();
        let content = content.unwrap_or(&mut nothing);
        let mut kept = None;
        if let Kind::File { size } = entry.kind {
            if self.recorder.as_ref().is_some_and(|recorder| recorder.wants_content(entry)) {
                let bytes = read_some(entry, size, content)?;
                self.copy(entry, size, &mut &bytes[..])?;
                kept = Some(bytes);
            } else {
                self.copy(entry, size, content)?;
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.add(entry, self.clamp, kept.as_deref());
        }
        self.entries += 1;
        self.broken = false;
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// [`LayerError::Sink`]; [`LayerError::Incomplete`] if an entry could not be written before.
    pub fn finish(mut self) -> Result<Written<W>, LayerError> {
        if self.broken {
            return Err(LayerError::Incomplete);
        }
        self.put(&[0; 2 * header::BLOCK])?;
        let sink_error = |source| LayerError::Sink { source };
        let Counted { mut sink, count } = self.compressor.finish().map_err(sink_error)?;
        let index = match self.recorder.and_then(|recorder| recorder.finish(count)) {
            Some((index, bytes)) => {
                sink.write_all(&bytes).map_err(sink_error)?;
                Some(index)
            }
            None => None,
        };
        Ok(Written {
            sink,
            diff_id: DiffId(self.digester.finish()),
            uncompressed: self.uncompressed,
            entries: self.entries,
            index,
        })
    }

    fn copy(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        let mut left = size;
        loop {
            // One byte more than is wanted, to see whether the file goes on.
            let want = usize::try_from(left.saturating_add(1)).map_or(BUFFER, |n| n.min(BUFFER));
            let count = match content.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(LayerError::Content { path: entry.path.clone(), source });
                }
                Ok(count) => count,
            };
            if count as u64 > left || (count == 0 && left > 0) {
                return Err(LayerError::Changed { path: entry.path.clone(), size });
            }
            if count == 0 {
                break;
            }
            left -= count as u64;
            self.put(&buffer[..count])?;
        }
        self.buffer = buffer;
        let padding = self.uncompressed.next_multiple_of(512) - self.uncompressed;
        self.put(&[0; header::BLOCK][..usize::try_from(padding).expect("below 512")])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.digester.update(bytes);
        self.uncompressed += bytes.len() as u64;
        self.compressor.write(bytes).map_err(|source| LayerError::Sink { source })
    }
}

/// What a small file holds, and one byte more if it holds more than `size`.
fn read_some(entry: &Entry, size: u64, content: &mut dyn Read) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    match content.take(size + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(LayerError::Content { path: entry.path.clone(), source }),
    }
}

/// Counts what is written.
struct Counted<W> {
    sink: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::layer::testing::entry;
    use crate::oci::{Digest, ImagePath};

    fn write(entries: &[(Entry, &str)], clamp: Option<Timestamp>) -> Written<Vec<u8>> {
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, clamp);
        for (entry, content) in entries {
            writer.append(entry, Some(&mut content.as_bytes())).expect("a valid entry");
        }
        writer.finish().expect("a Vec takes all")
    }

    fn gnu_tar(archive: &[u8]) -> String {
        let mut child = Command::new("tar")
            .args(["tvf", "-", "--numeric-owner", "--full-time", "--quoting-style=escape"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tar is installed");
        child.stdin.take().expect("piped").write_all(archive).expect("tar reads");
        let output = child.wait_with_output().expect("tar ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn gnu_tar_reads_what_we_write() {
        let long = format!("/{}/{}", "n".repeat(150), "m".repeat(150));
        let big = Entry { uid: 3_000_000, mode: 0o4755, ..entry("/big", Kind::File { size: 3 }) };
        let late = Timestamp { seconds: 1_000_000_000, nanoseconds: 500_000_000 };
        let written = write(
            &[
                (Entry { mode: 0o1777, ..entry("/tmp", Kind::Directory) }, ""),
                (big, "abc"),
                (entry(&long, Kind::File { size: 2 }), "xy"),
                (entry(b"/not-\xff-utf8", Kind::File { size: 0 }), ""),
                (entry("/link", Kind::Symlink { target: long.clone().into() }), ""),
                (entry("/hard", Kind::Hardlink { target: ImagePath::new("/big") }), ""),
                (Entry { mtime: late, ..entry("/pipe", Kind::Fifo) }, ""),
                (entry("/null", Kind::CharDevice { major: 1, minor: 3 }), ""),
                (entry("/d/gone", Kind::Whiteout), ""),
                (entry("/d", Kind::OpaqueWhiteout), ""),
            ],
            None,
        );
        assert_eq!(written.entries, 10);
        assert_eq!(written.diff_id, DiffId(Digest::of(&written.sink)));
        assert_eq!(written.uncompressed, written.sink.len() as u64);
        let listing = gnu_tar(&written.sink);
        let squeezed: Vec<String> =
            listing.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let long = &long[1..];
        let expected = [
            "drwxrwxrwt 0/0 0 2001-09-09 01:46:40 tmp/",
            "-rwsr-xr-x 3000000/0 3 2001-09-09 01:46:40 big",
            &format!("-rw-r--r-- 0/0 2 2001-09-09 01:46:40 {long}"),
            r"-rw-r--r-- 0/0 0 2001-09-09 01:46:40 not-\377-utf8",
            &format!("lrw-r--r-- 0/0 0 2001-09-09 01:46:40 link -> /{long}"),
            "hrw-r--r-- 0/0 0 2001-09-09 01:46:40 hard link to big",
            "prw-r--r-- 0/0 0 2001-09-09 01:46:40.5 pipe",
            "crw-r--r-- 0/0 1,3 2001-09-09 01:46:40 null",
            "-rw-r--r-- 0/0 0 2001-09-09 01:46:40 d/.wh.gone",
            "-rw-r--r-- 0/0 0 2001-09-09 01:46:40 d/.wh..wh..opq",
        ];
        assert_eq!(squeezed, expected);
    }

    #[test]
    fn times_after_the_clamp_are_set_to_it() {
        let clamp = Some(Timestamp::from_seconds(500));
        let old = Entry { mtime: Timestamp::from_seconds(1), ..entry("/old", Kind::Fifo) };
        let listing = gnu_tar(&write(&[(entry("/new", Kind::Fifo), ""), (old, "")], clamp).sink);
        assert!(listing.contains("1970-01-01 00:08:20 new"), "{listing}");
        assert!(listing.contains("1970-01-01 00:00:01 old"), "{listing}");
    }

    #[test]
    fn content_of_another_size_than_announced_is_an_error() {
        for content in ["ab", "abcd"] {
            let mut writer = LayerWriter::new(Vec::new(), Compression::Gzip, None);
            let error = writer
                .append(&entry("/f", Kind::File { size: 3 }), Some(&mut content.as_bytes()))
                .expect_err("not three bytes");
            assert_eq!(error.to_string(), "`/f` changed while it was read: it had 3 bytes before");
            assert!(matches!(writer.finish(), Err(LayerError::Incomplete)));
        }
    }

    #[test]
    fn names_that_would_be_whiteouts_are_refused() {
        let check = |path: &str| {
            let mut writer = LayerWriter::new(Vec::new(), Compression::None, None);
            let error = writer.append(&entry(path, Kind::Directory), None).expect_err(path);
            assert!(matches!(error, LayerError::ReservedName { .. }));
            writer.finish().expect("nothing was written");
        };
        check("/.wh.a");
        check("/.wh.d/a");
        check("/d/.wh..wh..opq");
    }
}
