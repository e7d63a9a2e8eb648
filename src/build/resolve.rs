//! Base images: finds their manifests and configs before anything runs, and their layers only
//! when somebody must read them.

use std::collections::BTreeMap;

use crate::build::BuildError;
use crate::build::BuildErrorKind;
use crate::build::LikeStage;
use crate::build::PullPolicy;
use crate::build::Request;
use crate::build::Workshop;
use crate::build::schedule::BuiltLayer;
use crate::build::schedule::BuiltStage;
use crate::build::schedule::LayerOrigin;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::nearest;
use crate::oci::ChainId;
use crate::oci::Digest;
use crate::oci::Layer;
use crate::oci::Reference;
use crate::plan::BaseImage;
use crate::plan::Bases;
use crate::plan::MissingBase;
use crate::progress::Task;
use crate::snapshot::Committed;
use crate::transfer;
use crate::transfer::ResolvedImage;

/// The base images of a build.
#[derive(Debug, Default)]
pub(crate) struct ResolvedBases(BTreeMap<BaseImage, ResolvedImage>);

/// Resolves every image that the target needs, also those that only an ONBUILD trigger names.
pub(crate) async fn bases(
    dockerfile: &Dockerfile,
    request: &Request,
    workshop: &Workshop,
) -> Result<ResolvedBases, Vec<BuildError>> {
    let mut known = ResolvedBases::default();
    loop {
        let missing = crate::plan::missing_bases(dockerfile, &request.options, &known.configs())
            .map_err(|errors| errors.into_iter().map(BuildError::from).collect::<Vec<_>>())?;
        if missing.is_empty() {
            return Ok(known);
        }
        let resolved = missing.iter().map(|missing| async move {
            let image = find_image(&missing.base, request.pull, workshop).await;
            let image = image.map_err(|kind| like_stage(kind, missing, dockerfile));
            image.map(|image| (missing.base.clone(), image)).map_err(|kind| kind.at(missing.span))
        });
        let resolved = futures_util::future::try_join_all(resolved).await;
        known.0.extend(resolved.map_err(|error| vec![error])?);
    }
}

/// An image that cannot be had is perhaps a stage whose name has a slip.
fn like_stage(
    kind: BuildErrorKind,
    missing: &MissingBase,
    dockerfile: &Dockerfile,
) -> BuildErrorKind {
    let BuildErrorKind::Transfer(error) = kind else { return kind };
    let names = dockerfile.stages.iter().filter_map(|stage| stage.name.as_ref());
    let names: Vec<&str> = names.map(|name| name.value.as_str()).collect();
    let familiar = missing.base.reference.familiar();
    let name = familiar.split([':', '@']).next().unwrap_or_default();
    match nearest(name, &names) {
        Some(stage) => {
            let (error, stage) = (Box::new(error), stage.to_owned());
            BuildErrorKind::LikeStage(LikeStage { error, stage })
        }
        None => BuildErrorKind::Transfer(error),
    }
}

/// One image: from the store if it has one of that name, otherwise from the registry.
///
/// # Errors
///
/// Where neither has it, or it cannot be read.
pub async fn find_image(
    base: &BaseImage,
    pull: PullPolicy,
    workshop: &Workshop,
) -> Result<ResolvedImage, BuildErrorKind> {
    let BaseImage { reference, platform } = base;
    if pull == PullPolicy::Missing
        && let Some(image) = transfer::find(&workshop.store, reference, platform)?
    {
        return Ok(image);
    }
    let task = Task::start(&workshop.progress, format!("resolve {}", reference.familiar()));
    let image = transfer::resolve(&workshop.client, &workshop.store, reference, platform).await;
    transfer::report_warnings(&workshop.client, &workshop.progress);
    let image = image?;
    task.note(image.descriptor.digest.to_string());
    task.finish();
    Ok(image)
}

impl ResolvedBases {
    /// What the plan asks for.
    pub(crate) fn configs(&self) -> Bases {
        let config = |image: &ResolvedImage| image.config.value().clone();
        self.0.iter().map(|(base, image)| (base.clone(), config(image))).collect()
    }

    /// The base as the beginning of a stage.
    pub(crate) fn stage(&self, base: &BaseImage) -> BuiltStage {
        let image = self.0.get(base).expect("the plan names only bases that it was given");
        let built = |layer| BuiltLayer { layer, created: None, origin: LayerOrigin::Base };
        BuiltStage { layers: image.layers().into_iter().map(built).collect() }
    }

    /// Where each base layer can be had.
    pub(crate) fn origins(&self) -> BTreeMap<Digest, Reference> {
        let layers = |image: &ResolvedImage| {
            let reference = image.reference.clone();
            image
                .layers()
                .into_iter()
                .map(move |layer| (layer.descriptor.digest, reference.clone()))
        };
        self.0.values().flat_map(layers).collect()
    }

    /// Downloads those of `layers` whose blobs the store lacks.
    pub(crate) async fn fetch(
        &self,
        workshop: &Workshop,
        layers: &[Layer],
    ) -> Result<(), BuildErrorKind> {
        let store = &workshop.store;
        let is_missing = |layer: &&Layer| !store.contains(&layer.descriptor.digest);
        let missing: Vec<Layer> = layers.iter().filter(is_missing).cloned().collect();
        let origins = self.origins();
        let mut by_image: BTreeMap<&Reference, Vec<Layer>> = BTreeMap::new();
        for layer in missing {
            if let Some(reference) = origins.get(&layer.descriptor.digest) {
                by_image.entry(reference).or_default().push(layer);
            }
        }
        for (reference, layers) in by_image {
            let task = Task::start(&workshop.progress, format!("pull {}", reference.familiar()));
            let fetched =
                transfer::fetch_layers(&workshop.client, store, reference, &layers, &task).await;
            transfer::report_warnings(&workshop.client, &workshop.progress);
            fetched?;
            task.finish();
        }
        Ok(())
    }
}

impl Workshop {
    /// Those of `layers` that are in no snapshot, so that unpacking needs their blobs.
    pub(crate) fn not_unpacked(&self, layers: &[Layer]) -> Vec<Layer> {
        let mut chain = None;
        let mut missing = Vec::new();
        for layer in layers {
            let next = chain
                .map_or(ChainId::base(layer.diff_id), |chain: ChainId| chain.with(layer.diff_id));
            if !self.snapshotter.contains(next) {
                missing.push(layer.clone());
            }
            chain = Some(next);
        }
        missing
    }

    /// The layers as directories. Their blobs must be in the store.
    pub(crate) fn unpack(&self, layers: &[Layer]) -> Result<Committed, BuildErrorKind> {
        let missing = self.not_unpacked(layers);
        let task = (!missing.is_empty()).then(|| {
            Task::start(
                &self.progress,
                match missing.len() {
                    1 => "unpack 1 layer".to_owned(),
                    count => format!("unpack {count} layers"),
                },
            )
        });
        let open = |layer: &Layer| {
            let file = self.store.open_blob(&layer.descriptor.digest);
            let file = file.map_err(std::io::Error::other)?;
            Ok(Box::new(file) as Box<dyn std::io::Read + Send>)
        };
        let files = self.snapshotter.ensure(layers, &open)?;
        if let Some(task) = task {
            task.finish();
        }
        Ok(files)
    }
}
