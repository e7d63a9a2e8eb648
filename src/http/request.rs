//! A request, with a body that can be sent again.

use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::http::Body;

/// Which redirects of a request are followed. Credentials never go to another host with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// None: the body is a secret, or the answer matters more than where it leads.
    Never,
    /// Those that do not lead from `https` to `http`.
    Encrypted,
    /// All: what comes back is verified by its digest, so it may come over any wire.
    Unencrypted,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL that the user or the registry's API asks for, before any redirect.
    pub url: Url,
    /// Headers, without `Authorization` and `Content-Length`.
    pub headers: HeaderMap,
    /// `Authorization`: sent to the origin of `url` alone.
    pub authorization: Option<HeaderValue>,
    /// The body.
    pub body: Body,
    /// Which redirects to follow.
    pub follow: Follow,
}

impl Request {
    /// A request without headers or body, which follows no redirect to an unencrypted host.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Body::Empty,
            follow: Follow::Encrypted,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Says which redirects to follow.
    #[must_use]
    pub fn follow(mut self, follow: Follow) -> Self {
        self.follow = follow;
        self
    }
}
