//! Transfers with a real registry, and rules about whole images.

mod ahead;
mod registry;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::oci::{Descriptor, Digest, Reference};
use crate::progress::Progress;
use crate::registry::Client;
use crate::store::Store;
use crate::transfer::{Push, Pushed, TransferError};

/// A push of what is finished.
async fn push(
    client: &Client,
    store: &Store,
    image: &Descriptor,
    targets: &[Reference],
    origins: &BTreeMap<Digest, Reference>,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Pushed>, TransferError> {
    Push { client, store, origins, ahead: None, progress }.run(image, targets).await
}
