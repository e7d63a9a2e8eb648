//! Manifests about other manifests, at registries that keep no list of them (rule B088).
//!
//! Whoever pushes a manifest with a `subject` to such a registry keeps the list himself: an index
//! under the tag `sha256-<hex>` of the subject. It is read, added to and written back; of two who do
//! so at the same moment one may lose, as the specification admits.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::oci::{Descriptor, Digest, Document, MediaType, Reference};
use crate::registry::client::Client;
use crate::registry::error::RegistryError;

/// What a list of referrers tells of a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Config>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

/// The subject of a manifest, and the entry for its list.
pub(crate) fn entry(media_type: &MediaType, bytes: &[u8]) -> Option<(Digest, Descriptor)> {
    let about: About = serde_json::from_slice(bytes).ok()?;
    let subject = about.subject?.digest;
    let mut entry = Descriptor::new(media_type.clone(), Digest::of(bytes), bytes.len() as u64);
    entry.artifact_type = about.artifact_type.or(about.config.map(|config| config.media_type));
    entry.annotations = about.annotations;
    Some((subject, entry))
}

impl Client {
    /// Adds `entry` to the list of what refers to `subject`.
    pub(crate) async fn note_referrer(
        &self,
        target: &Reference,
        subject: &Digest,
        entry: Descriptor,
    ) -> Result<(), RegistryError> {
        let (tag, mut index) = self.fallback_index(target, subject).await?;
        if index.manifests.iter().any(|known| known.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        let document = Document::new(index);
        let put = Box::pin(self.put_manifest(target, &tag, &MediaType::OciIndex, document.bytes()));
        put.await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b088_an_entry_has_the_artifacts_type_and_annotations() {
        let digest = Digest::of("subject");
        let check = |rest: &str, expected: Option<&str>| {
            let text = format!(
                r#"{{"subject":{{"digest":"{digest}","size":1,"mediaType":"x"}},"annotations":{{"a":"b"}}{rest}}}"#
            );
            let (subject, entry) =
                entry(&MediaType::OciManifest, text.as_bytes()).expect("it has a subject");
            assert_eq!((subject, entry.artifact_type.as_deref()), (digest, expected));
            assert_eq!(entry.digest, Digest::of(&text));
            assert_eq!(entry.annotations["a"], "b");
        };
        check(r#","artifactType":"t","config":{"mediaType":"c"}"#, Some("t"));
        check(r#","config":{"mediaType":"c"}"#, Some("c"));
        check("", None);
        assert_eq!(entry(&MediaType::OciManifest, b"{}"), None);
    }
}
