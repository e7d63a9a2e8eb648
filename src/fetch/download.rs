//! One download: into the store, piece by piece, or not at all if nothing has changed.
//!
//! What a server says of a file's version (`ETag`, `Last-Modified`) is kept beside the blob's digest.
//! The next time it is asked whether that is still the version; if so, no body comes.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc9110#name-conditional-requests>.

use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::header::{CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE};
use reqwest::header::{IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::fetch::FetchError;
use crate::http::{Follow, Http, HttpError, Place, Request, Response};
use crate::oci::{Descriptor, Digest, MediaType, Timestamp};
use crate::progress::{Progress, Task};
use crate::store::{BlobWriter, Store, StoreError};

/// How often a body that breaks off is asked for again.
const ATTEMPTS: u32 = 3;

/// How many pieces may wait to be written.
const WAITING: usize = 16;

/// A record has a few hundred bytes.
const RECORD_LIMIT: u64 = 64 << 10;

/// A file in the store that came from a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its content.
    pub blob: Descriptor,
    /// `Last-Modified`.
    pub modified: Option<Timestamp>,
}

/// What is remembered of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

/// Downloads `url`, or finds that the store has it. With a `checksum` that the store's version has,
/// nobody is asked.
pub(crate) async fn get(
    http: &Http,
    store: &Store,
    url: &str,
    checksum: Option<Digest>,
    progress: &Arc<dyn Progress>,
) -> Result<Download, FetchError> {
    let known = Record::read(store, url);
    if let Some(record) = known.as_ref().filter(|record| Some(record.digest) == checksum) {
        return Ok(record.download());
    }
    let target: Url = url.parse().map_err(|_| FetchError::BadUrl { url: shown(url) })?;
    let task = Task::start(progress, format!("download {}", Place::of(&target)));
    let follow = if checksum.is_some() { Follow::Unencrypted } else { Follow::Encrypted };
    let request = Request::new(Method::GET, target).follow(follow);
    let request = known.as_ref().map_or(request.clone(), |record| record.condition(request));
    let mut attempt = 1;
    let record = loop {
        match fetch(http, store, &request, known.as_ref()).await {
            Err(FetchError::Http { source }) if source.is_transient() && attempt < ATTEMPTS => {
                task.note("the connection broke; trying again");
                attempt += 1;
            }
            result => break result?,
        }
    };
    if known.as_ref() == Some(&record) {
        task.cached();
    } else {
        record.write(store, url)?;
    }
    task.note(format!("{}, {} bytes", record.digest, record.size));
    task.finish();
    Ok(record.download())
}

/// Asks once, and takes in what comes.
async fn fetch(
    http: &Http,
    store: &Store,
    request: &Request,
    known: Option<&Record>,
) -> Result<Record, FetchError> {
    let response = http.send_retrying(request, http.retry(), |_, _, _| false).await;
    let response = response.map_err(|source| FetchError::Http { source })?;
    let place = || Place::of(&request.url);
    let header = |name: HeaderName| response.header(name.as_str()).map(str::to_owned);
    let etag = header(ETAG);
    match (response.status(), known) {
        (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(known.clone()),
        // Some servers name the version, but do not compare it.
        (StatusCode::OK, Some(known)) if is_strong(etag.as_ref()) && etag == known.etag => {
            return Ok(known.clone());
        }
        (status, _) if status.is_success() => {}
        (status, _) => return Err(FetchError::Status { place: place(), status: status.as_u16() }),
    }
    let last_modified = header(LAST_MODIFIED);
    let packed = header(CONTENT_ENCODING).is_some_and(|it| it.eq_ignore_ascii_case("gzip"));
    let blob = receive(store.writer()?, response, packed, place()).await?;
    Ok(Record { digest: blob.digest, size: blob.size, etag, last_modified })
}

/// The body as a blob. A blocking thread writes, so memory stays constant however large it is.
async fn receive(
    writer: BlobWriter,
    mut response: Response,
    packed: bool,
    place: Place,
) -> Result<Descriptor, FetchError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let written = tokio::task::spawn_blocking(move || write(writer, receiver, packed, &place));
    let outcome = async {
        while let Some(piece) = response.chunk().await? {
            // The writer has failed, and will say why.
            if sender.send(Some(piece)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(None).await;
        Ok(())
    };
    let outcome: Result<(), HttpError> = outcome.await;
    drop(sender);
    let written = written.await.expect("writing a blob does not panic");
    outcome.map_err(|source| FetchError::Http { source })?;
    Ok(written?.expect("the end was sent, or the writer would have failed"))
}

/// Writes pieces up to the end, which is a `None`. A channel that closes before it is a body that
/// broke off: nothing is kept.
fn write(
    writer: BlobWriter,
    mut pieces: mpsc::Receiver<Option<bytes::Bytes>>,
    packed: bool,
    place: &Place,
) -> Result<Option<Descriptor>, FetchError> {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};

    let failed = |error: io::Error| match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof if packed => {
            FetchError::Encoding { place: place.clone(), source: error }
        }
        _ => FetchError::Store(StoreError::unwrap_io("write", "a download", error)),
    };
    let mut sink = if packed {
        Sink::Packed(Box::new(flate2::write::MultiGzDecoder::new(writer)))
    } else {
        Sink::Plain(Box::new(writer))
    };
    while let Some(piece) = pieces.blocking_recv() {
        let Some(piece) = piece else {
            let writer = sink.finish().map_err(failed)?;
            return Ok(Some(writer.commit(MediaType::Other(String::new()))?));
        };
        sink.write_all(&piece).map_err(failed)?;
    }
    Ok(None)
}

/// Where a body goes: straight into the blob, or by way of a decompressor if the server packed it
/// for the transfer.
enum Sink {
    Plain(Box<BlobWriter>),
    Packed(Box<flate2::write::MultiGzDecoder<BlobWriter>>),
}

impl Sink {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.write_all(bytes),
            Self::Packed(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<BlobWriter> {
        match self {
            Self::Plain(writer) => Ok(*writer),
            Self::Packed(decoder) => decoder.finish(),
        }
    }
}

impl Record {
    /// What is known of `url`, if its blob is still whole. What cannot be read says nothing.
    fn read(store: &Store, url: &str) -> Option<Self> {
        let mut text = Vec::new();
        let file = std::fs::File::open(path(store, url)).ok()?;
        file.take(RECORD_LIMIT).read_to_end(&mut text).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        store.has(&record.download().blob).then_some(record)
    }

    fn write(&self, store: &Store, url: &str) -> Result<(), StoreError> {
        let text = serde_json::to_vec(self).expect("a record has only string keys");
        store.publish(&path(store, url), &text)
    }

    fn download(&self) -> Download {
        let blob = Descriptor::new(MediaType::Other(String::new()), self.digest, self.size);
        let modified = self.last_modified.as_deref().and_then(date);
        Download { blob, modified }
    }

    /// Asks for the file only if it is another one by now.
    fn condition(&self, request: Request) -> Request {
        let value = |text: &Option<String>| HeaderValue::try_from(text.as_ref()?).ok();
        match (value(&self.etag), value(&self.last_modified)) {
            (Some(etag), _) => request.header(IF_NONE_MATCH, etag),
            (None, Some(time)) => request.header(IF_MODIFIED_SINCE, time),
            (None, None) => request,
        }
    }
}

/// Where the record of `url` is. The URL itself, which may hold a password, is written nowhere.
fn path(store: &Store, url: &str) -> PathBuf {
    store.downloads_dir().join(Digest::of(url).hex())
}

/// A weak tag names content that means the same, and may be other bytes.
fn is_strong(etag: Option<&String>) -> bool {
    etag.is_some_and(|etag| !etag.starts_with("W/"))
}

/// A date of HTTP.
fn date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(Timestamp::from_seconds(time.as_second()))
}

/// A text that should be a URL, without what may be a password.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{}", rest.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a139_times_are_dates_of_http() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(date(text), expected.map(Timestamp::from_seconds), "{text}");
        };
        check("Thu, 02 Jan 2020 03:04:05 GMT", Some(1_577_934_245));
        check("yesterday", None);
        check("", None);
    }

    #[test]
    fn a_record_counts_as_long_as_its_blob_is_there() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let blob = store.put(b"text", MediaType::Other(String::new())).expect("space");
        let url = "https://user:secret@x/y";
        let record = Record {
            digest: blob.digest,
            size: blob.size,
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
        };
        record.write(&store, url).expect("written");
        assert_eq!(Record::read(&store, url), Some(record.clone()));
        assert_eq!(Record::read(&store, "https://x/z"), None);
        let record = Record { size: 5, ..record };
        record.write(&store, url).expect("written");
        assert_eq!(Record::read(&store, url), None, "a blob of another size");
        let text = std::fs::read_to_string(path(&store, url)).expect("written");
        assert!(!text.contains("secret") && text.contains(&blob.digest.to_string()), "{text}");
    }

    #[test]
    fn the_version_that_is_known_is_asked_about() {
        let record = |etag: Option<&str>, time: Option<&str>| Record {
            digest: Digest::of(""),
            size: 0,
            etag: etag.map(str::to_owned),
            last_modified: time.map(str::to_owned),
        };
        let check = |record: Record, expected: &[(&str, &str)]| {
            let url = "http://x/".parse().expect("a URL");
            let headers = record.condition(Request::new(Method::GET, url)).headers;
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
                .collect();
            assert_eq!(headers, expected);
        };
        check(record(Some("\"a\""), Some("t")), &[("if-none-match", "\"a\"")]);
        check(record(None, Some("t")), &[("if-modified-since", "t")]);
        check(record(None, None), &[]);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("http://user:secret@[bad/x?token=secret"), "http://[bad/x");
    }
}
