//! Blobs that only pass through: into a reader, or from one registry to another.
//!
//! Nothing of them stays on this machine.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::oci::{Descriptor, Layer, Reference};
use crate::progress::Task;
use crate::registry::Client;
use crate::store::{BlobWriter, Store, StoreError};
use crate::transfer::TransferError;
use crate::transfer::fetch::{Message, WAITING, receive, write_through};

/// A blob that is read while it comes in, and kept nowhere.
///
/// Reading blocks, so it must happen away from the network's threads. The end is reported only if
/// size and digest are right.
#[derive(Debug)]
pub struct LayerStream {
    messages: mpsc::Receiver<Message>,
    pieces: VecDeque<Bytes>,
    ended: bool,
}

/// Begins to read `layer` from the repository of `reference`. The network's side runs on `runtime`
/// until all has come or the stream is dropped.
pub fn stream_layer(
    runtime: &tokio::runtime::Handle,
    client: &Arc<Client>,
    reference: &Reference,
    layer: &Layer,
    task: &Task,
) -> LayerStream {
    let (sender, messages) = mpsc::channel(WAITING);
    let (client, reference, task) = (Arc::clone(client), reference.clone(), task.reporter());
    let blob = layer.descriptor.clone();
    runtime.spawn(async move {
        let mut stream = client.blob(&reference, &blob);
        if let Err(error) = receive(&mut stream, &task, sender.clone()).await {
            // Whoever read has gone, or will read this.
            let _ = sender.send(Message::Failed(Box::new(error))).await;
        }
    });
    LayerStream { messages, pieces: VecDeque::new(), ended: false }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = self.pieces.front_mut() {
                if piece.is_empty() {
                    self.pieces.pop_front();
                    continue;
                }
                let count = buffer.len().min(piece.len());
                buffer[..count].copy_from_slice(&piece.split_to(count));
                return Ok(count);
            }
            if self.ended {
                return Ok(0);
            }
            match self.messages.blocking_recv() {
                Some(Message::Pieces(pieces)) => self.pieces = pieces.into(),
                Some(Message::End) => self.ended = true,
                Some(Message::Failed(error)) => return Err(io::Error::other(*error)),
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }
}

/// Fetches one blob into a file that has no name, and goes when it is closed.
pub(crate) async fn fetch_file(
    client: &Client,
    store: &Store,
    reference: &Reference,
    blob: &Descriptor,
    task: &Task,
) -> Result<File, TransferError> {
    let writer = store.writer_for(blob).map_err(TransferError::Store)?;
    let stream = client.blob(reference, blob).behind(0);
    let expected = blob.clone();
    write_through(stream, &task.reporter(), move |receiver| write(writer, receiver, &expected))
        .await
}

fn write(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Message>,
    expected: &Descriptor,
) -> Result<File, StoreError> {
    while let Some(Message::Pieces(pieces)) = receiver.blocking_recv() {
        pieces
            .iter()
            .try_for_each(|piece| writer.write_all(piece))
            .map_err(|error| StoreError::unwrap_io("write", expected.digest.hex(), error))?;
    }
    // If the other side has failed, the file is not what it should be.
    writer.into_file(expected)
}
