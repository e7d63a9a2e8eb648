//! Finished images: put together, checked, measured, and written in every form that is asked for.
//!
//! [`assemble()`] turns a planned config and its layers into the exact bytes of config and manifest,
//! and does no I/O. [`Assembled::save`] puts them into the store. [`validate()`] checks every rule
//! that a finished image must keep. The `write_…` functions give it away: as an OCI layout (a
//! directory or a tar archive), as a Docker archive, or as its bare files (a directory or a tar
//! archive). Every archive is the same, byte for byte, for the same image and names.

mod archive;
mod assemble;
mod directory;
mod docker_archive;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod import;
mod layout;
mod pick;
mod report;
mod rootfs;
mod stored;
mod validate;

pub use assemble::{Assembled, Parts, assemble};
pub use directory::{Ownership, Skipped, write_rootfs_dir};
pub use docker_archive::write_docker_archive;
pub use error::ImageError;
pub use import::{Imported, import_directory, import_tar};
pub use layout::{Export, ExportName, write_oci_layout, write_oci_tar};
pub use pick::{LayoutName, import_one};
pub use report::{LayerSize, report};
pub use rootfs::write_rootfs_tar;
pub use stored::StoredImage;
pub use validate::{Depth, Problem, validate};
