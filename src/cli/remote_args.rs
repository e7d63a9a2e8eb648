//! The arguments of commands about what registries hold.

use clap::Args;
use clap::Subcommand;

use crate::cli::place::Place;
use crate::oci::Platform;
use crate::oci::Reference;

/// `coracle copy`
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// A name in a registry, or `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
    /// `docker-archive:FILE[:NAME]`.
    pub(crate) source: Place,
    /// Where it goes, in the same forms. A directory is added to; a file is written anew.
    pub(crate) target: Place,
    /// Of an index, copy the image for this platform alone.
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
}

/// `coracle index`
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Make an index of images in registries, and keep it in the store
    Create(IndexEditArguments),
    /// Add images to an index in the store; one for the same platform is replaced
    Add(IndexEditArguments),
    /// Print an index in the store as JSON
    Inspect {
        /// The index.
        index: Reference,
    },
    /// Copy an index and all its images to the registry that its name says
    Push {
        /// The index.
        index: Reference,
    },
}

/// `coracle index create` and `add`
#[derive(Debug, Args)]
pub(crate) struct IndexEditArguments {
    /// Add a note to the index; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// The name of the index.
    pub(crate) index: Reference,
    /// Images in registries, by tag or digest; of an index, all its images.
    #[arg(required = true)]
    pub(crate) images: Vec<Reference>,
}
