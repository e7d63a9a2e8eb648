//! The arguments of commands about what registries hold.

use clap::Args;
use clap::Subcommand;

use crate::oci::Reference;

/// `coracle copy`
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// An image in a registry, or `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`.
    pub(crate) source: String,
    /// Its new name in a registry.
    pub(crate) target: Reference,
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
