//! `coracle load`: images from a file into the store.

use std::path::Path;

use crate::cli::args::LoadArguments;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::summary;
use crate::image;

/// Reads every image and names it as the archive does.
pub(crate) fn load(session: &Session<'_>, arguments: &LoadArguments) -> Result<(), Failure> {
    let store = session.store()?;
    let input = &arguments.input;
    let imported = if input == Path::new("-") {
        image::import_tar(&store, std::io::stdin().lock())
    } else if input.is_dir() {
        image::import_directory(&store, input)
    } else {
        let file = std::fs::File::open(input).map_err(|error| {
            let title = format!("cannot read `{}`", input.display());
            Failure::new(Exit::Usage, Diagnostic::new(title).note("cause", error.to_string()))
        })?;
        image::import_tar(&store, std::io::BufReader::new(file))
    };
    for image in imported.map_err(|error| failure::image(&error))? {
        match image.reference {
            Some(reference) => {
                let tagged = store.tag(&reference, &image.descriptor);
                tagged.map_err(|error| failure::store(&error))?;
                summary::loaded(&reference, &image.descriptor);
            }
            None => summary::nameless(&image.descriptor),
        }
    }
    Ok(())
}
