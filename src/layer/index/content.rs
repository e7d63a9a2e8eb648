//! The contents of files, from a blob that is compressed as a whole.
//!
//! There is one way through such a blob, from its beginning. Whoever reads files most often wants
//! them in the order in which they are stored, so the way is kept open behind each file. Where that
//! fails a few times, the blob is decompressed to a temporary file, in which every place is near.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use crate::layer::decompress::decompress;
use crate::layer::{Entry, LayerReader, LayerSource, Names};
use crate::oci::Layer;

/// How often a blob is read from its beginning before it is decompressed for good.
const MOST_PASSES: u32 = 4;

/// The reader of a blob, somewhere in it.
type Way = LayerReader<Box<dyn Read + Send>>;

/// How far the contents of one layer have been read.
#[derive(Default)]
pub(super) struct Contents(Mutex<State>);

#[derive(Default)]
struct State {
    /// A way through the blob that nobody is on.
    open: Option<Way>,
    passes: u32,
    decompressed: Option<Arc<File>>,
}

impl Contents {
    /// The content of the file that `entry` tells of, which begins at `start`.
    pub(super) fn open(
        self: &Arc<Self>,
        layer: &Layer,
        source: &dyn LayerSource,
        entry: &Entry,
        start: u64,
    ) -> io::Result<Box<dyn Read + Send>> {
        let mut way = self.way(layer, source, start)?;
        loop {
            let found = way.next_entry().map_err(io::Error::other)?;
            let found = found.ok_or_else(|| changed(entry))?;
            if way.entry_start() >= start {
                let is_same = found.kind == entry.kind && found.path == entry.path;
                if !is_same {
                    return Err(changed(entry));
                }
                return Ok(Box::new(Content { way: Some(way), home: Arc::clone(self) }));
            }
        }
    }

    /// A way that comes by `start`.
    fn way(&self, layer: &Layer, source: &dyn LayerSource, start: u64) -> io::Result<Way> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &state.decompressed {
            return Ok(way_in(file, start));
        }
        if let Some(way) = state.open.take()
            && way.entry_start() < start
        {
            return Ok(way);
        }
        if state.passes < MOST_PASSES {
            state.passes += 1;
            return Ok(LayerReader::uncompressed(decompress(source.open(layer)?)?, Names::Layer));
        }
        let mut file = source.temporary_file()?;
        io::copy(&mut decompress(source.open(layer)?)?, &mut file)?;
        file.flush()?;
        let file = Arc::new(file);
        state.decompressed = Some(Arc::clone(&file));
        Ok(way_in(&file, start))
    }
}

/// The index is of another blob than this one: somebody has changed the store.
pub(super) fn changed(entry: &Entry) -> io::Error {
    let text = format!("the layer does not have `{}` where its index says", entry.path);
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A way that begins at `start`, where a header is.
fn way_in(file: &Arc<File>, start: u64) -> Way {
    let place: Box<dyn Read + Send> = Box::new(Place { file: Arc::clone(file), offset: start });
    LayerReader::uncompressed(place, Names::Layer).at(start)
}

/// A place in a file that others read too.
struct Place {
    file: Arc<File>,
    offset: u64,
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The content of one file; it leaves the way behind it open for the next.
struct Content {
    way: Option<Way>,
    home: Arc<Contents>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(way) = &mut self.way else { return Ok(0) };
        way.read(buffer)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut state = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.decompressed.is_none() {
            state.open = self.way.take();
        }
    }
}
