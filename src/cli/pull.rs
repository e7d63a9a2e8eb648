//! `coracle pull`: an image from a registry, into the store.

use std::sync::Arc;

use crate::cli::args::PullArguments;
use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::oci::Platform;
use crate::progress::Event;
use crate::progress::Task;
use crate::transfer;

/// Pulls manifest, config and layers, and names the image in the store.
pub(crate) fn pull(session: &Session<'_>, arguments: &PullArguments) -> Result<(), Failure> {
    let (store, client) = (Arc::new(session.store()?), Arc::new(session.client()?));
    let progress = session.display();
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let reference = &arguments.reference;
    block_on(&session.cancel, async {
        let task = Task::start(&progress, format!("pull {}", reference.familiar()));
        let image = transfer::resolve(&client, &store, reference, &platform);
        let image = image.await;
        transfer::report_warnings(&client, &progress);
        let image = image.map_err(|error| failure::transfer(&error))?;
        if let Some(text) = image.other_platform(&platform) {
            progress.report(Event::Warning(text));
        }
        let layers = image.layers();
        let fetched = transfer::fetch_layers(&client, &store, reference, &layers, &task).await;
        transfer::report_warnings(&client, &progress);
        fetched.map_err(|error| failure::transfer(&error))?;
        let tagged = store.tag(reference, &image.manifest_descriptor);
        tagged.map_err(|error| failure::store(&error))?;
        task.finish();
        Ok(())
    })
}
