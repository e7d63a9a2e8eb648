//! Whether a registry answers, knows who asks, and lets them pull and push.

use std::error::Error;

use crate::cli::diagnostic::Failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::oci::Reference;
use crate::registry::RegistryError;

/// One thing that was asked, and how it went.
#[derive(Debug)]
pub(super) struct Check {
    /// Stays what it is: `reachable`, `credentials`, `pull`, `push`.
    pub(super) name: &'static str,
    /// Whether it went well.
    pub(super) is_well: bool,
    /// What was found, or what is wrong.
    pub(super) detail: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Check {
    fn well(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, is_well: true, detail: detail.into(), hint: None }
    }

    fn failed(name: &'static str, error: &RegistryError) -> Self {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail.extend([": ", &error.to_string()]);
            cause = error.source();
        }
        Self { name, is_well: false, detail, hint: error.hint() }
    }
}

/// What was found about a registry.
#[derive(Debug)]
pub(super) struct RegistryReport {
    /// What was asked about.
    pub(super) reference: Reference,
    /// In the order in which they were asked. The first that fails is the last.
    pub(super) checks: Vec<Check>,
}

impl RegistryReport {
    /// Whether everything went well.
    pub(super) fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.is_well)
    }
}

/// Asks the registry of `reference`.
pub(super) fn examine(
    session: &Session<'_>,
    reference: &Reference,
) -> Result<RegistryReport, Failure> {
    let client = session.client()?;
    let checks = block_on(&session.cancel, async {
        let mut checks = Vec::new();
        match client.check_reach(reference).await {
            Ok(()) => checks.push(Check::well("reachable", "it answers")),
            Err(error) => return Ok(vec![Check::failed("reachable", &error)]),
        }
        checks.push(match client.known_as(reference).await {
            Ok(Some(credential)) => Check::well("credentials", credential.describe()),
            Ok(None) => Check::well("credentials", "none are kept here"),
            Err(error) => Check::failed("credentials", &error),
        });
        checks.push(match client.resolve(reference).await {
            Ok(found) => Check::well("pull", found.descriptor.digest.to_string()),
            // What is to be pushed for the first time is not there yet.
            Err(RegistryError::NotFound { .. }) => {
                Check::well("pull", "there is no such image yet")
            }
            Err(error) => Check::failed("pull", &error),
        });
        checks.push(match client.check_push(reference).await {
            Ok(()) => Check::well("push", "allowed"),
            Err(error) => Check::failed("push", &error),
        });
        Ok(checks)
    })?;
    Ok(RegistryReport { reference: reference.clone(), checks })
}
