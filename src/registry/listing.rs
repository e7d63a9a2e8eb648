//! What a repository has: its tags, and the manifests that refer to another one. And their removal.
//!
//! Rules B062 and B063. A list comes in pages; a registry decides how long these are, and may end
//! them all too early, but not make us read without end.

use reqwest::{
    Method, StatusCode, Url,
    header::{ACCEPT, HeaderValue, LINK},
};
use serde::Deserialize;

use crate::http::{Follow, Request, Response, resolve, same_origin};
use crate::oci::{Descriptor, Digest, ImageIndex, MediaType, Reference};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::error::{Misbehaviour, RegistryError};
use crate::registry::manifest::pull_call;
use crate::registry::media::MAX_MANIFEST;
use crate::registry::scope::Scopes;

/// How many entries a page may have. ECR refuses more (rule B063).
const PAGE: usize = 1000;

/// The most pages that are read.
const MOST_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of the repository of `reference`, in the registry's order.
    ///
    /// # Errors
    ///
    /// Fails if the registry refuses, or answers with something else.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let endpoint = self.registry(reference)?;
        let subject = format!("{}/{}", endpoint.name, endpoint.repository);
        let call = pull_call(&endpoint, subject, true);
        let path = endpoint.path(&format!("tags/list?n={PAGE}"));
        let mut url = Some(self.request(&call, Method::GET, &path)?.url);
        let mut tags: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            let Some(here) = url.take() else { break };
            let response = self.call(&call, Request::new(Method::GET, here)).await?;
            if response.status() != StatusCode::OK {
                return Err(self.failure(&call, response).await);
            }
            // By now it is known whether the host speaks plain HTTP.
            let here = response.url().clone();
            let next = next_page(&response);
            let body = response.bytes(MAX_MANIFEST).await;
            let body = body.map_err(|source| call.unreachable(source))?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|_| call.misbehaved(Misbehaviour::NotAList("tags")))?;
            let page = page.tags.unwrap_or_default();
            let last = page.last().cloned();
            let full = page.len() >= PAGE;
            let before = tags.len();
            tags.extend(page.into_iter().filter(|tag| !tag.is_empty()));
            // Some registries cut a list without a word of where it goes on.
            let by_last = || last.filter(|_| full).map(|last| after(&here, &last));
            url = next.or_else(by_last).filter(|_| tags.len() > before);
        }
        Ok(tags)
    }

    /// The manifests that name `subject` as theirs. Asks for the registry's own list, and reads the
    /// fall-back tag where it has none (rule B062).
    ///
    /// # Errors
    ///
    /// Fails if the registry refuses, or answers with something else.
    pub async fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let endpoint = self.registry(reference)?;
        let name = reference.with_digest(*subject).to_string();
        let call = pull_call(&endpoint, name, true);
        let mut url = {
            let path = endpoint.path(&format!("referrers/{subject}"));
            Some(self.request(&call, Method::GET, &path)?.url)
        };
        let mut found: Vec<Descriptor> = Vec::new();
        for page in 0..MOST_PAGES {
            let Some(here) = url.take() else { break };
            let index = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
            let request = Request::new(Method::GET, here).header(ACCEPT, index);
            let response = self.call(&call, request).await;
            // Registries that know no referrers answer 404; Harbor has answered 401.
            let unknown = match &response {
                Ok(response) => !response.status().is_success() && response.status().as_u16() < 500,
                Err(
                    RegistryError::Unauthorized { .. }
                    | RegistryError::Misbehaved { source: Misbehaviour::NoChallenge, .. },
                ) => true,
                Err(_) => false,
            };
            if page == 0 && unknown {
                return Ok(self.fallback_index(reference, subject).await?.1.manifests);
            }
            let response = response?;
            if response.status() != StatusCode::OK {
                return Err(self.failure(&call, response).await);
            }
            url = next_page(&response);
            let body = response.bytes(MAX_MANIFEST).await;
            let body = body.map_err(|source| call.unreachable(source))?;
            let index: ImageIndex = serde_json::from_slice(&body)
                .map_err(|_| call.misbehaved(Misbehaviour::NotAList("referrers")))?;
            found.extend(index.manifests);
        }
        Ok(found)
    }

    /// The index under the fall-back tag of `subject`, and that tag. Whatever else is there counts
    /// as none: GitLab takes the tag for the image's own digest (rule B062).
    pub(crate) async fn fallback_index(
        &self,
        reference: &Reference,
        subject: &Digest,
    ) -> Result<(String, ImageIndex), RegistryError> {
        let tag = format!("sha256-{}", subject.hex());
        let none = ImageIndex {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
        };
        let name = format!("{}/{}:{tag}", reference.registry(), reference.repository());
        let Ok(named) = name.parse::<Reference>() else { return Ok((tag, none)) };
        let endpoint = self.registry(&named)?;
        let call = pull_call(&endpoint, name, true);
        let found = match self.get(&call, &tag, None).await {
            Ok(found) => found,
            Err(
                RegistryError::NotFound { .. }
                | RegistryError::UnsupportedManifest { .. }
                | RegistryError::Unauthorized { .. },
            ) => return Ok((tag, none)),
            Err(error) => return Err(error),
        };
        let is_list = found.descriptor.media_type == MediaType::OciIndex
            && found.descriptor.digest != *subject;
        let parsed = found.bytes.as_deref().filter(|_| is_list);
        let index = parsed.and_then(|bytes| serde_json::from_slice(bytes).ok());
        Ok((tag, index.unwrap_or(none)))
    }

    /// Removes a tag or, where `reference` has a digest, a manifest with all its tags.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or the registry refuses. Many registries remove by digest only.
    pub async fn remove(&self, reference: &Reference) -> Result<(), RegistryError> {
        let endpoint = self.registry(reference)?;
        let scopes = Scopes::delete(&endpoint.repository);
        let subject = reference.to_string();
        let call = Call { endpoint: &endpoint, scopes, subject, patience: Patience::Retry };
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let path = endpoint.path(&format!("manifests/{name}"));
        let request = self.request(&call, Method::DELETE, &path)?.follow(Follow::Never);
        let response = self.call(&call, request).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.failure(&call, response).await)
    }
}

/// Where a list goes on: `Link: <url>; rel="next"`, on the same host.
fn next_page(response: &Response) -> Option<Url> {
    let links = response.headers().get_all(LINK);
    let texts = links.iter().filter_map(|it| it.to_str().ok());
    let next = texts.flat_map(|text| text.split(',')).find_map(next_link)?;
    resolve(response.url(), next).ok().filter(|url| same_origin(response.url(), url))
}

fn next_link(link: &str) -> Option<&str> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |it: &str| matches!(it.trim(), "rel=next" | "rel=\"next\"");
    parameters.split(';').any(is_next).then_some(url)
}

/// The page behind `last`.
fn after(page: &Url, last: &str) -> Url {
    let mut url = page.clone();
    url.query_pairs_mut().clear().append_pair("n", &PAGE.to_string()).append_pair("last", last);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b063_a_link_to_the_next_page() {
        let check = |text: &str, expected| assert_eq!(next_link(text), expected, "{text}");
        check("</v2/a/tags/list?last=x&n=2>; rel=\"next\"", Some("/v2/a/tags/list?last=x&n=2"));
        check("<https://r/x>; title=\"a\"; rel=next", Some("https://r/x"));
        check("</x>; rel=\"prev\"", None);
        check("/x; rel=\"next\"", None);
        check("</x", None);
    }
}
