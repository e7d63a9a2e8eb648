//! Blobs that are offered: there already, mounted from a neighbour, or wanted. And the sessions by
//! which they are sent: begun, found again, abandoned.
//!
//! `send` moves the bytes. Rules B065 to B072 and B079.

use reqwest::{Method, StatusCode, Url};

use crate::http::{self, Follow, Refused, Request, Response, check_private};
use crate::http::{resolve, same_origin};
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::dialogue::Place;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Misbehaviour, RegistryError};
use crate::registry::scope::Scopes;

/// So many repositories are asked for a blob before it is sent.
const MOST_NEIGHBOURS: usize = 2;

/// What a registry says to a blob that it is offered.
#[derive(Debug)]
pub enum Offer {
    /// It has it.
    Existing,
    /// It has taken it over from this other repository.
    Mounted(String),
    /// It wants it. Hand this to [`Client::upload`].
    Wanted(Session),
}

/// An upload that may have begun already: a mount that failed leaves one (rule B066), and so does a
/// process that was killed.
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) begun: Option<Url>,
    pub(crate) earlier: Option<Url>,
}

impl Session {
    /// Goes on where an earlier upload was noted to be, if the registry still knows of it.
    #[must_use]
    pub fn or_earlier(self, noted: &str) -> Self {
        Self { earlier: noted.parse().ok(), ..self }
    }
}

impl Client {
    /// Offers a blob to the repository of `target`: perhaps it is there, perhaps it can be mounted
    /// from one of the repositories of `from`: those on the same registry are tried, two at most.
    ///
    /// A mount that fails is no error: the blob can be sent.
    ///
    /// # Errors
    ///
    /// Fails if the registry cannot be reached or refuses access.
    pub async fn offer(
        &self,
        target: &Reference,
        blob: &Descriptor,
        from: &[Reference],
    ) -> Result<Offer, RegistryError> {
        let endpoint = self.registry(target)?;
        let call = push_call(&endpoint, blob);
        if self.has_blob(&call, blob).await? {
            return Ok(Offer::Existing);
        }
        let mut session = Session::default();
        let neighbours = from.iter().filter(|from| is_neighbour(from, target));
        for from in neighbours.take(MOST_NEIGHBOURS) {
            match self.mount(&endpoint, blob, from).await {
                Offer::Wanted(Session { begun: Some(begun), .. }) => {
                    if let Some(earlier) = session.begun.replace(begun) {
                        self.abandon(&call, &earlier).await;
                    }
                }
                Offer::Wanted(_) => {}
                offer => return Ok(offer),
            }
        }
        Ok(Offer::Wanted(session))
    }

    pub(crate) async fn has_blob(
        &self,
        call: &Call<'_>,
        blob: &Descriptor,
    ) -> Result<bool, RegistryError> {
        let path = call.endpoint.path(&format!("blobs/{}", blob.digest));
        // Storage on plain HTTP behind the registry: the worst it can do is to make us send a blob,
        // or a manifest that the registry then refuses.
        let request = self.request(call, Method::HEAD, &path)?.follow(Follow::Unencrypted);
        let response = self.call(call, request).await?;
        match response.status().as_u16() {
            200..=299 => Ok(true),
            408 | 429 | 499.. => Err(self.failure(call, response).await),
            // Some registries refuse a HEAD to those who may only push. The POST will tell.
            _ => Ok(false),
        }
    }

    async fn mount(&self, endpoint: &Endpoint, blob: &Descriptor, from: &Reference) -> Offer {
        let source = from.repository();
        let call = Call {
            scopes: Scopes::push(&endpoint.repository).and_pull(source),
            patience: Patience::Once,
            ..push_call(endpoint, blob)
        };
        let path = endpoint.path(&format!("blobs/uploads/?mount={}&from={source}", blob.digest));
        let Ok(request) = self.request(&call, Method::POST, &path) else {
            return Offer::Wanted(Session::default());
        };
        // Whatever goes wrong: the token server may not give out two scopes, the registry may not
        // know mounting or may answer it with any status. The upload does not depend on it (B066).
        match self.call(&call, request).await {
            Ok(response) if response.status() == StatusCode::CREATED => {
                Offer::Mounted(source.to_owned())
            }
            Ok(response) if response.status() == StatusCode::ACCEPTED => {
                Offer::Wanted(Session { begun: location(&call, &response).ok(), earlier: None })
            }
            _ => Offer::Wanted(Session::default()),
        }
    }

    /// Begins a session, and says where it goes on.
    pub(crate) async fn begin_upload(&self, call: &Call<'_>) -> Result<Place, RegistryError> {
        let request = self.request(call, Method::POST, &call.endpoint.path("blobs/uploads/"))?;
        let response = self.call(call, request).await?;
        if !matches!(response.status().as_u16(), 200..=202 | 204) {
            return Err(self.failure(call, response).await);
        }
        let smallest =
            response.header("oci-chunk-min-length").and_then(|it| it.trim().parse().ok());
        Ok(Place { to: location(call, &response)?, offset: 0, smallest: smallest.unwrap_or(0) })
    }

    /// Whether a URL belongs to the registry itself.
    pub(crate) fn is_ours(&self, call: &Call<'_>, url: &Url) -> Result<bool, RegistryError> {
        Ok(same_origin(&self.request(call, Method::GET, "/v2/")?.url, url))
    }

    /// Tells the registry that an upload, which was noted to go on at `place`, will not go on.
    pub async fn abandon_upload(&self, target: &Reference, place: &str) {
        if let (Ok(endpoint), Ok(session)) = (self.registry(target), place.parse()) {
            self.abandon(&upload_call(&endpoint, ""), &session).await;
        }
    }

    /// Tells the registry that a session is over. Nothing depends on it (rule B079).
    pub(crate) async fn abandon(&self, call: &Call<'_>, session: &Url) {
        if !self.is_ours(call, session).unwrap_or(false) {
            return;
        }
        let mut request = Request::new(Method::DELETE, session.clone());
        if let Ok(grant) = self.grant(call, &request).await {
            request.authorization = grant.map(|grant| grant.header);
        }
        let _ = self.send(&request, Patience::Once).await;
    }
}

pub(crate) fn push_call<'a>(endpoint: &'a Endpoint, blob: &Descriptor) -> Call<'a> {
    upload_call(endpoint, &format!("@{}", blob.digest))
}

/// A call for what is `of` a repository: `@sha256:…`, or the words for it.
pub(crate) fn upload_call<'a>(endpoint: &'a Endpoint, of: &str) -> Call<'a> {
    Call {
        endpoint,
        scopes: Scopes::push(&endpoint.repository),
        subject: format!("{}/{}{of}", endpoint.name, endpoint.repository),
        patience: Patience::Retry,
    }
}

/// Whether a blob can be mounted from one to the other: same registry, another repository.
fn is_neighbour(from: &Reference, target: &Reference) -> bool {
    from.registry() == target.registry() && from.repository() != target.repository()
}

/// Where an upload goes on, according to `response`.
pub(crate) fn location(call: &Call<'_>, response: &Response) -> Result<Url, RegistryError> {
    let header = response.headers().get("location");
    let header = header.ok_or_else(|| call.misbehaved(Misbehaviour::NoLocation))?;
    let text = String::from_utf8_lossy(header.as_bytes());
    session_url(response.url(), &text)
        .map_err(|source| call.misbehaved(Misbehaviour::BadLocation(source)))
}

/// Resolves a `Location` against the URL that answered with it (rules B069 to B071).
fn session_url(answered: &Url, location: &str) -> Result<Url, Refused> {
    let mut url = resolve(answered, location)?;
    if answered.scheme() == "https" && url.scheme() == "http" {
        // A registry that does not know of the TLS proxy before it means itself.
        let is_itself = url.host_str() == answered.host_str() && url.port() == answered.port();
        if !is_itself || url.set_scheme("https").is_err() {
            return Err(Refused::Downgrade(http::Place::of(&url)));
        }
    }
    check_private(answered, &url)?;
    Ok(url)
}

/// Adds the digest to a session's URL, and leaves the rest as it is: it may be signed (B069).
pub(crate) fn with_digest(session: &Url, digest: &Digest) -> Url {
    let mut url = session.clone();
    let added = format!("digest=sha256%3A{}", digest.hex());
    let query = match session.query() {
        None | Some("") => added,
        Some(query) => format!("{}&{added}", query.trim_end_matches('&')),
    };
    url.set_query(Some(&query));
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTED: &str = "https://r.example/v2/a/b/blobs/uploads/";

    #[test]
    fn b069_b071_locations_of_real_registries() {
        let check = |posted: &str, location: &str, expected: &str| {
            let url = session_url(&posted.parse().expect(posted), location);
            assert_eq!(url.map(String::from), Ok(expected.to_owned()), "{location}");
        };
        check(
            POSTED,
            "/v2/a/b/blobs/uploads/1?_state=x%2F%3D",
            "https://r.example/v2/a/b/blobs/uploads/1?_state=x%2F%3D",
        );
        check(POSTED, "1", "https://r.example/v2/a/b/blobs/uploads/1");
        check(POSTED, "https://r.example:443/u/1", "https://r.example/u/1");
        check(POSTED, "https://storage.example/u?sig=1", "https://storage.example/u?sig=1");
        check(POSTED, "http://r.example/u/1", "https://r.example/u/1");
        check(
            "https://r.example:8443/v2/",
            "http://r.example:8443/u/1",
            "https://r.example:8443/u/1",
        );
        check(
            "http://127.0.0.1:5000/v2/",
            "http://127.0.0.1:5000/u/1",
            "http://127.0.0.1:5000/u/1",
        );
    }

    #[test]
    fn b015_b070_locations_that_are_refused() {
        let posted = POSTED.parse().expect("a URL");
        for location in [
            "http://storage.example/u",
            "http://r.example:8080/u",
            "https://10.0.0.1/u",
            "https://169.254.169.254/u",
            "ftp://r.example/u",
        ] {
            assert!(session_url(&posted, location).is_err(), "{location}");
        }
    }

    #[test]
    fn b069_the_digest_is_added_and_nothing_else_changes() {
        let digest = Digest::of("");
        let check = |session: &str, before: &str| {
            let url = with_digest(&session.parse().expect(session), &digest);
            assert_eq!(url.as_str(), format!("{before}digest=sha256%3A{}", digest.hex()));
        };
        check("https://r/u/1", "https://r/u/1?");
        check("https://r/u/1?", "https://r/u/1?");
        check("https://r/u/1?_state=a%2Fb%3D&x=%7e", "https://r/u/1?_state=a%2Fb%3D&x=%7e&");
        check("https://r/u/1?a=b+c&", "https://r/u/1?a=b+c&");
    }

    #[test]
    fn b067_only_a_neighbour_is_mounted_from() {
        let check = |from: &str, target: &str, expected| {
            let parse = |text: &str| text.parse::<Reference>().expect(text);
            assert_eq!(is_neighbour(&parse(from), &parse(target)), expected, "{from} {target}");
        };
        check("r.example/a:1", "r.example/b:1", true);
        check("r.example/a:1", "r.example/a:2", false);
        check("s.example/a:1", "r.example/b:1", false);
        check("python", "index.docker.io/me/x", true);
    }
}
