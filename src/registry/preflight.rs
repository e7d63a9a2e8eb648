//! May this be pushed? Asked before the work, not after it.
//!
//! An upload is begun and cancelled at once: nothing else makes every registry look at the right to
//! push. Token servers grant less than they are asked for without a word (rule B034).

use std::time::Duration;

use crate::oci::Reference;
use crate::registry::client::{Call, Client, Patience};
use crate::registry::error::RegistryError;
use crate::registry::scope::Scopes;

/// The cancelling is a courtesy, and nobody should wait for it.
const CANCEL_LIMIT: Duration = Duration::from_secs(3);

impl Client {
    /// Checks that blobs may be sent to the repository of `target`. Nothing is left there.
    ///
    /// # Errors
    ///
    /// Fails if the registry cannot be reached or refuses. It is asked again a little, since a
    /// registry that is only in trouble now may be well when the image is ready: such a failure is
    /// [`is_trouble`](RegistryError::is_trouble).
    pub async fn check_push(&self, target: &Reference) -> Result<(), RegistryError> {
        let endpoint = self.registry(target)?;
        let call = Call {
            endpoint: &endpoint,
            scopes: Scopes::push(&endpoint.repository),
            subject: format!("{}/{}", endpoint.name, endpoint.repository),
            patience: Patience::Brief,
        };
        let session = self.begin_upload(&call).await?;
        let _ = tokio::time::timeout(CANCEL_LIMIT, self.abandon(&call, &session.to)).await;
        Ok(())
    }
}
