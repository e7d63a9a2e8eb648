//! What can go wrong with a finished image.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::image::Problem;
use crate::layer::{LayerError, TreeError};
use crate::oci::{DocumentError, ImagePath};
use crate::store::{ContentsError, StoreError};

/// Why an image could not be checked or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A blob of the image could not be read from the store, or a file not be put into place.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document of the image is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What the image consists of is not known.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The image breaks rules that every image must keep.
    #[error("the image is not well formed: {}", list(.0))]
    Invalid(Vec<Problem>),
    /// The output could not be written.
    #[error("cannot write the output")]
    Output {
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the output directory could not be written.
    #[error("cannot write `{path}` to `{}`", .destination.display())]
    File {
        /// Which file of the image.
        path: ImagePath,
        /// The output directory.
        destination: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The output directory has a directory where the image has something else.
    #[error("`{}` has a directory in the place of `{path}`", .destination.display())]
    InTheWay {
        /// Which file of the image.
        path: ImagePath,
        /// The output directory.
        destination: PathBuf,
    },
    /// The image's files could not be read.
    #[error("cannot read the image's files")]
    Tree {
        /// Why not.
        source: TreeError,
    },
    /// The image's files could not be put into an archive.
    #[error("cannot archive the image's files")]
    Archive {
        /// Why not.
        source: LayerError,
    },
    /// A file that should hold images does not.
    #[error("this is not an archive of images: {0}")]
    NotAnImage(String),
    /// An archive of images could not be read.
    #[error("cannot read the archive")]
    Input {
        /// What the operating system, or the reader of the format, said.
        source: io::Error,
    },
    /// A file of a layout could not be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The output directory exists and has something in it.
    #[error("`{}` is not empty", .0.display())]
    NotEmpty(PathBuf),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ImageError {
    pub(crate) fn file(path: &ImagePath, destination: &Path, source: io::Error) -> Self {
        Self::File { path: path.clone(), destination: destination.to_owned(), source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::InTheWay { .. } => {
                Some("write to an empty directory, or remove what is in the way".to_owned())
            }
            Self::NotEmpty(_) => Some("write to an empty or a new directory".to_owned()),
            Self::Output { source } | Self::File { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Some("free some space, or write the output elsewhere".to_owned())
            }
            Self::Tree { source } => source.hint(),
            _ => None,
        }
    }
}

impl From<TreeError> for ImageError {
    fn from(source: TreeError) -> Self {
        Self::Tree { source }
    }
}

impl From<LayerError> for ImageError {
    fn from(source: LayerError) -> Self {
        Self::Archive { source }
    }
}
