//! `coracle save`: an image in one file.

use std::io::Write;
use std::path::Path;

use crate::cli::args::ArchiveFormat;
use crate::cli::args::SaveArguments;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::images::unknown;
use crate::cli::session::Session;
use crate::image;
use crate::image::Export;
use crate::image::ImageError;
use crate::image::StoredImage;

/// Writes the archive; a file that could not be finished is removed.
pub(crate) fn save(session: &Session<'_>, arguments: &SaveArguments) -> Result<(), Failure> {
    let store = session.store()?;
    let reference = &arguments.reference;
    let found = store.resolve(reference).map_err(|error| failure::store(&error))?;
    let descriptor = found.ok_or_else(|| unknown(reference))?;
    let stored = StoredImage::read(&store, &descriptor);
    let image = stored.map_err(|error| failure::image(&error))?;
    let references = std::slice::from_ref(reference);
    let write = |output: &mut dyn Write| match arguments.format {
        ArchiveFormat::Docker => image::write_docker_archive(&store, &image, references, output),
        ArchiveFormat::Oci => {
            image::write_oci_tar(&store, &Export::of_image(&image, references), output)
        }
    };
    if arguments.output == Path::new("-") {
        return write(&mut std::io::stdout().lock()).map_err(|error| failure::image(&error));
    }
    write_file(&arguments.output, &write)
}

/// Has `write` write a file; one that could not be finished is removed.
pub(crate) fn write_file(
    path: &Path,
    write: &dyn Fn(&mut dyn Write) -> Result<(), ImageError>,
) -> Result<(), Failure> {
    let mut file = std::fs::File::create(path).map_err(|error| {
        let title = format!("cannot write `{}`", path.display());
        Failure::new(Exit::Machine, Diagnostic::new(title).note("cause", error.to_string()))
    })?;
    write(&mut file).map_err(|error| {
        // Half an archive is worse than none.
        let _ = std::fs::remove_file(path);
        failure::image(&error)
    })
}
