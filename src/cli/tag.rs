//! `coracle tag`: another name for an image in the store.

use crate::cli::args::TagArguments;
use crate::cli::diagnostic::Failure;
use crate::cli::failure;
use crate::cli::images::unknown;
use crate::cli::session::Session;

/// Gives the image its other name.
pub(crate) fn tag(session: &Session<'_>, arguments: &TagArguments) -> Result<(), Failure> {
    let store = session.store()?;
    let found = store.resolve(&arguments.source).map_err(|error| failure::store(&error))?;
    let descriptor = found.ok_or_else(|| unknown(&arguments.source))?;
    store.tag(&arguments.target, &descriptor).map_err(|error| failure::store(&error))
}
