//! The finished image: put together, and taken to where it was asked for.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::Request;
use crate::build::Workshop;
use crate::build::files;
use crate::build::files::Keep;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::LayerOrigin;
use crate::build::schedule::Site;
use crate::build::schedule::blocking;
use crate::image;
use crate::image::Export;
use crate::image::ImageError;
use crate::image::Ownership;
use crate::image::Parts;
use crate::image::StoredImage;
use crate::layer::Tree;
use crate::oci::Timestamp;
use crate::progress::Event;
use crate::progress::Task;
use crate::transfer;
use crate::transfer::Push;
use crate::transfer::Pushed;

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The local store, under the tags of the build.
    Store,
    /// The registries of the tags.
    Registry,
    /// An OCI layout in a tar.
    OciTar(Destination),
    /// An OCI layout in a directory.
    OciDirectory(PathBuf),
    /// A docker-archive.
    DockerTar(Destination),
    /// The root file system in a tar.
    RootfsTar(Destination),
    /// The root file system in a directory.
    RootfsDirectory(PathBuf),
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output (`dest=-`).
    Stdout,
    /// A file.
    File(PathBuf),
}

/// What a delivery needs of the image.
enum Need {
    /// The documents; the blobs may stay where they are.
    Documents,
    /// Every blob, in the store.
    Blobs,
    /// The files.
    Files,
}

impl Site {
    /// The time of what is made now.
    pub(crate) fn created(&self) -> Timestamp {
        self.request.now.clamped(self.request.options.source_date_epoch)
    }
}

/// Makes sure that the image may be pushed, if it is to be, before anything is built.
pub(crate) async fn check_push(
    request: &Request,
    workshop: &Workshop,
) -> Result<(), BuildErrorKind> {
    if !request.outputs.contains(&Output::Registry) {
        return Ok(());
    }
    Ok(transfer::check_push(&workshop.client, &request.tags, &workshop.progress).await?)
}

/// Fixes the bytes of config and manifest, and puts both into the store.
pub(crate) fn assemble(site: &Site, built: &BuiltStage) -> Result<StoredImage, BuildErrorKind> {
    let target = site.plan.stages.last().expect("a plan has a target");
    let (base, own): (Vec<_>, Vec<_>) =
        built.layers.iter().cloned().partition(|layer| layer.origin == LayerOrigin::Base);
    let created = site.created();
    let image = image::assemble(Parts {
        config: target.config.clone(),
        inherited_history: target.inherited_history,
        base: base.into_iter().map(|built| built.layer).collect(),
        own: own.into_iter().map(|b| (b.layer, b.created.unwrap_or(created))).collect(),
        created,
        source_date_epoch: site.request.options.source_date_epoch,
    });
    Ok(image.save(&site.workshop.store)?)
}

/// Takes the image to every place that was asked for; tells where it was pushed to.
pub(crate) async fn deliver(
    site: &Arc<Site>,
    image: &StoredImage,
    built: &BuiltStage,
) -> Result<Vec<Pushed>, BuildErrorKind> {
    let mut pushed = Vec::new();
    for output in &site.request.outputs {
        match output.need() {
            Need::Documents => pushed.extend(push(site, image).await?),
            Need::Blobs => {
                site.bases.fetch(&site.workshop, &built.layers()).await?;
                let (site, image, output) = (Arc::clone(site), image.clone(), output.clone());
                blocking(move || archive(&site, &image, &output)).await?;
            }
            Need::Files => {
                site.bases
                    .fetch(&site.workshop, &site.workshop.not_unpacked(&built.layers()))
                    .await?;
                let tree = site.tree(built, Keep::Yes).await?;
                let (site, output) = (Arc::clone(site), output.clone());
                let written = blocking(move || rootfs(&site, &*tree, &output)).await;
                written.map_err(files::uncover)?;
            }
        }
    }
    Ok(pushed)
}

impl Output {
    fn need(&self) -> Need {
        match self {
            Self::Registry => Need::Documents,
            Self::Store | Self::OciTar(_) | Self::OciDirectory(_) | Self::DockerTar(_) => {
                Need::Blobs
            }
            Self::RootfsTar(_) | Self::RootfsDirectory(_) => Need::Files,
        }
    }
}

async fn push(site: &Site, image: &StoredImage) -> Result<Vec<Pushed>, BuildErrorKind> {
    let workshop = &site.workshop;
    let (tags, origins) = (&site.request.tags, site.bases.origins());
    let (client, store, progress) = (&*workshop.client, &*workshop.store, &workshop.progress);
    let push = Push { client, store, origins: &origins, ahead: site.ahead.as_deref(), progress };
    Ok(push.run(&image.descriptor, tags).await?)
}

/// The outputs that are made of blobs.
fn archive(site: &Site, image: &StoredImage, output: &Output) -> Result<(), BuildErrorKind> {
    let (store, tags) = (&site.workshop.store, &site.request.tags);
    match output {
        Output::Store => {
            for tag in tags {
                store.tag(tag, &image.descriptor)?;
            }
        }
        Output::OciDirectory(path) => {
            image::write_oci_layout(store, &Export::of_image(image, tags), path)?;
        }
        Output::OciTar(destination) => destination.write(site, "oci", |mut output| {
            image::write_oci_tar(store, &Export::of_image(image, tags), &mut output)
        })?,
        Output::DockerTar(destination) => destination.write(site, "docker", |mut output| {
            image::write_docker_archive(store, image, tags, &mut output)
        })?,
        Output::Registry | Output::RootfsTar(_) | Output::RootfsDirectory(_) => {}
    }
    Ok(())
}

/// The outputs that are made of files.
fn rootfs(site: &Site, tree: &dyn Tree, output: &Output) -> Result<(), BuildErrorKind> {
    let epoch = site.request.options.source_date_epoch;
    match output {
        Output::RootfsTar(destination) => destination
            .write(site, "tar", |output| image::write_rootfs_tar(tree, epoch, output).map(drop))?,
        Output::RootfsDirectory(path) => {
            let task = Task::start(&site.workshop.progress, format!("write {}", path.display()));
            let owners =
                if site.workshop.is_real_root() { Ownership::Kept } else { Ownership::CallingUser };
            for skipped in image::write_rootfs_dir(tree, epoch, owners, path)? {
                let text = format!("{} was left out: {}", skipped.path, skipped.reason);
                site.workshop.progress.report(Event::Warning(text));
            }
            task.finish();
        }
        _ => {}
    }
    Ok(())
}

impl Destination {
    /// Has `work` write to the place. A file that could not be finished is removed.
    fn write(
        &self,
        site: &Site,
        kind: &str,
        work: impl FnOnce(Box<dyn Write + Send>) -> Result<(), ImageError>,
    ) -> Result<(), BuildErrorKind> {
        let progress = &site.workshop.progress;
        let task = Task::start(progress, format!("write {kind} archive to {}", self.name()));
        match self {
            Self::Stdout => work(Box::new(io::stdout()))?,
            Self::File(path) => {
                let file = create(path)?;
                work(Box::new(file)).inspect_err(|_| {
                    // Half an archive is worse than none.
                    let _ = std::fs::remove_file(path);
                })?;
            }
        }
        task.finish();
        Ok(())
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn create(path: &Path) -> Result<File, BuildErrorKind> {
    File::create(path).map_err(|source| BuildErrorKind::Scratch { path: path.to_owned(), source })
}
