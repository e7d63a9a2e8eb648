//! `coracle inspect`: an image's manifest and config, as JSON.

use std::io::Write as _;

use serde_json::json;

use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::images::unknown;
use crate::cli::session::Session;
use crate::oci::Platform;
use crate::oci::Reference;
use crate::transfer;

/// Prints one JSON object: reference, digest, manifest, config.
pub(crate) fn inspect(session: &Session<'_>, reference: &Reference) -> Result<(), Failure> {
    let store = session.store()?;
    let found = transfer::find(&store, reference, &Platform::host());
    let image = found.map_err(|error| failure::transfer(&error))?;
    let image = image.ok_or_else(|| unknown(reference))?;
    let object = json!({
        "reference": image.reference,
        "digest": image.manifest.digest(),
        "manifest": image.manifest.value(),
        "config": image.config.value(),
    });
    let text = serde_json::to_string_pretty(&object).expect("a JSON value is serialisable");
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(())
}
