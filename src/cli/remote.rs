//! `coracle ls`, `rm`, `manifest` and `copy`: what registries hold, without keeping it here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::cli::args::ProgressMode;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::remote_args::CopyArguments;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::cli::summary;
use crate::image;
use crate::oci::Descriptor;
use crate::oci::Reference;
use crate::store::Store;
use crate::transfer;

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

/// Copies an image, or an index with all its images, to another name.
pub(crate) fn copy(session: &Session<'_>, arguments: &CopyArguments) -> Result<(), Failure> {
    let (store, client) = (Arc::new(session.store()?), session.client()?);
    let progress = session.display();
    let target = std::slice::from_ref(&arguments.target);
    let local = local_source(&store, &arguments.source)?;
    let pushed = block_on(&session.cancel, async {
        let failed = |error| failure::transfer(&error);
        transfer::check_push(&client, target, &progress).await.map_err(failed)?;
        let image = if let Some(image) = local {
            image
        } else {
            let source = arguments.source.parse::<Reference>();
            let source = source.map_err(|error| Failure::from_error(Exit::Usage, &error, None))?;
            transfer::gather(&client, &store, &source).await.map_err(failed)?
        };
        let origins = BTreeMap::new();
        let pushed = transfer::push(&client, &store, &image, target, &origins, &progress).await;
        pushed.map_err(failed)
    })?;
    if session.global.progress != ProgressMode::Quiet {
        summary::push(&pushed);
    }
    Ok(())
}

/// The image in a layout or an archive, read into the store; `None` for a name in a registry.
fn local_source(store: &Store, source: &str) -> Result<Option<Descriptor>, Failure> {
    let Some((kind, path)) = source.split_once(':') else { return Ok(None) };
    let images = match kind {
        "oci" => image::import_directory(store, Path::new(path)),
        "oci-archive" | "docker-archive" => {
            let file = File::open(path).map_err(|error| {
                let title = format!("cannot read `{path}`");
                let diagnostic = Diagnostic::new(title).note("cause", error.to_string());
                Failure::new(Exit::Usage, diagnostic)
            })?;
            image::import_tar(store, file)
        }
        _ => return Ok(None),
    };
    let images = images.map_err(|error| failure::image(&error))?;
    match &images[..] {
        [only] => Ok(Some(only.descriptor.clone())),
        others => {
            let title = format!("`{path}` has {} images, and not one", others.len());
            let hint = "read them with `coracle load`, and push the one that is meant";
            let diagnostic = Diagnostic::new(title).hinted(Some(hint.to_owned()));
            Err(Failure::new(Exit::Usage, diagnostic))
        }
    }
}
