//! The finished image: put together, and taken to where it was asked for.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildError;
use crate::build::BuildErrorKind;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::Site;
use crate::build::schedule::blocking;
use crate::image;
use crate::image::Assembled;
use crate::oci::Descriptor;
use crate::oci::Layer;
use crate::oci::MediaType;
use crate::oci::Timestamp;
use crate::progress::Task;
use crate::transfer;
use crate::transfer::Pushed;

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The local store, under the tags of the build.
    Store,
    /// The registries of the tags.
    Registry,
    /// An OCI layout in a tar.
    OciTar(Destination),
    /// An OCI layout in a directory.
    OciDirectory(PathBuf),
    /// A docker-archive.
    DockerTar(Destination),
    /// The root file system in a tar.
    RootfsTar(Destination),
    /// The root file system in a directory.
    RootfsDirectory(PathBuf),
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output (`dest=-`).
    Stdout,
    /// A file.
    File(PathBuf),
}

/// What became of the image.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Where it was pushed to, and how much of it had to be uploaded.
    pub pushed: Vec<Pushed>,
}

impl Site {
    /// The time of what is made now.
    pub(crate) fn created(&self) -> Timestamp {
        self.request.now.clamped(self.request.options.source_date_epoch)
    }
}
