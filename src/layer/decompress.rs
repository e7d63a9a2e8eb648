//! Decompression of a layer: which format it is shows in its first bytes, not in its name.
//!
//! A layer is read by two threads. One decompresses and hashes, and is at most a megabyte ahead of
//! the other, which makes files.

use std::{
    io::{self, BufRead, BufReader, Read},
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::oci::{DiffId, Digester};

/// How much is handed from thread to thread at a time.
const CHUNK: usize = 128 << 10;

/// How many chunks may wait.
const CHUNKS: usize = 8;

/// Undoes gzip (any number of members), zstd or no compression.
///
/// # Errors
///
/// Whatever the source says while its first bytes are read.
pub(crate) fn decompress<'a>(
    source: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut source = BufReader::with_capacity(CHUNK, source);
    let mut magic = [0; 4];
    let mut length = 0;
    // The first read may bring fewer than four bytes; a tar archive is never that short.
    while length < magic.len() {
        let count = source.read(&mut magic[length..])?;
        if count == 0 {
            break;
        }
        length += count;
    }
    let head = io::Cursor::new(magic).take(length as u64);
    let source = BufReader::with_capacity(CHUNK, head.chain(source));
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(source)?),
        _ => Box::new(source),
    })
}

/// Reads a decompressed stream that another thread produces, and tells its digest at the end.
pub(crate) struct ReadAhead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    producer: Option<JoinHandle<DiffId>>,
}

impl ReadAhead {
    /// Starts decompressing `source`.
    pub(crate) fn new(source: impl Read + Send + 'static) -> Self {
        let (full_sender, full) = bounded(CHUNKS);
        let (empty, empty_receiver) = bounded(CHUNKS);
        let producer = std::thread::spawn(move || produce(source, &full_sender, &empty_receiver));
        Self { full, empty, chunk: Vec::new(), position: 0, producer: Some(producer) }
    }

    /// Reads what is left, and gives the digest of everything that was read.
    ///
    /// # Errors
    ///
    /// Those of the source and of the decompressor.
    pub(crate) fn finish(mut self) -> io::Result<DiffId> {
        while !self.fill_buf()?.is_empty() {
            self.position = self.chunk.len();
        }
        let died = || io::Error::other("the decompression thread died");
        self.producer.take().ok_or_else(died)?.join().map_err(|_| died())
    }
}

fn produce(
    source: impl Read + Send,
    full: &Sender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> DiffId {
    let mut digester = Digester::new();
    let result = decompress(source).and_then(|mut source| {
        loop {
            let mut chunk = empty.try_recv().unwrap_or_default();
            chunk.resize(CHUNK, 0);
            let length = fill(&mut source, &mut chunk)?;
            chunk.truncate(length);
            digester.update(&chunk);
            // A reader that went away wants no more.
            if length == 0 || full.send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
    });
    if let Err(error) = result {
        drop(full.send(Err(error)));
    }
    DiffId(digester.finish())
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len()
            && let Ok(chunk) = self.full.recv()
        {
            let spent = std::mem::replace(&mut self.chunk, chunk?);
            self.position = 0;
            drop(self.empty.try_send(spent));
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.chunk.len());
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::oci::Digest;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    }

    #[test]
    fn b056_the_first_bytes_tell_the_format() {
        let check = |bytes: Vec<u8>, expected: &[u8]| {
            let mut ahead = ReadAhead::new(io::Cursor::new(bytes));
            let mut output = Vec::new();
            ahead.read_to_end(&mut output).expect("valid");
            assert!(output == expected);
            assert_eq!(ahead.finish().expect("valid"), DiffId(Digest::of(expected)));
        };
        let text = b"text ".repeat(300_000);
        check(text.clone(), &text);
        check(gzip(&text), &text);
        check([gzip(&text), gzip(b"more")].concat(), &[&text[..], b"more"].concat());
        check(zstd::encode_all(&text[..], 1).expect("a Vec takes all"), &text);
        check(Vec::new(), b"");
        check(b"ab".to_vec(), b"ab");
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_not_an_end() {
        let bytes = gzip(&b"text ".repeat(300_000));
        let mut ahead = ReadAhead::new(io::Cursor::new(bytes[..bytes.len() - 20].to_vec()));
        ahead.read_to_end(&mut Vec::new()).expect_err("the end is missing");
    }

    #[test]
    fn a_reader_that_stops_early_stops_the_producer() {
        let ahead = ReadAhead::new(io::repeat(0));
        drop(ahead);
    }
}
