//! `coracle images` and `coracle rmi`: what is in the store.

use std::io::Write as _;

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::size::human;
use crate::image;
use crate::image::StoredImage;
use crate::oci::Reference;

/// Lists every image with its size.
pub(crate) fn images(session: &Session<'_>) -> Result<(), Failure> {
    let store = session.store()?;
    let mut rows = vec![["IMAGE", "DIGEST", "SIZE"].map(str::to_owned)];
    for (reference, descriptor) in store.images().map_err(|error| failure::store(&error))? {
        let stored = StoredImage::read(&store, &descriptor);
        let stored = stored.map_err(|error| failure::image(&error))?;
        let size = image::report(&stored).iter().map(|layer| layer.size).sum();
        rows.push([reference.familiar(), descriptor.digest.short(), human(size)]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let mut stdout = std::io::stdout().lock();
    for [image, digest, size] in &rows {
        // Nobody is left to tell when standard output is closed.
        let _ = writeln!(stdout, "{image:first$}  {digest:second$}  {size}");
    }
    Ok(())
}

/// Removes names. What no name needs any more stays for the cache's sake, until `coracle prune`.
pub(crate) fn remove(session: &Session<'_>, references: &[Reference]) -> Result<(), Failure> {
    let store = session.store()?;
    for reference in references {
        let found = store.resolve(reference).map_err(|error| failure::store(&error))?;
        if found.is_none() {
            return Err(unknown(reference));
        }
        store.untag(reference).map_err(|error| failure::store(&error))?;
    }
    Ok(())
}

/// There is no such image in the store.
pub(crate) fn unknown(reference: &Reference) -> Failure {
    let title = format!("the store has no image `{}`", reference.familiar());
    let hint = "`coracle images` lists what it has; `coracle pull` fetches an image".to_owned();
    Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint)))
}
