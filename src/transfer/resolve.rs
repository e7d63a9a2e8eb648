//! What a name means: the manifest and the config of one image, from the registry or the store.
//!
//! No layer is fetched here. What was read before is in the store, so a tag that has not moved costs
//! one `HEAD`, and a digest nothing. Rules B046 to B054.

use serde::de::DeserializeOwned;

use crate::oci::{
    Descriptor, Document, DocumentError, ImageConfig, ImageIndex, Layer, Manifest, MediaType,
    Platform, Reference,
};
use crate::registry::{Client, MAX_MANIFEST};
use crate::store::Store;
use crate::transfer::TransferError;
use crate::transfer::content::Content;

/// Deeper nests of indexes are refused (rule B054).
const DEEPEST: usize = 3;

/// An image of which everything but the layers is here.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// The name that it was asked for by.
    pub reference: Reference,
    /// What the name points to: a manifest, or an index.
    pub descriptor: Descriptor,
    /// The manifest itself.
    pub manifest_descriptor: Descriptor,
    /// The manifest.
    pub manifest: Document<Manifest>,
    /// The config.
    pub config: Document<ImageConfig>,
}

impl ResolvedImage {
    /// The layers, bottom first, each with what it unpacks to.
    pub fn layers(&self) -> Vec<Layer> {
        // `load` has made sure that the two lists are equally long.
        let descriptors = self.manifest.value().layers.iter().cloned();
        let diff_ids = self.config.value().rootfs.diff_ids.iter().copied();
        let pairs = descriptors.zip(diff_ids);
        pairs.map(|(descriptor, diff_id)| Layer { descriptor, diff_id }).collect()
    }

    /// What to tell whoever asked for `wanted`, if this is an image for something else: a name may
    /// stand for one image alone, whatever it is for (rule B054).
    pub fn other_platform(&self, wanted: &Platform) -> Option<String> {
        let platform = &self.config.value().platform;
        let unknown = platform.os.is_empty() && platform.architecture.is_empty();
        if unknown || wanted.fit(platform).is_some() {
            return None;
        }
        let name = self.reference.familiar();
        Some(format!("`{name}` is an image for {platform}, and not for {wanted}"))
    }
}

/// Asks the registry what `reference` means on `platform`, and stores manifest and config.
///
/// # Errors
///
/// Fails if the registry does not answer as it should, or the image is not for `platform`.
pub async fn resolve(
    client: &Client,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, TransferError> {
    let content = Content::of(store, Some(client), reference);
    let known = reference.digest().and_then(|digest| content.stored_manifest(digest));
    let descriptor = if let Some(descriptor) = known {
        descriptor
    } else {
        let found = client.resolve(reference).await.map_err(TransferError::Registry)?;
        if let Some(bytes) = &found.bytes {
            content.keep(bytes, &found.descriptor)?;
        }
        found.descriptor
    };
    load(&content, descriptor, platform).await
}

/// The image that `reference` means in the store; nobody else is asked.
///
/// `None` if the store has no image of that name, or not all of its manifest and config, or none for
/// `platform`.
///
/// # Errors
///
/// Fails if the store cannot be read, or what it has is damaged.
pub fn find(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<ResolvedImage>, TransferError> {
    let documents = Content::of(store, None, reference);
    let named = store.resolve(reference).map_err(TransferError::Store)?;
    let by_digest = || reference.digest().and_then(|digest| documents.stored_manifest(digest));
    let Some(descriptor) = named.or_else(by_digest) else { return Ok(None) };
    // Without a client nothing is ever waited for, so one poll is all it takes.
    let mut found = std::pin::pin!(load(&documents, descriptor, platform));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match found.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Ok(image)) => Ok(Some(image)),
        std::task::Poll::Ready(Err(
            TransferError::MissingContent { .. } | TransferError::NoPlatform { .. },
        ))
        | std::task::Poll::Pending => Ok(None),
        std::task::Poll::Ready(Err(error)) => Err(error),
    }
}

/// Follows `descriptor` down to the manifest for `platform`, and reads its config.
async fn load(
    content: &Content<'_>,
    descriptor: Descriptor,
    platform: &Platform,
) -> Result<ResolvedImage, TransferError> {
    let reference = content.reference();
    let mut manifest_descriptor = descriptor.clone();
    let mut depth = 0;
    while manifest_descriptor.media_type.is_index() {
        depth += 1;
        if depth > DEEPEST {
            return Err(TransferError::TooDeep(Box::new(reference.clone())));
        }
        let bytes = content.manifest(&manifest_descriptor).await?;
        let index: Document<ImageIndex> = parse(reference, bytes, "image index")?;
        manifest_descriptor = choose(reference, index.value(), platform)?;
    }
    if !manifest_descriptor.media_type.is_manifest() {
        return Err(TransferError::UnknownKind { reference: Box::new(reference.clone()) });
    }
    let bytes = content.manifest(&manifest_descriptor).await?;
    let manifest: Document<Manifest> = parse(reference, bytes, "image manifest")?;
    let config_descriptor = &manifest.value().config;
    if !is_image_config(&config_descriptor.media_type) {
        let reason = format!("its config is a `{}`", config_descriptor.media_type);
        let source = DocumentError::Unusable { what: "container image", reason };
        return Err(TransferError::Document { reference: Box::new(reference.clone()), source });
    }
    let bytes = content.small_blob(config_descriptor, MAX_MANIFEST).await?;
    let config: Document<ImageConfig> = parse(reference, bytes, "image config")?;
    let (layers, diff_ids) = (manifest.value().layers.len(), config.value().rootfs.diff_ids.len());
    if layers != diff_ids {
        let reference = Box::new(reference.clone());
        return Err(TransferError::LayerCount { reference, layers, diff_ids });
    }
    let reference = reference.clone();
    Ok(ResolvedImage { reference, descriptor, manifest_descriptor, manifest, config })
}

/// Charts, signatures and the like are stored as manifests too, but are no images.
fn is_image_config(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::OciConfig | MediaType::DockerConfig => true,
        // What some old tools wrote.
        MediaType::Other(text) => {
            matches!(text.as_str(), "" | "application/json" | "application/octet-stream")
        }
        _ => false,
    }
}

fn parse<T: DeserializeOwned>(
    reference: &Reference,
    bytes: Vec<u8>,
    what: &'static str,
) -> Result<Document<T>, TransferError> {
    Document::parse(bytes, what).map_err(|source| TransferError::Document {
        reference: Box::new(reference.clone()),
        source,
    })
}

/// The entry of an index that fits `wanted` best: the first among equals (rules B051 to B053).
fn choose(
    reference: &Reference,
    index: &ImageIndex,
    wanted: &Platform,
) -> Result<Descriptor, TransferError> {
    let usable = |entry: &&Descriptor| {
        let known = entry.media_type.is_manifest() || entry.media_type.is_index();
        let unknown_os = entry.platform.as_ref().is_some_and(|it| it.os == "unknown");
        let kind = entry.annotations.get("vnd.docker.reference.type").map(String::as_str);
        known && !unknown_os && kind != Some("attestation-manifest")
    };
    let usable: Vec<&Descriptor> = index.manifests.iter().filter(usable).collect();
    let fits = |entry: &&Descriptor| match &entry.platform {
        Some(platform) => wanted.fit(platform),
        // An entry that does not say fits if it is the only one: a nested index, or a lone image.
        None => (usable.len() == 1).then_some(0),
    };
    let best = usable.iter().copied().filter_map(|entry| Some((fits(&entry)?, entry)));
    match best.min_by_key(|(fit, _)| *fit) {
        Some((_, entry)) => Ok(entry.clone()),
        None => Err(TransferError::NoPlatform {
            reference: Box::new(reference.clone()),
            wanted: Box::new(wanted.clone()),
            available: usable.iter().filter_map(|entry| entry.platform.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn entry(name: &str, platform: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(MediaType::OciManifest, Digest::of(name), 1);
        entry.platform = platform.map(|text| {
            let mut parts = text.split('/').map(str::to_owned);
            let (os, architecture) = (parts.next(), parts.next());
            Platform {
                os: os.unwrap_or_default(),
                architecture: architecture.unwrap_or_default(),
                variant: parts.next(),
                ..Platform::default()
            }
        });
        entry
    }

    #[track_caller]
    fn check(entries: Vec<Descriptor>, wanted: &str, expected: Option<&str>) {
        let index = ImageIndex {
            schema_version: 2,
            media_type: None,
            manifests: entries,
            annotations: std::collections::BTreeMap::new(),
        };
        let reference = "x".parse().expect("a reference");
        let chosen = choose(&reference, &index, &wanted.parse().expect("a platform"));
        let digest = chosen.ok().map(|descriptor| descriptor.digest);
        assert_eq!(digest, expected.map(Digest::of), "{wanted}");
    }

    #[test]
    fn b051_the_best_fit_is_chosen_and_the_first_among_equals() {
        let arms = || {
            vec![
                entry("a", Some("linux/amd64")),
                entry("5", Some("linux/arm/v5")),
                entry("7", Some("linux/arm/v7")),
                entry("7b", Some("linux/arm/v7")),
                entry("64", Some("linux/arm64/v8")),
            ]
        };
        check(arms(), "linux/arm/v7", Some("7"));
        check(arms(), "linux/arm/v6", Some("5"));
        check(arms(), "linux/arm64", Some("64"));
        check(arms(), "linux/amd64/v3", Some("a"));
        check(arms(), "linux/s390x", None);
    }

    #[test]
    fn b052_attestations_and_strangers_are_passed_over() {
        let mut attestation = entry("att", Some("linux/amd64"));
        attestation
            .annotations
            .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let mut stranger = entry("x", Some("linux/amd64"));
        stranger.media_type = MediaType::Other("application/x".into());
        let unknown = entry("u", Some("unknown/unknown"));
        let real = entry("real", Some("linux/amd64"));
        check(
            vec![attestation.clone(), stranger.clone(), unknown.clone(), real],
            "linux/amd64",
            Some("real"),
        );
        check(vec![attestation, stranger, unknown], "linux/amd64", None);
    }

    #[test]
    fn b053_the_error_lists_what_there_is() {
        let reference: Reference = "x".parse().expect("a reference");
        let error = TransferError::NoPlatform {
            reference: Box::new(reference),
            wanted: Box::new("linux/s390x".parse().expect("a platform")),
            available: vec!["linux/amd64".parse().expect("a platform")],
        };
        let text =
            "`docker.io/library/x:latest` has no image for linux/s390x, only for linux/amd64";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn b051_a_lone_entry_need_not_say_what_it_is_for() {
        check(vec![entry("only", None)], "linux/amd64", Some("only"));
        check(vec![entry("a", None), entry("b", None)], "linux/amd64", None);
    }
}
