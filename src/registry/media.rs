//! Which kind of manifest some bytes are.
//!
//! Pure. Registries send wrong, general and missing content types, and the document itself may
//! leave its type out. Rules B044 and B045.

use serde::Deserialize;

use crate::oci::MediaType;

/// The most bytes that a manifest, an index or a config may have (rule B049).
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// What is accepted in answer to a request for a manifest (rule B043).
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Why the kind of a manifest cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeError {
    /// The header and the document name two kinds.
    Two {
        /// What the header says.
        header: MediaType,
        /// What the document says.
        document: MediaType,
    },
    /// It is a kind that coracle cannot read.
    Unsupported(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    media_type: Option<String>,
    schema_version: Option<u32>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Whether a content type says which kind of manifest it is. General ones do not.
pub(crate) fn is_specific(media_type: &MediaType) -> bool {
    media_type.is_index() || media_type.is_manifest()
}

/// Tells the kind of `document` from the `Content-Type` it came with, if any, and itself.
///
/// # Errors
///
/// Fails if the two contradict each other, or coracle cannot read that kind.
pub fn manifest_type(content_type: Option<&str>, document: &[u8]) -> Result<MediaType, TypeError> {
    let header = content_type.map(MediaType::from).filter(|it| !is_general(it));
    let shape: Option<Shape> = serde_json::from_slice(document).ok();
    let inner = shape.as_ref().and_then(|shape| shape.media_type.as_deref()).map(MediaType::from);
    let found = match (header, inner) {
        (Some(header), Some(document)) if header != document => {
            return Err(TypeError::Two { header, document });
        }
        (Some(only), _) | (None, Some(only)) => only,
        (None, None) => shape.as_ref().and_then(by_shape).ok_or_else(|| {
            let old = shape.as_ref().is_some_and(|shape| shape.schema_version == Some(1));
            let name = if old { "schema 1" } else { content_type.unwrap_or("none") };
            TypeError::Unsupported(name.to_owned())
        })?,
    };
    if is_specific(&found) { Ok(found) } else { Err(TypeError::Unsupported(found.to_string())) }
}

/// Types that servers send for what they do not know.
fn is_general(media_type: &MediaType) -> bool {
    let MediaType::Other(text) = media_type else { return false };
    let text = text.to_ascii_lowercase();
    matches!(
        text.as_str(),
        "" | "text/plain" | "application/json" | "application/octet-stream" | "text/html"
    )
}

/// An OCI document may leave its type out; Docker's may not.
fn by_shape(shape: &Shape) -> Option<MediaType> {
    match (shape.schema_version, &shape.manifests, &shape.layers, &shape.config) {
        (Some(1), ..) => None,
        (_, Some(_), None, None) => Some(MediaType::OciIndex),
        (_, None, Some(_), Some(_)) => Some(MediaType::OciManifest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn check(header: Option<&str>, document: &str, expected: Result<MediaType, TypeError>) {
        assert_eq!(manifest_type(header, document.as_bytes()), expected, "{header:?} {document}");
    }

    #[test]
    fn b044_the_header_decides_and_parameters_do_not_matter() {
        check(Some(OCI), "{}", Ok(MediaType::OciManifest));
        let header = format!("{DOCKER}; charset=ISO-8859-1");
        check(Some(&header), "{}", Ok(MediaType::DockerManifest));
    }

    #[test]
    fn b044_the_document_decides_where_the_header_is_general_or_missing() {
        let document = format!(r#"{{"mediaType":"{DOCKER}"}}"#);
        for header in [None, Some("text/plain; charset=utf-8"), Some("application/json"), Some("")]
        {
            check(header, &document, Ok(MediaType::DockerManifest));
        }
        check(None, r#"{"schemaVersion":2,"manifests":[]}"#, Ok(MediaType::OciIndex));
        check(None, r#"{"schemaVersion":2,"config":{},"layers":[]}"#, Ok(MediaType::OciManifest));
    }

    #[test]
    fn b044_two_kinds_are_refused() {
        let document = format!(r#"{{"mediaType":"{OCI}"}}"#);
        let (header, inner) = (MediaType::DockerManifest, MediaType::OciManifest);
        let two = TypeError::Two { header, document: inner };
        check(Some(DOCKER), &document, Err(two));
    }

    #[test]
    fn b045_schema_1_and_strangers_are_unsupported() {
        let unsupported = |name: &str| Err(TypeError::Unsupported(name.to_owned()));
        let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        check(Some(old), r#"{"schemaVersion":1}"#, unsupported(old));
        check(None, r#"{"schemaVersion":1,"fsLayers":[]}"#, unsupported("schema 1"));
        check(Some("application/json"), r#"{"schemaVersion":1}"#, unsupported("schema 1"));
        check(None, r#"{"mediaType":"application/x"}"#, unsupported("application/x"));
        check(Some("text/html"), "<html>", unsupported("text/html"));
        check(None, "", unsupported("none"));
    }
}
