//! `coracle ls`, `rm` and `manifest`: what registries hold, without keeping it here.

use std::io::Write as _;

use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::oci::Reference;

/// Prints the tags of a repository, one a line.
pub(crate) fn list(session: &Session<'_>, repository: &Reference) -> Result<(), Failure> {
    let client = session.client()?;
    let tags = block_on(&session.cancel, async {
        client.tags(repository).await.map_err(|error| failure::registry(&error))
    })?;
    let mut stdout = std::io::stdout().lock();
    for tag in tags {
        // Nobody is left to tell when standard output is closed.
        let _ = writeln!(stdout, "{tag}");
    }
    Ok(())
}

/// Removes tags or manifests from their registries.
pub(crate) fn remove(session: &Session<'_>, references: &[Reference]) -> Result<(), Failure> {
    let client = session.client()?;
    block_on(&session.cancel, async {
        for reference in references {
            let removed = client.remove(reference).await;
            removed.map_err(|error| failure::removal(&error, reference))?;
        }
        Ok(())
    })
}

/// Prints a manifest or index, byte for byte as the registry has it.
pub(crate) fn manifest(session: &Session<'_>, reference: &Reference) -> Result<(), Failure> {
    let client = session.client()?;
    let bytes = block_on(&session.cancel, async {
        let failed = |error| failure::registry(&error);
        let found = client.resolve(reference).await.map_err(failed)?;
        match found.bytes {
            Some(bytes) => Ok(bytes),
            None => client.manifest(reference, &found.descriptor).await.map_err(failed),
        }
    })?;
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().lock().write_all(&bytes);
    Ok(())
}
