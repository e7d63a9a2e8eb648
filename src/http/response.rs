//! An answer: status, headers, and a body that is read piece by piece within bounds.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{StatusCode, Url, header::HeaderMap};

use crate::http::budget::Budget;
use crate::http::{HttpError, Place};

/// The answer to a request, after all redirects.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    url: Url,
    idle: Duration,
    budget: Arc<Budget>,
    body: Source,
}

#[derive(Debug)]
enum Source {
    Network(reqwest::Response),
    Memory(Bytes),
}

impl Response {
    pub(crate) fn new(
        response: reqwest::Response,
        url: Url,
        idle: Duration,
        budget: Arc<Budget>,
    ) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, url, idle, budget, body: Source::Network(response) }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of a header, if there is one and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The URL that answered: the last of the redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// Fails if the connection breaks, or nothing comes for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let place = || Place::of(&self.url);
        let response = match &mut self.body {
            Source::Memory(bytes) => {
                return Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()));
            }
            Source::Network(response) => response,
        };
        let next = tokio::time::timeout(self.idle, response.chunk());
        let next = self.budget.spend(next).await;
        next.map_err(|spent| HttpError::OutOfTime { place: place(), limit: spent.0 })?
            .map_err(|_| HttpError::Timeout { place: place(), after: self.idle })?
            .map_err(|source| HttpError::from_reqwest(&self.url, source))
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// Fails if there are more than `limit` bytes, or the connection breaks.
    pub async fn bytes(mut self, limit: u64) -> Result<Bytes, HttpError> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(HttpError::TooLarge { place: Place::of(&self.url), limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The beginning of the body, at most `limit` bytes. Whatever goes wrong ends it: this is for
    /// the text of an error, which must not hide the error.
    pub async fn beginning(&mut self, limit: u64) -> Bytes {
        let mut all = BytesMut::new();
        while let Ok(Some(piece)) = self.chunk().await {
            let room = usize::try_from(limit).unwrap_or(usize::MAX) - all.len();
            all.extend_from_slice(&piece[..piece.len().min(room)]);
            if all.len() as u64 >= limit {
                break;
            }
        }
        all.freeze()
    }

    /// The same answer, with the beginning of its body in memory.
    pub(crate) async fn buffered(mut self, limit: u64) -> Self {
        self.body = Source::Memory(self.beginning(limit).await);
        self
    }

    /// What [`buffered`](Self::buffered) has read.
    pub(crate) fn peek(&self) -> &[u8] {
        match &self.body {
            Source::Memory(bytes) => bytes,
            Source::Network(_) => &[],
        }
    }
}
