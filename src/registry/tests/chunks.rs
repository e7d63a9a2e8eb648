//! Uploads in pieces, and uploads that are gone on with.

use std::sync::{Arc, Mutex};

use crate::oci::Digest;
use crate::registry::tests::fake::{Fake, Reply, Seen, reply};
use crate::registry::tests::push::content;
use crate::registry::tests::{blob, config, named};
use crate::registry::{Chunks, Client, Config, Offer, RegistryError, Session};

/// How a registry behaves besides keeping to the specification.
#[derive(Debug, Clone, Copy, Default)]
struct Quirks {
    /// The largest chunk.
    most: Option<usize>,
    /// `OCI-Chunk-Min-Length`.
    least: Option<usize>,
    /// `Range` speaks of the first chunk for ever, as ECR's does.
    stuck: bool,
    /// The chunk of this number is answered with that status, and its first half is kept.
    breaks: Option<(usize, u16)>,
    /// The chunk of this number is kept by half, and acknowledged.
    halves: Option<usize>,
    /// Sessions are not remembered: a GET finds none.
    forgets: bool,
    /// The bytes of chunks are lost, so that the digest of the whole is wrong.
    loses: bool,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    chunks: usize,
    first: usize,
    done: Option<Vec<u8>>,
    sessions: usize,
}

struct Bench {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

fn answer(quirks: Quirks, state: &mut State, seen: &Seen) -> Reply {
    let to = |state: &State| format!("/v2/a/up/{}?_state={}", state.sessions, state.bytes.len());
    let range = |length: usize| format!("0-{}", length.saturating_sub(1));
    match seen.method.as_str() {
        "HEAD" => reply(if state.done.is_some() { 200 } else { 404 }),
        "POST" => {
            state.bytes.clear();
            state.sessions += 1;
            let begun = reply(202).header("location", to(state));
            let least = quirks.least.map(|least| least.to_string());
            least.map_or(begun.clone(), |least| begun.header("oci-chunk-min-length", least))
        }
        "GET" if quirks.forgets || state.sessions == 0 => reply(404),
        "GET" => reply(204).header("location", to(state)).header("range", range(state.bytes.len())),
        "PATCH" => patch(quirks, state, seen, to, range),
        "PUT" => {
            let offset = seen.header("content-range").map_or(0, |range| start(&range));
            if offset != state.bytes.len() {
                return reply(416);
            }
            state.bytes.extend_from_slice(&seen.body);
            let digest = Digest::of(&state.bytes).hex();
            if !seen.path.ends_with(&format!("digest=sha256%3A{digest}")) {
                return reply(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            state.done = Some(std::mem::take(&mut state.bytes));
            reply(201)
        }
        _ => reply(204),
    }
}

fn patch(
    quirks: Quirks,
    state: &mut State,
    seen: &Seen,
    to: impl Fn(&State) -> String,
    range: impl Fn(usize) -> String,
) -> Reply {
    state.chunks += 1;
    let text = seen.header("content-range").expect("a chunk says what it is");
    assert!(!text.starts_with("bytes"), "{text}");
    let current = format!("_state={}", state.bytes.len());
    if start(&text) != state.bytes.len() || !seen.path.ends_with(&current) {
        return reply(416);
    }
    if quirks.most.is_some_and(|most| seen.body.len() > most) {
        return reply(416).body(r#"{"errors":[{"message":"exceeds the maximum limit"}]}"#);
    }
    assert!(quirks.least.is_none_or(|least| seen.body.len() >= least), "a chunk is too small");
    let half = seen.body.len() / 2;
    if let Some((number, status)) = quirks.breaks.filter(|(number, _)| *number == state.chunks) {
        state.bytes.extend_from_slice(&seen.body[..half]);
        let _ = number;
        return reply(status);
    }
    let kept = if quirks.halves == Some(state.chunks) { half } else { seen.body.len() };
    let body = if quirks.loses { vec![0; kept] } else { seen.body[..kept].to_vec() };
    state.bytes.extend_from_slice(&body);
    if state.first == 0 {
        state.first = state.bytes.len();
    }
    let said = if quirks.stuck { state.first } else { state.bytes.len() };
    reply(202).header("location", to(state)).header("range", range(said))
}

fn start(range: &str) -> usize {
    range.split('-').next().and_then(|it| it.parse().ok()).expect("a range")
}

impl Bench {
    async fn new(quirks: Quirks) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let fake = Fake::start(move |seen, _| {
            answer(quirks, &mut shared.lock().expect("no panic while locked"), seen)
        })
        .await;
        Self { fake, state }
    }

    fn count(&self, method: &str) -> usize {
        self.fake.seen().iter().filter(|seen| seen.method == method).count()
    }

    fn stored(&self) -> Option<Vec<u8>> {
        self.state.lock().expect("no panic while locked").done.clone()
    }

    async fn push(&self, bytes: &[u8], session: Session) -> Result<Vec<String>, RegistryError> {
        let chunks = Chunks { above: 250, size: 100 };
        let client = Client::new(Config { chunks, ..config() }).expect("a client");
        let (target, descriptor) = (named(&self.fake, "a:1"), blob(bytes));
        let offer = client.offer(&target, &descriptor, &[]).await?;
        assert!(matches!(offer, Offer::Wanted(_)), "{offer:?}");
        let places: Mutex<Vec<String>> = Mutex::default();
        let noted = |it: &str| places.lock().expect("no panic while locked").push(it.into());
        client.upload(&target, &descriptor, &content(bytes), session, &noted).await?;
        Ok(places.into_inner().expect("no panic while locked"))
    }
}

fn bytes() -> Vec<u8> {
    (0..=250).cycle().take(1050).collect()
}

#[tokio::test]
async fn b072_b075_a_large_blob_goes_in_chunks_and_the_last_one_with_the_end() {
    let bench = Bench::new(Quirks::default()).await;
    let notes = bench.push(&bytes(), Session::default()).await.expect("uploaded");
    assert_eq!(bench.stored(), Some(bytes()));
    assert_eq!((bench.count("PATCH"), bench.count("PUT"), notes.len()), (10, 1, 10));
    let put = bench.fake.seen().into_iter().find(|seen| seen.method == "PUT").expect("sent");
    assert_eq!(put.header("content-range").as_deref(), Some("1000-1049"));
    assert_eq!(put.body.len(), 50);
    let small = vec![1; 250];
    let bench = Bench::new(Quirks::default()).await;
    bench.push(&small, Session::default()).await.expect("uploaded");
    assert_eq!((bench.count("PATCH"), bench.count("PUT")), (0, 1), "small blobs go whole");
}

#[tokio::test]
async fn b076_a_chunk_is_as_large_as_the_registry_asks_and_one_that_is_too_large_is_the_last() {
    let bench = Bench::new(Quirks { least: Some(400), ..Quirks::default() }).await;
    bench.push(&bytes(), Session::default()).await.expect("uploaded");
    assert_eq!((bench.count("PATCH"), bench.stored()), (2, Some(bytes())));
    let bench = Bench::new(Quirks { most: Some(10), ..Quirks::default() }).await;
    bench.push(&bytes(), Session::default()).await.expect("uploaded whole");
    assert_eq!((bench.count("PATCH"), bench.stored()), (1, Some(bytes())));
    assert_eq!(bench.count("DELETE"), 1);
}

#[tokio::test]
async fn b077_a_range_that_stays_behind_is_asked_about_and_then_not_believed() {
    let bench = Bench::new(Quirks { stuck: true, forgets: true, ..Quirks::default() }).await;
    bench.push(&bytes(), Session::default()).await.expect("uploaded");
    assert_eq!((bench.count("POST"), bench.stored()), (1, Some(bytes())));
    let bench = Bench::new(Quirks { halves: Some(3), ..Quirks::default() }).await;
    bench.push(&bytes(), Session::default()).await.expect("uploaded");
    assert_eq!((bench.count("POST"), bench.stored()), (1, Some(bytes())));
    let bench = Bench::new(Quirks { loses: true, ..Quirks::default() }).await;
    bench.push(&bytes(), Session::default()).await.expect("uploaded whole");
    assert_eq!((bench.count("POST"), bench.stored()), (2, Some(bytes())));
}

#[tokio::test]
async fn b078_after_trouble_the_registry_is_asked_how_much_it_has() {
    for status in [416, 500] {
        let bench = Bench::new(Quirks { breaks: Some((4, status)), ..Quirks::default() }).await;
        bench.push(&bytes(), Session::default()).await.expect("uploaded");
        assert_eq!((bench.count("POST"), bench.stored()), (1, Some(bytes())), "{status}");
        let bench =
            Bench::new(Quirks { breaks: Some((4, status)), forgets: true, ..Quirks::default() });
        let bench = bench.await;
        bench.push(&bytes(), Session::default()).await.expect("uploaded");
        assert_eq!((bench.count("POST"), bench.stored()), (2, Some(bytes())), "begun anew");
    }
}

#[tokio::test]
async fn b078_an_upload_of_an_earlier_process_is_gone_on_with() {
    let bench = Bench::new(Quirks::default()).await;
    let place = {
        let mut state = bench.state.lock().expect("no panic while locked");
        state.sessions = 1;
        state.bytes = bytes()[..700].to_vec();
        format!("http://{}/v2/a/up/1?_state=700", bench.fake.address)
    };
    bench.push(&bytes(), Session::default().or_earlier(&place)).await.expect("uploaded");
    assert_eq!((bench.count("POST"), bench.count("PATCH"), bench.stored()), (0, 3, Some(bytes())));
    let bench = Bench::new(Quirks::default()).await;
    let place = place.replace("127.0.0.1", "127.0.0.2");
    bench.push(&bytes(), Session::default().or_earlier(&place)).await.expect("uploaded");
    assert_eq!((bench.count("POST"), bench.stored()), (1, Some(bytes())));
}

#[tokio::test]
async fn b034_the_right_to_push_is_checked_and_nothing_is_left_behind() {
    let bench = Bench::new(Quirks::default()).await;
    let client = Client::new(config()).expect("a client");
    client.check_push(&named(&bench.fake, "a:1")).await.expect("allowed");
    let expected = ["POST /v2/a/blobs/uploads/", "DELETE /v2/a/up/1?_state=0"];
    assert_eq!(bench.fake.requests(), expected);
    let fake = Fake::start(|_, _| reply(403).body(r#"{"errors":[{"code":"DENIED"}]}"#)).await;
    let error = client.check_push(&named(&fake, "a:1")).await.expect_err("denied");
    assert!(matches!(error, RegistryError::Denied { .. }) && !error.is_trouble(), "{error}");
}
