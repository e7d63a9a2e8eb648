//! Transfers: what moves between registries and the store.
//!
//! A pull comes in two halves, since a build needs every base's manifest and config at once, but a
//! base's layers only if somebody reads them. A push moves each blob once per repository, or not at
//! all where the registry has it or can mount it.
//!
//! What is in the store was verified; what is not in the store is fetched only when it is needed.

mod ahead;
mod content;
mod error;
mod fetch;
mod gather;
mod preflight;
mod push;
mod resolve;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::progress::{Event, Progress};
use crate::registry::Client;
use crate::registry::Credential;

pub use crate::transfer::ahead::{Ahead, LayerSink};
pub use crate::transfer::error::TransferError;
pub use crate::transfer::fetch::{fetch_contents, fetch_layers};
pub use crate::transfer::gather::{gather, gather_entries};
pub use crate::transfer::preflight::check_push;
pub use crate::transfer::push::{Push, Pushed};
pub use crate::transfer::resolve::{ResolvedImage, find, resolve};
pub use crate::transfer::stream::{LayerStream, stream_layer};

/// How many blobs move at once.
pub(crate) const PARALLEL: usize = 4;

/// Runs `work` as a task of its own, on whatever thread is free. It ends with the future.
pub(crate) async fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    struct EndWithMe<T>(tokio::task::JoinHandle<T>);

    impl<T> Drop for EndWithMe<T> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }

    let mut task = EndWithMe(tokio::spawn(work));
    match (&mut task.0).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody aborts it but we: the runtime is going down, and with it whoever waits.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Tells what registries have warned of, and which mirrors failed, since the last time.
pub fn report_warnings(client: &Client, progress: &Arc<dyn Progress>) {
    for warning in client.take_warnings() {
        progress.report(Event::Warning(warning));
    }
}

/// Checks a user's credentials with the registry called `host`, before they are kept.
///
/// # Errors
///
/// Fails if the registry cannot be reached, or refuses them.
pub async fn check_login(
    client: &Client,
    host: &str,
    credential: &Credential,
) -> Result<(), TransferError> {
    client.check_login(host, credential).await.map_err(TransferError::Registry)
}
