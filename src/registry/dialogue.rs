//! What an upload says to its registry: here is a piece, how much do you have, and what the answers
//! mean. `send` and `growing` decide what is sent.
//!
//! Rules B072, B075 and B077, B078.

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue},
};

use crate::http::{self, Body, FileBody, Request, Response, retry_after};
use crate::registry::client::{Call, Client, Patience};
use crate::registry::error::RegistryError;
use crate::registry::upload::location;

/// How far an upload has come.
#[derive(Debug)]
pub(crate) struct Place {
    /// The `Location` of the last answer (rule B072).
    pub(crate) to: Url,
    /// How many bytes the registry has.
    pub(crate) offset: u64,
    /// The smallest chunk that the registry takes.
    pub(crate) smallest: u64,
}

/// What an upload says to its registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialogue<'a> {
    pub(crate) client: &'a Client,
    pub(crate) call: &'a Call<'a>,
}

impl Dialogue<'_> {
    /// An error if the user wants to end.
    pub(crate) fn go_on(&self) -> Result<(), RegistryError> {
        if self.client.interrupt.is_wanted() {
            return Err(RegistryError::Interrupted { subject: self.call.subject.clone() });
        }
        Ok(())
    }

    /// One PATCH (rule B075).
    pub(crate) async fn send_chunk(
        &self,
        at: &mut Place,
        content: &FileBody,
        size: u64,
    ) -> Result<(), RegistryError> {
        let request = Request::new(Method::PATCH, at.to.clone())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_RANGE, content_range(at.offset, size))
            .body(Body::File(content.part(at.offset, size)));
        let response = self.client.call(&self.once(), request).await?;
        if !matches!(response.status().as_u16(), 200..=202 | 204) {
            return Err(self.failure(response).await);
        }
        if response.header("location").is_some() {
            at.to = location(self.call, &response)?;
        }
        let expected = at.offset + size;
        at.offset = match range_end(&response) {
            Some(end) if end != expected => match self.ask(at).await {
                // It has kept less than it was sent, and says so twice.
                Some(place) if (at.offset + 1..expected).contains(&place.offset) => {
                    at.to = place.to;
                    place.offset
                }
                // ECR goes on speaking of the first chunk, whatever it has (B077).
                _ => expected,
            },
            _ => expected,
        };
        Ok(())
    }

    /// Asks how much of an upload the registry has; `None` if it does not say (rule B078).
    pub(crate) async fn ask(&self, at: &Place) -> Option<Place> {
        if !self.client.is_ours(self.call, &at.to).unwrap_or(false) {
            return None;
        }
        let request = Request::new(Method::GET, at.to.clone());
        let response = self.client.call(&self.once(), request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let offset = range_end(&response)?;
        let to = match response.header("location") {
            Some(_) => location(self.call, &response).ok()?,
            None => at.to.clone(),
        };
        Some(Place { to, offset, smallest: at.smallest })
    }

    /// The error that an answer means, after the pause that it asks for (rule B095).
    pub(crate) async fn failure(&self, response: Response) -> RegistryError {
        let longest = self.client.http.retry().longest_asked;
        if let Some(pause) = retry_after(response.headers(), jiff::Timestamp::now()) {
            let waited =
                self.client.http.pause(http::Place::of(response.url()), pause.min(longest));
            if let Err(error) = waited.await {
                return self.call.unreachable(error);
            }
        }
        self.client.failure(self.call, response).await
    }

    pub(crate) async fn pause(&self, at: &Place, pause: Duration) -> Result<(), RegistryError> {
        let waited = self.client.http.pause(http::Place::of(&at.to), pause).await;
        waited.map_err(|error| self.call.unreachable(error))
    }

    /// The body is read from a file each time, but a session must not get it twice (rule B093).
    pub(crate) fn once(&self) -> Call<'_> {
        Call { patience: Patience::Once, ..self.call.clone() }
    }
}

pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Without `bytes `, and with the last byte: not as in the standard of HTTP (rule B075).
pub(crate) fn content_range(start: u64, size: u64) -> HeaderValue {
    let text = format!("{start}-{}", start + size - 1);
    HeaderValue::try_from(text).expect("numbers are plain ASCII")
}

/// How many bytes the registry says that it has: `Range: 0-<last>`. `0-0` is how it says none.
fn range_end(response: &Response) -> Option<u64> {
    received(response.header("range")?)
}

fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then_some(if last == 0 { 0 } else { last.saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b075_a_chunk_is_named_without_a_unit_and_with_its_last_byte() {
        assert_eq!(content_range(0, 5), "0-4");
        assert_eq!(content_range(5, 1), "5-5");
    }

    #[test]
    fn b077_ranges_of_real_registries() {
        let check = |text: &str, expected| assert_eq!(received(text), expected, "{text}");
        check("0-4", Some(5));
        check("bytes=0-4", Some(5));
        check("0-0", Some(0));
        check("0-18446744073709551615", Some(u64::MAX));
        check("3-4", None);
        check("0-", None);
        check("", None);
    }
}
