//! The rights of a push, checked before the work that leads to it.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::oci::Reference;
use crate::progress::{Event, Progress};
use crate::registry::Client;
use crate::transfer::TransferError;
use crate::transfer::push::by_repository;

/// Checks that every repository of `targets` may be pushed to, all at once.
///
/// A registry that is in trouble just now is told of, and not an error: it has until the image is
/// ready.
///
/// # Errors
///
/// Fails if a registry is not there, or refuses.
pub async fn check_push(
    client: &Client,
    targets: &[Reference],
    progress: &Arc<dyn Progress>,
) -> Result<(), TransferError> {
    let groups = by_repository(targets);
    let checks = groups.iter().filter_map(|group| group.first()).map(async |target| {
        match client.check_push(target).await {
            Err(error) if error.is_trouble() => {
                let text = format!("whether `{target}` may be pushed is not known yet: {error}");
                progress.report(Event::Warning(text));
                Ok(())
            }
            result => result.map_err(TransferError::Registry),
        }
    });
    try_join_all(checks).await.map(drop)
}
