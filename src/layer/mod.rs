//! Layers: a change of a file system as a tar archive, written, read and applied.
//!
//! [`LayerWriter`] turns entries into a compressed tar in one pass, hashing both forms on the way;
//! [`diff`] finds the entries of an overlay's upper directory; [`apply`] unpacks a layer into a
//! directory of its own. Memory stays constant however large a layer is.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>.

mod apply;
mod compress;
pub(crate) mod decompress;
mod diff;
mod entry;
mod error;
mod header;
mod index;
pub(crate) mod marks;
mod owners;
mod pax;
mod read;
mod sparse;
mod stored;
#[cfg(test)]
pub(crate) mod testing;
mod tree;
mod whiteout;
mod write;

pub use apply::{Applied, Target, apply, settle};
pub use diff::{DiffSummary, diff};
pub(crate) use diff::{LinkOwners, diff_of};
pub use entry::{Entry, Kind};
pub use error::LayerError;
pub use index::{LayerIndex, LayerSource, LayerStack, TableOfContents};
pub(crate) use owners::{HELD, Record, STAT, Sidecar, is_internal, real_mode};
pub use owners::{OverlayFormat, Owners, record_directory};
pub(crate) use read::Content;
pub use read::{LayerReader, Names};
pub(crate) use stored::{HOST_LABELS, LayerDir, Stored};
pub use tree::{EmptyTree, Node, Tree, TreeError};
pub use write::{LayerWriter, Written};
