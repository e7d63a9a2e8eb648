//! The files of a stage without unpacking them: indexes of layers, from wherever they can be had.
//!
//! An index that was made once is in the store. Else it is made of the blob: of the store's, of the
//! table of contents that the registry's may have at its end, or of the registry's while it streams by.
//! A blob is kept only if somebody will want all of it.
//!
//! What a blob was read for is an index of that blob and of the diff ID that it has. A table of contents
//! is only what a manifest says of a layer: it counts for the layers that name that very table, where
//! the blob is not kept, and for the content of no file but the user database.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::build::BuildErrorKind;
use crate::build::Workshop;
use crate::copy::CopyError;
use crate::layer::EmptyTree;
use crate::layer::LayerError;
use crate::layer::LayerIndex;
use crate::layer::LayerSource;
use crate::layer::LayerStack;
use crate::layer::TableOfContents;
use crate::layer::Tree;
use crate::layer::TreeError;
use crate::oci::ChainId;
use crate::oci::Descriptor;
use crate::oci::DiffId;
use crate::oci::Digest;
use crate::oci::Layer;
use crate::oci::Reference;
use crate::progress::Task;
use crate::registry::Part;
use crate::store::StoreError;
use crate::transfer;
use crate::transfer::TransferError;

/// An index is small; whoever made a larger file of that name was not coracle.
const INDEX_LIMIT: u64 = 1 << 30;

/// Whether the blobs that an index is made of are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// An output needs them, or the contents of files will be asked for.
    Yes,
    /// Only what the files are like will be asked, and nobody else needs the blobs.
    No,
}

/// The indexes of all layers of one build. Its methods block.
#[derive(Debug)]
pub(crate) struct Files {
    workshop: Workshop,
    /// Where the layers of base images are.
    origins: BTreeMap<Digest, Reference>,
    runtime: tokio::runtime::Handle,
    /// Each index is made once, however many stages ask for it.
    indexes: Mutex<BTreeMap<Subject, Once>>,
    /// The blobs that were verified by this process.
    verified: Mutex<BTreeSet<Digest>>,
}

/// What an index is of: the blob, what it unpacks to, and the table of contents that may do.
type Subject = (Digest, DiffId, Option<Digest>);

/// An index, once it is made; whoever makes it holds the lock.
type Once = Arc<Mutex<Option<Arc<LayerIndex>>>>;

/// The files of a build, for those who keep blobs or for those who do not.
struct Source {
    files: Arc<Files>,
    keep: Keep,
}

impl Files {
    /// Must be called within the runtime that is to do the downloads.
    pub(crate) fn new(workshop: &Workshop, origins: BTreeMap<Digest, Reference>) -> Self {
        Self {
            workshop: workshop.clone(),
            origins,
            runtime: tokio::runtime::Handle::current(),
            indexes: Mutex::default(),
            verified: Mutex::default(),
        }
    }

    /// The tree of `layers`, bottom first. Those at the bottom that are unpacked are read from where
    /// they are; nothing is asked of the others before it is needed.
    pub(crate) fn tree(
        self: &Arc<Self>,
        layers: &[Layer],
        keep: Keep,
    ) -> Result<Arc<dyn Tree>, BuildErrorKind> {
        let snapshotter = &self.workshop.snapshotter;
        let chains = layers.iter().scan(None, |chain: &mut Option<ChainId>, layer| {
            *chain = Some(chain.map_or(ChainId::base(layer.diff_id), |it| it.with(layer.diff_id)));
            *chain
        });
        let count = chains.take_while(|chain| snapshotter.contains(*chain)).count();
        let (unpacked, others) = layers.split_at(count);
        let bottom: Arc<dyn Tree> = if unpacked.is_empty() {
            Arc::new(EmptyTree)
        } else {
            Arc::new(self.workshop.unpack(unpacked)?.view())
        };
        if others.is_empty() {
            return Ok(bottom);
        }
        let source = Arc::new(Source { files: Arc::clone(self), keep });
        Ok(Arc::new(LayerStack::new(bottom, others, source)))
    }

    fn index(&self, layer: &Layer, keep: Keep) -> io::Result<Arc<LayerIndex>> {
        let once = {
            let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(indexes.entry(subject(layer, keep)).or_default())
        };
        let mut index = once.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*index {
            return Ok(Arc::clone(index));
        }
        let made = match self.stored(layer, keep) {
            Some(made) => made,
            None if keep == Keep::Yes || self.workshop.store.has(&layer.descriptor) => {
                self.make(layer, keep)?
            }
            None => match self.of_table(layer)? {
                Some(made) => made,
                None => self.make(layer, keep)?,
            },
        };
        Ok(Arc::clone(index.insert(Arc::new(made))))
    }

    /// The index that an earlier build has made.
    fn stored(&self, layer: &Layer, keep: Keep) -> Option<LayerIndex> {
        let read = |path: PathBuf| {
            let mut bytes = Vec::new();
            File::open(path).ok()?.take(INDEX_LIMIT).read_to_end(&mut bytes).ok()?;
            LayerIndex::decode(&bytes)
        };
        let of_table = || read(self.path_of_table(&table(layer, keep)?));
        read(self.path(layer)).or_else(of_table)
    }

    /// The index with the places of contents, which the other one lacks.
    fn complete_index(&self, layer: &Layer, keep: Keep) -> io::Result<Arc<LayerIndex>> {
        let known = self.index(layer, keep)?;
        if known.has_places() {
            return Ok(known);
        }
        let made = Arc::new(self.make(layer, keep)?);
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        indexes.insert(subject(layer, keep), Arc::new(Mutex::new(Some(Arc::clone(&made)))));
        Ok(made)
    }

    /// The index out of the table of contents that some layers have, without the rest of the layer.
    fn of_table(&self, layer: &Layer) -> io::Result<Option<LayerIndex>> {
        let (Some(table), Ok(origin)) = (table(layer, Keep::No), self.origin(&layer.descriptor))
        else {
            return Ok(None);
        };
        let part = Part { offset: table.offset, length: table.length, digest: table.digest };
        let (client, blob) = (Arc::clone(&self.workshop.client), layer.descriptor.clone());
        let task = Task::start(&self.workshop.progress, format!("look into {}", origin.familiar()));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.runtime.spawn(async move {
            // Nobody is left to tell when the build has ended.
            let _ = sender.send(client.blob_part(&origin, &blob, &part).await);
        });
        let bytes = receiver.blocking_recv().ok().flatten();
        let Some(index) = bytes.and_then(|bytes| table.read(&bytes)) else { return Ok(None) };
        self.publish(&self.path_of_table(&table), &index)?;
        task.finish();
        Ok(Some(index))
    }

    /// The index, made of the blob.
    fn make(&self, layer: &Layer, keep: Keep) -> io::Result<LayerIndex> {
        if keep == Keep::Yes {
            self.fetch(layer)?;
        }
        let store = &self.workshop.store;
        let index = if store.has(&layer.descriptor) {
            let blob = store.open_blob(&layer.descriptor.digest).map_err(io::Error::other)?;
            LayerIndex::read(blob, layer.diff_id)
        } else {
            let origin = self.origin(&layer.descriptor)?;
            let title = format!("look into {}", origin.familiar());
            let task = Arc::new(Task::start(&self.workshop.progress, title));
            let client = &self.workshop.client;
            let blob = transfer::stream_layer(&self.runtime, client, &origin, layer, &task);
            let index = LayerIndex::read(blob, layer.diff_id);
            if index.is_ok()
                && let Some(task) = Arc::into_inner(task)
            {
                task.finish();
            }
            index
        };
        let index = index.map_err(io::Error::other)?;
        self.publish(&self.path(layer), &index)?;
        Ok(index)
    }

    fn publish(&self, path: &Path, index: &LayerIndex) -> io::Result<()> {
        self.workshop.store.publish(path, &index.encode()?).map_err(io::Error::other)
    }

    /// Has the blob in the store.
    fn fetch(&self, layer: &Layer) -> io::Result<()> {
        let Workshop { store, client, progress, .. } = self.workshop.clone();
        if store.has(&layer.descriptor) {
            return Ok(());
        }
        let (origin, layer) = (self.origin(&layer.descriptor)?, layer.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.runtime.spawn(async move {
            let task = Task::start(&progress, format!("pull {}", origin.familiar()));
            let layers = [layer];
            let fetched = transfer::fetch_layers(&client, &store, &origin, &layers, &task).await;
            if fetched.is_ok() {
                task.finish();
            }
            // Nobody is left to tell when the build has ended.
            let _ = sender.send(fetched);
        });
        // The runtime ends before its tasks do only where the whole build was interrupted.
        let fetched = receiver.blocking_recv().map_err(|_| io::ErrorKind::ConnectionAborted)?;
        fetched.map_err(io::Error::other)
    }

    /// The repository that a blob can be had from.
    fn origin(&self, blob: &Descriptor) -> io::Result<Reference> {
        let remembered = || self.workshop.store.origins(&[blob.digest]).remove(&blob.digest);
        let known = self.origins.get(&blob.digest).cloned();
        let found = known.or_else(|| remembered()?.into_iter().next());
        let missing = || format!("blob {} is not in the store", blob.digest);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing()))
    }

    /// The blob from the store. It is verified once, as indexes come from other builds: which diff ID it
    /// has, whoever made the index has seen.
    fn open(&self, layer: &Layer) -> io::Result<File> {
        self.fetch(layer)?;
        let (store, digest) = (&self.workshop.store, layer.descriptor.digest);
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if !verified.contains(&digest) {
            let mut blob = store.open_verified(&layer.descriptor).map_err(io::Error::other)?;
            io::copy(&mut blob, &mut io::sink())?;
            verified.insert(digest);
        }
        store.open_blob(&digest).map_err(io::Error::other)
    }

    fn path(&self, layer: &Layer) -> PathBuf {
        let (blob, content) = (layer.descriptor.digest.hex(), layer.diff_id.0.hex());
        self.workshop.store.indexes_dir().join(format!("{blob}-{content}"))
    }

    fn path_of_table(&self, table: &TableOfContents) -> PathBuf {
        self.workshop.store.indexes_dir().join(format!("{}.contents", table.digest.hex()))
    }
}

/// The table of contents of a layer whose blob nobody wants.
fn table(layer: &Layer, keep: Keep) -> Option<TableOfContents> {
    TableOfContents::of(&layer.descriptor).filter(|_| keep == Keep::No)
}

fn subject(layer: &Layer, keep: Keep) -> Subject {
    (layer.descriptor.digest, layer.diff_id, table(layer, keep).map(|table| table.digest))
}

/// The failure behind a failure to read a tree: that a registry cannot be reached is no fault of the
/// file that was asked for.
pub(crate) fn uncover(kind: BuildErrorKind) -> BuildErrorKind {
    match kind {
        BuildErrorKind::Copy(CopyError::Tree { source: TreeError::Read { path, source } }) => {
            reveal(source).unwrap_or_else(|source| {
                CopyError::Tree { source: TreeError::Read { path, source } }.into()
            })
        }
        BuildErrorKind::Tree(TreeError::Read { path, source }) => {
            reveal(source).unwrap_or_else(|source| TreeError::Read { path, source }.into())
        }
        kind => kind,
    }
}

fn reveal(error: io::Error) -> Result<BuildErrorKind, io::Error> {
    let error = match error.downcast::<LayerError>() {
        Ok(LayerError::Source { source }) => {
            return Ok(reveal(source).unwrap_or_else(|source| LayerError::Source { source }.into()));
        }
        Ok(error) => return Ok(error.into()),
        Err(error) => error,
    };
    let error = match error.downcast::<TransferError>() {
        Ok(error) => return Ok(error.into()),
        Err(error) => error,
    };
    error.downcast::<StoreError>().map(BuildErrorKind::from)
}

impl LayerSource for Source {
    fn index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
        self.files.index(layer, self.keep)
    }

    fn complete_index(&self, layer: &Layer) -> io::Result<Arc<LayerIndex>> {
        self.files.complete_index(layer, self.keep)
    }

    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.files.open(layer)?))
    }

    fn temporary_file(&self) -> io::Result<File> {
        tempfile::tempfile_in(self.files.workshop.workspace.path())
    }
}
