//! Blobs that only pass through: into a reader, or from one registry to another.
//!
//! Nothing of them stays on this machine.

use std::{
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
        let mut stream = client.blob(&reference, &blob);
        if let Err(error) = receive(&mut stream, &task, sender.clone()).await {
            // Whoever read has gone, or will read this.
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
    write_through(stream, task, move |receiver| write(writer, receiver, &expected)).await
}

fn write(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Message>,
    expected: &Descriptor,
) -> Result<File, StoreError> {
    while let Some(Message::Piece(piece)) = receiver.blocking_recv() {
        writer
            .write_all(&piece)
            .map_err(|error| StoreError::unwrap_io("write", expected.digest.hex(), error))?;
    }
    // If the other side has failed, the file is not what it should be.
    writer.into_file(expected)
}
