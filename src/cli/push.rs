//! `coracle push`: images from the store to the registries that their names say.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cli::args::ProgressMode;
use crate::cli::args::PushArguments;
use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::images::unknown;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::cli::summary;
use crate::oci::Descriptor;
use crate::oci::Reference;
use crate::transfer::Push;

/// Pushes every reference; those that name the same image go together, so that its blobs move
/// once per repository.
pub(crate) fn push(session: &Session<'_>, arguments: &PushArguments) -> Result<(), Failure> {
    let (store, client) = (Arc::new(session.store()?), session.client()?);
    let progress = session.display();
    let mut images: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
    for reference in &arguments.references {
        let found = store.resolve(reference).map_err(|error| failure::store(&error))?;
        let image = found.ok_or_else(|| unknown(reference))?;
        match images.iter_mut().find(|(known, _)| known.digest == image.digest) {
            Some((_, references)) => references.push(reference.clone()),
            None => images.push((image, vec![reference.clone()])),
        }
    }
    let origins = BTreeMap::new();
    let (client, store, progress) = (&client, &*store, &progress);
    let push = Push { client, store, origins: &origins, ahead: None, progress };
    let pushed = block_on(&session.cancel, async {
        let mut pushed = Vec::new();
        for (image, references) in &images {
            let done = push.run(image, references).await;
            pushed.extend(done.map_err(|error| failure::transfer(&error))?);
        }
        Ok(pushed)
    })?;
    if session.global.progress != ProgressMode::Quiet {
        summary::push(&pushed);
    }
    Ok(())
}
