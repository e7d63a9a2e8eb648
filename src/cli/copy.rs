//! `coracle copy`: an image, or an index with all its images, from one place to another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use crate::cli::args::ProgressMode;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::place::Place;
use crate::cli::remote_args::CopyArguments;
use crate::cli::save::write_file;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::cli::summary;
use crate::image;
use crate::image::Export;
use crate::image::ExportName;
use crate::image::Imported;
use crate::image::LayoutName;
use crate::image::StoredImage;
use crate::oci::Descriptor;
use crate::oci::Platform;
use crate::oci::Reference;
use crate::progress::Task;
use crate::registry::Client;
use crate::store::Store;
use crate::transfer;
use crate::transfer::Push;
use crate::transfer::Pushed;

/// Copies the image; what it consists of passes through the store, under no name.
pub(crate) fn copy(session: &Session<'_>, arguments: &CopyArguments) -> Result<(), Failure> {
    let CopyArguments { source, target, platform } = arguments;
    let (store, client) = (Arc::new(session.store()?), Arc::new(session.client()?));
    let local = local(&store, source)?;
    let (image, pushed) = block_on(&session.cancel, async {
        let progress = session.display();
        let failed = |error| failure::transfer(&error);
        // A missing right is known before anything moves.
        if let Some(name) = target.registry() {
            let names = std::slice::from_ref(name);
            transfer::check_push(&client, names, &progress).await.map_err(failed)?;
        }
        let image = match (source, local) {
            (Place::Registry(name), _) => gather(&client, &store, name, platform.as_ref()).await?,
            (_, Some(image)) => one_of(&store, image, platform.as_ref())?,
            (_, None) => unreachable!("what is in no registry is here"),
        };
        if let Some(name) = target.registry() {
            let (client, store, progress) = (&client, &*store, &progress);
            let push = Push { client, store, origins: &BTreeMap::new(), ahead: None, progress };
            let pushed = push.run(&image, std::slice::from_ref(name)).await;
            return Ok((image, pushed.map_err(failed)?));
        }
        if let Some(name) = source.registry() {
            let task = Task::start(&progress, format!("pull {}", name.familiar()));
            let fetched = transfer::fetch_contents(&client, &store, name, &image, &task).await;
            transfer::report_warnings(&client, &progress);
            fetched.map_err(failed)?;
            task.finish();
        }
        Ok((image, Vec::<Pushed>::new()))
    })?;
    write(&store, &image, target)?;
    if session.global.progress != ProgressMode::Quiet {
        match target.registry() {
            Some(_) => summary::push(&pushed),
            None => summary::copied(&image),
        }
    }
    Ok(())
}

/// The image of a layout or an archive, read into the store; `None` for a name in a registry.
fn local(store: &Store, source: &Place) -> Result<Option<Descriptor>, Failure> {
    let failed = |error| failure::image(&error);
    let image = match source {
        Place::Registry(_) => return Ok(None),
        Place::Layout(directory, wanted) => {
            image::import_one(store, directory, wanted).map_err(failed)?
        }
        Place::OciArchive(file, tag) => {
            let is_meant = |it: &Imported| {
                let known = it.reference.as_ref().and_then(Reference::tag);
                tag.is_none() || it.name.as_deref() == tag.as_deref() || known == tag.as_deref()
            };
            one_image(file, read(store, file)?, is_meant)?
        }
        Place::DockerArchive(file, name) => {
            let is_meant = |it: &Imported| name.is_none() || it.reference == *name;
            one_image(file, read(store, file)?, is_meant)?
        }
    };
    Ok(Some(image))
}

fn read(store: &Store, file: &Path) -> Result<Vec<Imported>, Failure> {
    let opened = File::open(file).map_err(|error| {
        let title = format!("cannot read `{}`", file.display());
        Failure::new(Exit::Usage, Diagnostic::new(title).note("cause", error.to_string()))
    })?;
    image::import_tar(store, BufReader::new(opened)).map_err(|error| failure::image(&error))
}

/// The only image that is meant; one image may have several names.
fn one_image(
    file: &Path,
    images: Vec<Imported>,
    is_meant: impl Fn(&Imported) -> bool,
) -> Result<Descriptor, Failure> {
    let names: Vec<String> = images.iter().filter_map(|it| it.name.clone()).collect();
    let mut meant: Vec<Descriptor> =
        images.into_iter().filter(|it| is_meant(it)).map(|it| it.descriptor).collect();
    meant.dedup_by_key(|it| it.digest);
    if meant.len() == 1 {
        return Ok(meant.remove(0));
    }
    let found = if meant.is_empty() { "no such image" } else { "several images" };
    let title = format!("`{}` has {found}", file.display());
    let hint = format!("add the name of one, as in `FILE:NAME`: {}", names.join(", "));
    let hint = Some(hint).filter(|_| !names.is_empty());
    Err(Failure::new(Exit::Usage, Diagnostic::new(title).hinted(hint)))
}

/// The documents of what `name` means at its registry: all of an index, or the image for `platform`.
async fn gather(
    client: &Client,
    store: &Store,
    name: &Reference,
    platform: Option<&Platform>,
) -> Result<Descriptor, Failure> {
    let failed = |error| failure::transfer(&error);
    let Some(platform) = platform else {
        return transfer::gather(client, store, name).await.map_err(failed);
    };
    let image = transfer::resolve(client, store, name, platform).await.map_err(failed)?;
    let name = name.with_digest(image.manifest_descriptor.digest);
    transfer::gather(client, store, &name).await.map_err(failed)
}

/// Of an index in the store, the image for `platform`.
fn one_of(
    store: &Store,
    image: Descriptor,
    platform: Option<&Platform>,
) -> Result<Descriptor, Failure> {
    let Some(platform) = platform.filter(|_| image.media_type.is_index()) else { return Ok(image) };
    let name: Reference = "localhost/copied".parse().expect("a valid name");
    let found = transfer::find(store, &name.with_digest(image.digest), platform);
    let found = found.map_err(|error| failure::transfer(&error))?;
    found.map(|image| image.manifest_descriptor).ok_or_else(|| {
        let title = format!("the index {} has no image for {platform}", image.digest);
        Failure::new(Exit::Usage, Diagnostic::new(title))
    })
}

/// Writes what is in the store to a layout or an archive; a file that could not be finished is
/// removed.
fn write(store: &Store, image: &Descriptor, target: &Place) -> Result<(), Failure> {
    let failed = |error| failure::image(&error);
    let export = |tag: &Option<String>| {
        let name = ExportName { full: None, tag: tag.clone() };
        Export::read(store, image, name).map_err(failed)
    };
    match target {
        Place::Registry(_) => Ok(()),
        Place::Layout(directory, LayoutName { tag, digest: None }) => {
            image::write_oci_layout(store, &export(tag)?, directory).map_err(failed)
        }
        Place::Layout(..) => {
            let title = "an image cannot be given a digest";
            Err(Failure::new(Exit::Usage, Diagnostic::new(title)))
        }
        Place::OciArchive(file, tag) => {
            let export = export(tag)?;
            write_file(file, &|output| image::write_oci_tar(store, &export, output))
        }
        Place::DockerArchive(file, name) => {
            if image.media_type.is_index() {
                let title = "a docker-archive holds images, and no index";
                let hint = "choose an image with `--platform`, or write an `oci-archive:`";
                let diagnostic = Diagnostic::new(title).hinted(Some(hint.to_owned()));
                return Err(Failure::new(Exit::Usage, diagnostic));
            }
            let image = StoredImage::read(store, image).map_err(failed)?;
            let names: Vec<Reference> = name.iter().cloned().collect();
            write_file(file, &|output| image::write_docker_archive(store, &image, &names, output))
        }
    }
}
