//! May this be pushed? Asked before the work, not after it.
//!
//! An upload is begun and cancelled at once: nothing else makes every registry look at the right to
//! push. Token servers grant less than they are asked for without a word (rule B034).

use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::oci::Reference;
use crate::registry::client::{Call, Client, Patience};
use crate::registry::error::RegistryError;
use crate::registry::scope::Scopes;
use crate::registry::secret::Credential;

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

    /// Asks whether the registry of `target` answers as one: with or without a demand for proof of
    /// identity.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Unreachable`], or what it answers instead.
    pub async fn check_reach(&self, target: &Reference) -> Result<(), RegistryError> {
        let endpoint = self.registry(target)?;
        let (scopes, subject) = (Scopes::none(), endpoint.name.clone());
        let call = Call { endpoint: &endpoint, scopes, subject, patience: Patience::Brief };
        let mut request = self.request(&call, Method::GET, "/v2/")?;
        let response = self.deliver(&call, &mut request).await?;
        if response.status().is_success() || response.status() == StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        Err(self.failure(&call, response).await)
    }

    /// The credentials that are kept here for the repository of `target`; `None` is nobody.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Credentials`] if they cannot be read.
    pub async fn known_as(&self, target: &Reference) -> Result<Option<Credential>, RegistryError> {
        self.credential(&self.registry(target)?).await
    }
}
