//! Bodies of requests, which can be sent more than once, and the watch over their progress.
//!
//! A file is read at offsets, by blocking threads, a piece at a time: nothing is held in memory,
//! and two requests may read the same file at once.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

/// How much of a file is read at once.
const PIECE: u64 = 256 * 1024;

/// What a request carries.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file.
    File(FileBody),
}

/// A file to send, or a part of one, however often.
#[derive(Clone)]
pub struct FileBody {
    /// The file.
    pub file: Arc<File>,
    /// The first byte to send.
    pub start: u64,
    /// How many bytes to send. A file with fewer is an error.
    pub size: u64,
    /// Is told up to which byte of the file has been handed to the network so far.
    pub sent: Arc<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileBody({} bytes)", self.size)
    }
}

impl Body {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    /// A body for one exchange, which notes its progress in `activity`.
    pub(crate) fn to_reqwest(&self, activity: &Activity) -> Option<reqwest::Body> {
        match self {
            Self::Empty => None,
            Self::Bytes(bytes) => Some(bytes.clone().into()),
            // A stream without items would make hyper wait for a body that never comes.
            Self::File(file) if file.size == 0 => None,
            Self::File(file) => Some(file.to_reqwest(activity)),
        }
    }
}

impl FileBody {
    /// `size` bytes from `start` on of the same file.
    pub(crate) fn part(&self, start: u64, size: u64) -> Self {
        Self { start, size, ..self.clone() }
    }

    fn to_reqwest(&self, activity: &Activity) -> reqwest::Body {
        let state = (self.clone(), activity.clone(), 0);
        reqwest::Body::wrap_stream(stream::try_unfold(state, async |(body, activity, offset)| {
            activity.note();
            (body.sent)(body.start + offset);
            if offset >= body.size {
                return Ok::<_, io::Error>(None);
            }
            let file = Arc::clone(&body.file);
            let count = (body.size - offset).min(PIECE);
            let piece =
                tokio::task::spawn_blocking(move || read_piece(&file, body.start + offset, count))
                    .await
                    .map_err(io::Error::other)??;
            Ok(Some((piece, (body, activity, offset + count))))
        }))
    }
}

/// Reads exactly `count` bytes at `offset`.
fn read_piece(file: &File, offset: u64, count: u64) -> io::Result<Bytes> {
    let count = usize::try_from(count).map_err(io::Error::other)?;
    let mut piece = vec![0; count];
    file.read_exact_at(&mut piece, offset)?;
    Ok(piece.into())
}

/// When an exchange last made progress.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits `future`, for as long as there is activity at least every `idle`.
    pub(crate) async fn watch<T>(
        &self,
        future: impl Future<Output = T>,
        idle: Duration,
    ) -> Result<T, Duration> {
        let mut future = pin!(future);
        loop {
            let deadline = self.last() + idle;
            if let Ok(done) = tokio::time::timeout_at(deadline, &mut future).await {
                return Ok(done);
            }
            if self.last() + idle <= Instant::now() {
                return Err(idle);
            }
        }
    }
}
