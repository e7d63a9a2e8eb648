//! Layers on their way into the store: several at once, each once.
//!
//! The network's side awaits pieces; a blocking thread writes and hashes them. A short channel joins
//! the two, so memory stays the same whatever a layer weighs.

use std::{collections::BTreeSet, io::Write as _, sync::Arc};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use tokio::sync::mpsc;

use crate::oci::{Descriptor, Layer, Reference};
use crate::progress::{Reporter, Task};
use crate::registry::{BlobStream, Client, RegistryError};
use crate::store::{PartialBlob, Store, StoreError};
use crate::transfer::{PARALLEL, TransferError, beside};

/// How many batches may wait to be written.
pub(crate) const WAITING: usize = 8;

/// So many bytes are handed on at once, and progress is told of so many.
const BATCH: u64 = 256 * 1024;

/// Fetches those of `layers` that the store lacks, from the repository of `reference`.
///
/// # Errors
///
/// Fails if a layer cannot be had, is not what it should be, or cannot be stored. Layers that were
/// complete by then stay.
pub async fn fetch_layers(
    client: &Arc<Client>,
    store: &Store,
    reference: &Reference,
    layers: &[Layer],
    task: &Task,
) -> Result<(), TransferError> {
    let blobs = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    fetch_blobs(client, store, reference, blobs, task).await
}

/// Fetches all that `image` consists of and that the store lacks, from the repository of
/// `reference`. Its manifests are in the store ([`gather`](crate::transfer::gather)). Foreign layers
/// are left where they are.
///
/// # Errors
///
/// Fails as [`fetch_layers`] does.
pub async fn fetch_contents(
    client: &Arc<Client>,
    store: &Store,
    reference: &Reference,
    image: &Descriptor,
    task: &Task,
) -> Result<(), TransferError> {
    let contents = store.contents(image);
    let contents = contents.map_err(|error| TransferError::contents(error, reference))?;
    let is_ours = |blob: &Descriptor| !blob.media_type.is_foreign();
    let blobs = contents.blobs.into_iter().filter(is_ours).collect();
    fetch_blobs(client, store, reference, blobs, task).await
}

async fn fetch_blobs(
    client: &Arc<Client>,
    store: &Store,
    reference: &Reference,
    blobs: Vec<Descriptor>,
    task: &Task,
) -> Result<(), TransferError> {
    let mut seen = BTreeSet::new();
    let missing = blobs.into_iter().filter(|blob| !store.has(blob) && seen.insert(blob.digest));
    let fetches: Vec<_> = missing
        .map(|blob| {
            let (client, store, task) = (Arc::clone(client), store.clone(), task.reporter());
            let reference = reference.clone();
            // Where its connection is, so that no piece waits for another thread to wake.
            let fetch = async move { fetch_blob(&client, &store, &reference, &blob, &task).await };
            Ok(beside(fetch))
        })
        .collect();
    stream::iter(fetches).try_buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Fetches one blob into the store.
async fn fetch_blob(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Reporter,
) -> Result<(), TransferError> {
    let mut writer = begin(store, blob).await?;
    let kept = writer.offset();
    if kept > 0 {
        let done = kept * 100 / blob.size.max(1);
        task.note(format!("{} goes on at {done} % of an earlier download", blob.digest.short()));
    }
    let mut outcome = attempt(client, reference, blob, task, writer).await;
    if kept > 0 && outcome.as_ref().is_err_and(blames_beginning) {
        writer = begin(store, blob).await?;
        writer.restart().map_err(|error| {
            TransferError::Store(StoreError::unwrap_io("cut", blob.digest.hex(), error))
        })?;
        outcome = attempt(client, reference, blob, task, writer).await;
    }
    outcome?;
    // An optimisation for later pushes, which can do without.
    let _ = store.record_origin(&blob.digest, reference);
    Ok(())
}

/// Opens the blob's file. What is in it is hashed, which takes a moment for gigabytes.
async fn begin(store: &Store, blob: &Descriptor) -> Result<PartialBlob, TransferError> {
    let (store, blob) = (store.clone(), blob.clone());
    let opened = tokio::task::spawn_blocking(move || store.resume(&blob)).await;
    opened.expect("opening a file does not panic").map_err(TransferError::Store)
}

/// Fetches what is missing. What has come stays if it fails.
async fn attempt(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    task: &Reporter,
    writer: PartialBlob,
) -> Result<(), TransferError> {
    let stream = client.blob(reference, blob).behind(writer.offset());
    let expected = blob.clone();
    write_through(stream, task, move |receiver| write(writer, receiver, &expected)).await
}

/// Has `write` take what comes from `stream`, on a thread that may block, and verify it.
pub(crate) async fn write_through<T: Send + 'static>(
    mut stream: BlobStream<'_>,
    task: &Reporter,
    write: impl FnOnce(mpsc::Receiver<Message>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, TransferError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let written = tokio::task::spawn_blocking(move || write(receiver));
    let outcome = receive(&mut stream, task, sender).await;
    // Waited for in any case, so that nothing is still being written when this returns.
    let written = written.await.expect("writing a blob does not panic");
    outcome?;
    written.map_err(|error| match error {
        StoreError::WrongDigest { actual, .. } => {
            TransferError::Registry(stream.wrong_digest(actual))
        }
        error => TransferError::Store(error),
    })
}

/// Whether the bytes that an earlier process fetched may be what is wrong.
fn blames_beginning(error: &TransferError) -> bool {
    matches!(
        error,
        TransferError::Registry(
            RegistryError::DigestMismatch { .. }
                | RegistryError::SizeMismatch { .. }
                | RegistryError::Rejected { .. }
                | RegistryError::Misbehaved { .. }
        )
    )
}

/// Passes on the pieces of a blob, several at once: to wake the other side takes longer than to read
/// a piece. That the channel is closed before its end means that the writer has failed, and will say
/// why.
pub(crate) async fn receive(
    stream: &mut BlobStream<'_>,
    task: &Reporter,
    sender: mpsc::Sender<Message>,
) -> Result<(), TransferError> {
    let mut reported = stream.offset();
    let blob = stream.descriptor().clone();
    task.transfer(blob.digest, reported, blob.size);
    let (mut pieces, mut ended) = (Vec::new(), false);
    while !ended {
        let next = stream.next().await;
        ended = !matches!(next, Ok(Some(_)));
        if stream.offset() - reported >= BATCH || ended {
            reported = stream.offset();
            task.transfer(blob.digest, reported, blob.size);
        }
        let outcome = next.map(|piece| pieces.extend(piece));
        // What has come before a failure is kept for the next time.
        let is_full = pieces.iter().map(|it: &Bytes| it.len() as u64).sum::<u64>() >= BATCH;
        if (is_full || ended)
            && sender.send(Message::Pieces(std::mem::take(&mut pieces))).await.is_err()
        {
            return Ok(());
        }
        outcome.map_err(TransferError::Registry)?;
    }
    // A closed channel without this is a failure.
    let _ = sender.send(Message::End).await;
    Ok(())
}

/// What the network's side says.
#[derive(Debug)]
pub(crate) enum Message {
    /// The next bytes.
    Pieces(Vec<Bytes>),
    /// That was all, and it was verified as far as the stream does so.
    End,
    /// Nothing more will come, for this reason.
    Failed(Box<TransferError>),
}

fn write(
    mut writer: PartialBlob,
    mut receiver: mpsc::Receiver<Message>,
    expected: &Descriptor,
) -> Result<(), StoreError> {
    while let Some(message) = receiver.blocking_recv() {
        match message {
            Message::Pieces(pieces) => pieces
                .iter()
                .try_for_each(|piece| writer.write_all(piece))
                .map_err(|error| StoreError::unwrap_io("write", expected.digest.hex(), error))?,
            Message::End => return writer.commit_verified(expected),
            Message::Failed(_) => break,
        }
    }
    // The other side has failed, or was cancelled: what has come is kept for the next time.
    Ok(())
}
