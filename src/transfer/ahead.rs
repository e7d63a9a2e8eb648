//! Layers that go to a registry while they are still being made.
//!
//! Of a large layer the pieces that are finished are sent, while the rest is compressed and later
//! steps run. What has come of it when the image is pushed is found in the journal of uploads
//! ([`Store::record_upload`]), and the push goes on from there. Whatever goes wrong is no failure:
//! then the push sends the layer from its beginning.
//!
//! Only a layer that is probably new may go ahead: the registry cannot be asked for it by its digest,
//! which nobody knows before the end.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::progress::{Event, Progress, TaskId};
use crate::registry::{Client, FileBody, Growing, Offer};
use crate::store::{BlobWriter, Store, StoreError};

/// Layers on their way to one repository.
pub struct Ahead {
    client: Arc<Client>,
    store: Arc<Store>,
    target: Reference,
    progress: Arc<dyn Progress>,
    /// The network's side runs here.
    runtime: Handle,
    uploads: Mutex<BTreeMap<Digest, JoinHandle<()>>>,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({})", self.target)
    }
}

/// A layer that is being written to the store.
///
/// Dropping it instead of [committing](Self::commit) removes what was written, here and there.
#[derive(Debug)]
pub struct LayerSink {
    writer: BlobWriter,
    ahead: Option<(Arc<Ahead>, watch::Sender<Growth>, JoinHandle<()>)>,
}

/// How far a layer is.
#[derive(Debug, Clone, Default)]
struct Growth {
    written: u64,
    /// What it has become.
    end: Option<Descriptor>,
}

impl Ahead {
    /// Layers for the repository of `target`, to which this user may push
    /// ([`check_push`](crate::transfer::check_push)). Must be called on a runtime.
    pub fn new(
        client: Arc<Client>,
        store: Arc<Store>,
        target: Reference,
        progress: Arc<dyn Progress>,
    ) -> Arc<Self> {
        let (runtime, uploads) = (Handle::current(), Mutex::default());
        Arc::new(Self { client, store, target, progress, runtime, uploads })
    }

    /// Begins a layer that goes ahead. `task` is the step that makes it.
    ///
    /// # Errors
    ///
    /// Fails if the store takes no blob.
    pub fn layer(self: &Arc<Self>, task: TaskId) -> Result<LayerSink, StoreError> {
        let writer = self.store.writer()?;
        let file = Arc::new(writer.reader()?);
        let (growth, watched) = watch::channel(Growth::default());
        let content = FileBody { file, start: 0, size: u64::MAX, sent: Arc::new(|_| {}) };
        let ahead = Arc::clone(self);
        let upload = self.runtime.spawn(async move { ahead.follow(content, watched, task).await });
        Ok(LayerSink { writer, ahead: Some((Arc::clone(self), growth, upload)) })
    }

    /// Waits until no more of the layer can go ahead: all did but the end, or something went wrong.
    pub(crate) async fn settle(&self, digest: &Digest) {
        let upload = self.uploads.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        if let Some(upload) = upload {
            // A panic there is no more of a failure than all else.
            let _ = upload.await;
        }
    }

    /// Sends the layer piece by piece, as far as it is finished.
    async fn follow(&self, content: FileBody, mut growth: watch::Receiver<Growth>, task: TaskId) {
        // Smaller layers are sent so quickly that nothing is gained.
        let worth_it = self.client.worth_growing();
        let is_decided = |growth: &Growth| growth.end.is_some() || growth.written >= worth_it;
        let now = growth.wait_for(is_decided).await.map(|now| now.written);
        if now.is_err() || now.is_ok_and(|written| written < worth_it) {
            return;
        }
        let Ok(Some(mut upload)) = self.client.begin_growing(&self.target).await else { return };
        let text = format!("goes to {} while it is made", self.target.registry());
        self.progress.report(Event::Note { task, text });
        let mut known = None;
        loop {
            let piece = upload.offset() + upload.piece();
            // The last piece goes with the end, whatever its size.
            let is_due = |growth: &Growth| growth.end.is_some() || growth.written > piece;
            let Ok(now) = growth.wait_for(is_due).await.map(|now| now.clone()) else {
                return upload.abandon().await;
            };
            if let (Some(end), None) = (&now.end, &known) {
                if self.is_there(end).await {
                    return upload.abandon().await;
                }
                known = Some(end.clone());
            }
            self.note(known.as_ref(), &upload);
            if now.written <= piece || upload.send(&content).await.is_err() {
                return;
            }
        }
    }

    /// Leaves behind where the upload goes on, once it is known of what.
    fn note(&self, known: Option<&Descriptor>, upload: &Growing<'_>) {
        if let Some(blob) = known.filter(|_| upload.offset() > 0) {
            // Without the note it is sent from the beginning.
            let _ = self.store.record_upload(&self.target, &blob.digest, upload.place());
        }
    }

    async fn is_there(&self, blob: &Descriptor) -> bool {
        let offer = self.client.offer(&self.target, blob, &[]).await;
        matches!(offer, Ok(Offer::Existing))
    }
}

impl LayerSink {
    /// A layer that goes nowhere before it is asked for.
    ///
    /// # Errors
    ///
    /// Fails if the store takes no blob.
    pub fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { writer: store.writer()?, ahead: None })
    }

    /// Publishes the layer in the store.
    ///
    /// # Errors
    ///
    /// Fails as [`BlobWriter::commit`] does.
    pub fn commit(self, media_type: MediaType) -> Result<Descriptor, StoreError> {
        let descriptor = self.writer.commit(media_type)?;
        if let Some((ahead, growth, upload)) = self.ahead {
            let mut uploads = ahead.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            uploads.insert(descriptor.digest, upload);
            growth.send_modify(|growth| growth.end = Some(descriptor.clone()));
        }
        Ok(descriptor)
    }
}

impl io::Write for LayerSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        if let Some((_, growth, _)) = &self.ahead {
            growth.send_modify(|growth| growth.written += count as u64);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
