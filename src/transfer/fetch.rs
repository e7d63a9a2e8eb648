//! Layers on their way into the store: several at once, each once, each verified twice.
//!
//! The network's side awaits and checks pieces; a blocking thread writes them. A short channel joins
//! the two, so memory stays the same whatever a layer weighs.

use std::{collections::BTreeSet, io::Write as _};

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
pub(crate) async fn fetch_blob(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
) -> Result<(), TransferError> {
    let writer = store.writer_for(blob).map_err(TransferError::Store)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let expected = blob.clone();
    let written = tokio::task::spawn_blocking(move || write(writer, receiver, &expected));
    let received = receive(client, reference, blob, task, sender).await;
    // Waited for in any case, so that nothing is still being written when this returns.
    let written = written.await.expect("writing a blob does not panic");
    received?;
    written.map_err(TransferError::Store)?;
    // An optimisation for later pushes, which can do without.
    let _ = store.record_origin(&blob.digest, reference);
    Ok(())
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

enum Message {
    Piece(Bytes),
    End,
}

fn write(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Message>,
    expected: &Descriptor,
) -> Result<(), StoreError> {
    while let Some(message) = receiver.blocking_recv() {
        match message {
            Message::Piece(piece) => writer
                .write_all(&piece)
                .map_err(|error| StoreError::unwrap_io("write", expected.digest.hex(), error))?,
            Message::End => return writer.commit_verified(expected),
        }
    }
    // The other side has failed, or was cancelled: dropping the writer removes the file.
    Ok(())
}
