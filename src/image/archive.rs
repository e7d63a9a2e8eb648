//! A tar archive in which nothing depends on the machine, the user or the time.

use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use crate::image::ImageError;
use crate::oci::Descriptor;
use crate::store::{Store, StoreError};

/// Writes files of an image to a tar archive, in the order of the calls, all with time 0, owner 0.
pub(crate) struct Archive<'a>(Builder<&'a mut dyn Write>);

impl<'a> Archive<'a> {
    pub(crate) fn new(sink: &'a mut dyn Write) -> Self {
        Self(Builder::new(sink))
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.append(&format!("{name}/"), EntryType::Directory, 0o755, 0, io::empty())
    }

    /// Adds a file with these bytes.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.append(name, EntryType::Regular, 0o644, bytes.len() as u64, bytes)
    }

    /// Adds a blob of the store, which is verified on the way.
    pub(crate) fn blob(
        &mut self,
        name: &str,
        store: &Store,
        blob: &Descriptor,
    ) -> Result<(), ImageError> {
        let content = store.open_verified(blob)?;
        self.append(name, EntryType::Regular, 0o644, blob.size, content)
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<(), ImageError> {
        self.0.into_inner().and_then(Write::flush).map_err(failed)
    }

    fn append(
        &mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), ImageError> {
        let mut header = Header::new_ustar();
        header.set_path(name).expect("our names are short and relative");
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.0.append(&header, content).map_err(failed)
    }
}

/// Tells an error of the store, which reading a blob may end in, from one of the output.
pub(crate) fn failed(error: io::Error) -> ImageError {
    match error.downcast::<StoreError>() {
        Ok(error) => ImageError::Store(error),
        Err(source) => ImageError::Output { source },
    }
}
