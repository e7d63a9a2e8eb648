//! The wire to a server: counts what goes over it in each direction, as it goes, and is no faster than it is told to be.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::serve;

/// How much is passed on at a time.
const PIECE: usize = 64 * 1024;

/// A running wire; it is cut when this is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    address: String,
    there: Arc<Direction>,
    back: Arc<Direction>,
    task: JoinHandle<()>,
}

/// One direction, all connections together.
#[derive(Debug)]
struct Direction {
    bytes: AtomicU64,
    /// How many bytes a second go over it.
    speed: u64,
    /// When what has been taken so far is through.
    free: Mutex<Instant>,
}

impl Wire {
    /// A wire to the server at `upstream`, an address, that lets so many bytes a second through in
    /// each direction.
    pub(crate) fn slow(upstream: &str, speed: u64) -> Self {
        let listener = serve::wait(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (there, back) = (Direction::new(speed), Direction::new(speed));
        let task = serve::spawn(accept(
            listener,
            upstream.to_owned(),
            Arc::clone(&there),
            Arc::clone(&back),
        ));
        Self { address, there, back, task }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// How many bytes have gone to the server.
    pub(crate) fn sent(&self) -> u64 {
        self.there.bytes.load(Ordering::SeqCst)
    }

    /// How many bytes have come from it.
    pub(crate) fn received(&self) -> u64 {
        self.back.bytes.load(Ordering::SeqCst)
    }

    /// Counts from 0 again.
    pub(crate) fn forget(&self) {
        for direction in [&self.there, &self.back] {
            direction.bytes.store(0, Ordering::SeqCst);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Direction {
    fn new(speed: u64) -> Arc<Self> {
        let free = Mutex::new(Instant::now());
        Arc::new(Self { bytes: AtomicU64::new(0), speed, free })
    }

    /// Waits until so many bytes are through.
    async fn pass(&self, count: usize) {
        let free = {
            let mut free = self.free.lock().expect("no panic while locked");
            let took = Duration::from_nanos(count as u64 * 1_000_000_000 / self.speed);
            *free = (*free).max(Instant::now()) + took;
            *free
        };
        tokio::time::sleep_until(free).await;
        self.bytes.fetch_add(count as u64, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    there: Arc<Direction>,
    back: Arc<Direction>,
) {
    // Dropped with this task, and with it all connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&upstream).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        connections.spawn(carry(from_client, to_server, Arc::clone(&there)));
        connections.spawn(carry(from_server, to_client, Arc::clone(&back)));
    }
}

/// Passes bytes on until one side has had enough.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Arc<Direction>) {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        direction.pass(count).await;
        if to.write_all(&piece[..count]).await.is_err() {
            break;
        }
    }
    // The other side is told that no more will come; it may have something to say yet.
    let _ = to.shutdown().await;
}
