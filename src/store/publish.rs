//! Files that appear whole or not at all, with the mode that was meant.
//!
//! Everything is written elsewhere on the same file system and then renamed, so a process killed
//! at any moment leaves the old file or the new one. Modes are set after creation: `open` and
//! `mkdir` apply the umask of whoever runs the build, and a store shared by two users with
//! different umasks would be readable by turns.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use crate::store::StoreError;

/// Whether a file has to survive a power cut as soon as it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Losing it costs some work that can be done again.
    Replaceable,
    /// The file replaces one with content that nothing else knows.
    Precious,
}

/// Creates a new file for writing (and reading) with exactly `mode`.
pub(crate) fn create(path: &Path, mode: u32) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|source| StoreError::io("create", path, source))?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|source| StoreError::io("set the mode of", path, source))?;
    Ok(file)
}

/// Opens a lock file, which has no content, and creates it if it is missing.
pub(crate) fn open_lock(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::io("open", path, source))
}

/// Puts a file with these bytes at `path`, by way of `temporary` on the same file system.
pub(crate) fn replace(
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), StoreError> {
    let published = write_and_rename(path, temporary, bytes, mode, durability);
    if published.is_err() {
        // The error at hand is the one to report; what is left goes with the temporary directory.
        fs::remove_file(temporary).ok();
    }
    published
}

fn write_and_rename(
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), StoreError> {
    let mut file = create(temporary, mode)?;
    file.write_all(bytes).map_err(|source| StoreError::io("write", path, source))?;
    if durability == Durability::Precious {
        file.sync_data().map_err(|source| StoreError::io("write", path, source))?;
    }
    fs::rename(temporary, path).map_err(|source| StoreError::io("replace", path, source))
}

/// Creates `path` and its missing parents, each with exactly `mode`.
pub(crate) fn create_dirs(path: &Path, mode: u32) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dirs(parent, mode)?;
    }
    create_dir(path, mode)
}

/// Creates one directory with exactly `mode`; leaves one that is there as it is.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|source| StoreError::io("set the mode of", path, source)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => Err(StoreError::io("create", path, source)),
    }
}
