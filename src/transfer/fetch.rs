//! Layers on their way from a registry: into the store, several at once, each once, each verified
//! twice; or past the store, for those who only read them.
//!
//! The network's side awaits and checks pieces; a blocking thread writes them. A short channel joins
//! the two, so memory stays the same whatever a layer weighs.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use tokio::sync::mpsc;

use crate::oci::{Descriptor, Layer, Reference};
use crate::progress::Task;
use crate::registry::Client;
use crate::store::{BlobWriter, Store, StoreError};
use crate::transfer::{PARALLEL, TransferError};

/// How many pieces may wait to be written.
const WAITING: usize = 16;

/// Progress is told after so many bytes, so that telling it costs nothing.
const REPORT: u64 = 256 * 1024;

/// Fetches those of `layers` that the store lacks, from the repository of `reference`.
///
/// # Errors
///
/// Fails if a layer cannot be had, is not what it should be, or cannot be stored. Layers that were
/// complete by then stay.
pub async fn fetch_layers(
    client: &Client,
    store: &Store,
    reference: &Reference,
    layers: &[Layer],
    task: &Task,
) -> Result<(), TransferError> {
    let mut seen = BTreeSet::new();
    let missing = layers
        .iter()
        .map(|layer| &layer.descriptor)
        .filter(|blob| !store.has(blob) && seen.insert(blob.digest));
    let fetches: Vec<_> =
        missing.map(|blob| Ok(fetch_blob(client, store, reference, blob, task))).collect();
    stream::iter(fetches).try_buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Fetches one blob into the store.
async fn fetch_blob(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
) -> Result<(), TransferError> {
    fetch(client, store, reference, blob, task, BlobWriter::commit_verified).await?;
    // An optimisation for later pushes, which can do without.
    let _ = store.record_origin(&blob.digest, reference);
    Ok(())
}

/// Fetches one blob into a file that goes when it is closed.
pub(crate) async fn fetch_file(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
) -> Result<File, TransferError> {
    fetch(client, store, reference, blob, task, BlobWriter::into_file).await
}

async fn fetch<T: Send + 'static>(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
    end: fn(BlobWriter, &Descriptor) -> Result<T, StoreError>,
) -> Result<T, TransferError> {
    let writer = store.writer_for(blob).map_err(TransferError::Store)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let expected = blob.clone();
    let written = tokio::task::spawn_blocking(move || write(writer, receiver, &expected, end));
    let outcome = receive(client, reference, blob, task, sender).await;
    // Waited for in any case, so that nothing is still being written when this returns.
    let written = written.await.expect("writing a blob does not panic");
    outcome?;
    let ended = written.map_err(TransferError::Store)?;
    Ok(ended.expect("all pieces came, and the end after them"))
}

/// A blob that is read while it comes in, and kept nowhere.
///
/// Reading blocks, so it must happen away from the network's threads. The end is reported only if
/// size and digest are right.
#[derive(Debug)]
pub struct LayerStream {
    pieces: mpsc::Receiver<Message>,
    piece: Bytes,
    ended: bool,
}

/// Begins to read `layer` from the repository of `reference`. The network's side runs on `runtime`
/// until all has come or the stream is dropped.
pub fn stream_layer(
    runtime: &tokio::runtime::Handle,
    client: &Arc<Client>,
    reference: &Reference,
    layer: &Layer,
    task: &Arc<Task>,
) -> LayerStream {
    let (sender, pieces) = mpsc::channel(WAITING);
    let (client, reference, task) = (Arc::clone(client), reference.clone(), Arc::clone(task));
    let blob = layer.descriptor.clone();
    runtime.spawn(async move {
        let failed = receive(&client, &reference, &blob, &task, sender.clone()).await;
        if let Err(error) = failed {
            let _ = sender.send(Message::Failed(Box::new(error))).await;
        }
    });
    LayerStream { pieces, piece: Bytes::new(), ended: false }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Message::Piece(piece)) => self.piece = piece,
                Some(Message::End) => self.ended = true,
                Some(Message::Failed(error)) => return Err(io::Error::other(*error)),
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Passes on the pieces of a blob. That the channel is closed before its end means that the writer
/// has failed, and will say why.
async fn receive(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
    sender: mpsc::Sender<Message>,
) -> Result<(), TransferError> {
    let mut stream = client.blob(reference, blob);
    let mut reported = 0;
    task.transfer(blob.digest, 0, blob.size);
    while let Some(piece) = stream.next().await.map_err(TransferError::Registry)? {
        if sender.send(Message::Piece(piece)).await.is_err() {
            return Ok(());
        }
        if stream.offset() - reported >= REPORT {
            reported = stream.offset();
            task.transfer(blob.digest, reported, blob.size);
        }
    }
    // A closed channel without this is a failure: only a verified end is an end.
    let _ = sender.send(Message::End).await;
    task.transfer(blob.digest, blob.size, blob.size);
    Ok(())
}

#[derive(Debug)]
enum Message {
    Piece(Bytes),
    End,
    Failed(Box<TransferError>),
}

/// `None` if the other side has failed, and knows why.
fn write<T>(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Message>,
    expected: &Descriptor,
    end: fn(BlobWriter, &Descriptor) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    while let Some(message) = receiver.blocking_recv() {
        match message {
            Message::Piece(piece) => writer
                .write_all(&piece)
                .map_err(|error| StoreError::unwrap_io("write", expected.digest.hex(), error))?,
            Message::End => return end(writer, expected).map(Some),
            Message::Failed(_) => break,
        }
    }
    // The other side has failed, or was cancelled: dropping the writer removes the file.
    Ok(None)
}
