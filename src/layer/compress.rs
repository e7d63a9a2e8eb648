//! Compression of a layer, on several threads, with the same bytes for any number of them.
//!
//! Gzip is made as `pigz` makes it: the input is cut into blocks of 1 MiB, each is deflated alone
//! with the last 32 KiB before it as dictionary, and the pieces are joined into *one* member. Where
//! the cuts are depends on nothing but the input. Each block gets a fresh compressor: one that is
//! reset remembers enough of its past to find other matches, so its output would depend on which
//! thread took which block.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc1952>.

use std::{
    collections::VecDeque,
    io::{self, Write},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::{Compress, FlushCompress};

use crate::oci::Compression;

/// How much is compressed at a time.
const BLOCK: usize = 1 << 20;

/// Each thread takes some 4 MiB, and memory is to stay below 100 MiB in all. More would be of little use:
/// whoever hands out the blocks hashes them too, and is hardly faster.
const MOST_THREADS: usize = 12;

/// So many blocks wait, for a thread or to be written, while all threads work.
const SPARE_BLOCKS: usize = 4;

/// How far back deflate can refer.
const WINDOW: usize = 32 << 10;

/// The levels are the formats' usual ones: `gzip -6`, `zstd -3`.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::new(6);
const ZSTD_LEVEL: i32 = 3;

/// No modification time, no name, an unknown operating system: nothing of where it was made.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Compresses what is written to it into `W`.
pub(crate) enum Compressor<W: Write> {
    None(W),
    Gzip(Box<Gzip<W>>),
    /// Its own error is kept until the first write, so that making one cannot fail.
    Zstd(Result<zstd::Encoder<'static, W>, io::Error>),
}

impl<W: Write> Compressor<W> {
    /// A compressor on at most `threads` threads. Threads start when there is work for them.
    pub(crate) fn new(sink: W, compression: Compression, threads: usize) -> Self {
        match compression {
            Compression::None => Self::None(sink),
            Compression::Gzip => {
                Self::Gzip(Box::new(Gzip::new(sink, threads.clamp(1, MOST_THREADS))))
            }
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(sink, ZSTD_LEVEL)),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.write_all(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(Ok(encoder)) => encoder.write_all(bytes),
            Self::Zstd(Err(error)) => Err(io::Error::from(error.kind())),
        }
    }

    /// Writes what is left, and gives the sink back.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(encoder) => encoder?.finish(),
        }
    }
}

/// A block on its way through a worker: its input, then its output beside it.
struct Job {
    dictionary: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    checksum: crc32fast::Hasher,
    last: bool,
    /// Where the worker hands it back.
    done: Sender<Self>,
}

/// Gzip in one member, compressed by blocks.
pub(crate) struct Gzip<W: Write> {
    sink: W,
    threads: usize,
    /// Where workers take jobs from; `None` until the first full block.
    jobs: Option<Sender<Job>>,
    /// Blocks handed out, oldest first; they are written in this order.
    pending: VecDeque<Receiver<Job>>,
    /// Finished jobs, whose buffers are used again.
    spare: Vec<Job>,
    input: Vec<u8>,
    dictionary: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// Uncompressed bytes, modulo 2^32 as the trailer wants it.
    length: u32,
    started: bool,
}

impl<W: Write> Gzip<W> {
    fn new(sink: W, threads: usize) -> Self {
        Self {
            sink,
            threads,
            jobs: None,
            pending: VecDeque::new(),
            spare: Vec::new(),
            input: Vec::new(),
            dictionary: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            length: 0,
            started: false,
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.input.len() == BLOCK {
                self.hand_out()?;
            }
            let count = bytes.len().min(BLOCK - self.input.len());
            self.input.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Gives the full block to a worker. Waits for the oldest one if there are enough in flight.
    fn hand_out(&mut self) -> io::Result<()> {
        if self.pending.len() >= self.threads + SPARE_BLOCKS {
            self.take_back()?;
        }
        let (job, done) = self.job(false);
        let jobs = self.jobs.get_or_insert_with(|| start_workers(self.threads));
        jobs.send(job).map_err(|_| worker_died())?;
        self.pending.push_back(done);
        Ok(())
    }

    fn job(&mut self, last: bool) -> (Job, Receiver<Job>) {
        let (done, result) = bounded(1);
        let mut job = self.spare.pop().unwrap_or_else(|| Job {
            dictionary: Vec::new(),
            input: Vec::with_capacity(BLOCK),
            output: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            last,
            done: done.clone(),
        });
        job.last = last;
        job.done = done;
        std::mem::swap(&mut job.input, &mut self.input);
        std::mem::swap(&mut job.dictionary, &mut self.dictionary);
        self.input.clear();
        self.dictionary.clear();
        let window = job.input.len().saturating_sub(WINDOW);
        self.dictionary.extend_from_slice(&job.input[window..]);
        (job, result)
    }

    /// Waits for the oldest block and writes it.
    fn take_back(&mut self) -> io::Result<()> {
        let Some(done) = self.pending.pop_front() else { return Ok(()) };
        let job = done.recv().map_err(|_| worker_died())?;
        self.emit(job)
    }

    fn emit(&mut self, job: Job) -> io::Result<()> {
        if !self.started {
            self.sink.write_all(&GZIP_HEADER)?;
            self.started = true;
        }
        self.sink.write_all(&job.output)?;
        self.checksum.combine(&job.checksum);
        let length = u32::try_from(job.input.len()).expect("a block is 1 MiB at most");
        self.length = self.length.wrapping_add(length);
        self.spare.push(job);
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        // The last block is ours: short inputs never start a thread.
        let (mut last, _) = self.job(true);
        deflate(&mut last);
        while !self.pending.is_empty() {
            self.take_back()?;
        }
        self.emit(last)?;
        let checksum = self.checksum.finalize();
        self.sink.write_all(&checksum.to_le_bytes())?;
        self.sink.write_all(&self.length.to_le_bytes())?;
        Ok(self.sink)
    }
}

/// Starts the workers; they end when the sender is dropped.
fn start_workers(threads: usize) -> Sender<Job> {
    let (jobs, queue) = bounded::<Job>(threads + SPARE_BLOCKS);
    for _ in 0..threads {
        let queue = queue.clone();
        thread::spawn(move || {
            for mut job in queue {
                deflate(&mut job);
                let done = job.done.clone();
                // Nobody waits any more if the writer was dropped.
                drop(done.send(job));
            }
        });
    }
    jobs
}

/// A worker can only be gone if it panicked, which would be a bug in it.
fn worker_died() -> io::Error {
    io::Error::other("a compression thread died")
}

/// Deflates a block so that it ends on a byte boundary and the next block can follow.
fn deflate(job: &mut Job) {
    let mut compress = Compress::new(GZIP_LEVEL, false);
    if !job.dictionary.is_empty() {
        compress.set_dictionary(&job.dictionary).expect("raw deflate takes any dictionary");
    }
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    job.output.clear();
    // More than deflate's worst case, stored blocks: then one call is enough.
    job.output.reserve(job.input.len() + job.input.len() / 1000 + 128);
    loop {
        let consumed = usize::try_from(compress.total_in()).expect("a block fits in memory");
        let status = compress
            .compress_vec(&job.input[consumed..], &mut job.output, flush)
            .expect("the compressor is in a valid state");
        let ended = match flush {
            FlushCompress::Finish => status == flate2::Status::StreamEnd,
            _ => job.output.len() < job.output.capacity(),
        };
        if ended {
            break;
        }
        job.output.reserve(4096);
    }
    job.checksum = crc32fast::Hasher::new();
    job.checksum.update(&job.input);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn compress(input: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
        let mut compressor = Compressor::new(Vec::new(), compression, threads);
        for piece in input.chunks(70_001) {
            compressor.write(piece).expect("a Vec takes all");
        }
        compressor.finish().expect("a Vec takes all")
    }

    /// Neither random nor regular: words of a small language.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(format!("w{} ", (state >> 16) % 3000).as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn gzip_has_the_same_bytes_for_any_number_of_threads() {
        let input = text(9 * BLOCK + 12_345);
        let one = compress(&input, Compression::Gzip, 1);
        for threads in [2, 3, 8] {
            assert!(compress(&input, Compression::Gzip, threads) == one, "{threads} threads");
        }
        assert!(compress(&input, Compression::Gzip, 2) == one, "a second run");
    }

    #[test]
    fn what_is_compressed_can_be_read_back_as_one_member() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let input = text(length);
            let bytes = compress(&input, Compression::Gzip, 2);
            let mut output = Vec::new();
            let mut member = flate2::bufread::GzDecoder::new(&bytes[..]);
            member.read_to_end(&mut output).expect("valid gzip");
            assert!(output == input, "{length}");
            assert!(member.into_inner().is_empty(), "one member holds all");
            assert_eq!(bytes[..10], GZIP_HEADER);
        }
        let input = text(3 * BLOCK);
        let output = zstd::decode_all(&compress(&input, Compression::Zstd, 1)[..]);
        assert!(output.expect("valid zstd") == input);
        assert!(compress(&input, Compression::None, 1) == input);
    }

    #[test]
    fn incompressible_input_is_stored() {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let input: Vec<u8> = (0..BLOCK / 4).flat_map(|_| next()).collect();
        let bytes = compress(&input, Compression::Gzip, 2);
        let mut output = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut output).expect("valid gzip");
        assert!(output == input);
    }
}
