//! Layers that go to the registry while they are made.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::oci::{
    Compression, Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, MediaType,
};
use crate::progress::{Progress, Silent, Task};
use crate::registry::tests::fake::{Fake, Reply, Seen, reply};
use crate::registry::tests::{config, named};
use crate::registry::{Chunks, Client, Config};
use crate::store::Store;
use crate::transfer::{Ahead, LayerSink, Push, Pushed};

/// What the registry of a test has.
#[derive(Debug, Default)]
struct State {
    /// What each upload has sent.
    uploads: Vec<Vec<u8>>,
    blobs: Vec<String>,
}

/// Keeps to the specification, but for `refused`, a method that it does not know.
fn answer(state: &mut State, refused: &str, seen: &Seen) -> Reply {
    let number = |path: &str| -> Option<usize> {
        path.split_once("/up/")?.1.split('?').next()?.parse().ok()
    };
    let to = |number: usize| format!("/v2/a/up/{number}");
    let range = |bytes: &[u8]| format!("0-{}", bytes.len().saturating_sub(1));
    if seen.method == refused {
        return reply(405);
    }
    let Some(number) = number(&seen.path) else {
        return match seen.method.as_str() {
            "HEAD" if state.blobs.iter().any(|it| seen.path.ends_with(it)) => reply(200),
            "HEAD" => reply(404),
            "POST" => {
                state.uploads.push(Vec::new());
                reply(202).header("location", to(state.uploads.len() - 1))
            }
            _ => reply(201),
        };
    };
    let bytes = &mut state.uploads[number];
    bytes.extend_from_slice(&seen.body);
    match seen.method.as_str() {
        "PUT" => {
            let (_, said) = seen.path.split_once("digest=").expect("the end names the digest");
            let actual = Digest::of(bytes).to_string();
            assert_eq!(said.replace("%3A", ":"), actual, "the whole is what was promised");
            state.blobs.push(actual);
            reply(201)
        }
        "PATCH" => reply(202).header("location", to(number)).header("range", range(bytes)),
        _ => reply(204).header("location", to(number)).header("range", range(bytes)),
    }
}

struct Bench {
    fake: Fake,
    state: Arc<Mutex<State>>,
    client: Arc<Client>,
    store: Arc<Store>,
    ahead: Arc<Ahead>,
    progress: Arc<dyn Progress>,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new(refused: &'static str) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let fake = Fake::start(move |seen, _| {
            answer(&mut shared.lock().expect("no panic while locked"), refused, seen)
        })
        .await;
        let chunks = Chunks { above: 250, size: 100 };
        let client = Arc::new(Client::new(Config { chunks, ..config() }).expect("a client"));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Arc::new(Store::open(directory.path()).expect("a new store"));
        let progress: Arc<dyn Progress> = Arc::new(Silent);
        let target = named(&fake, "a:1");
        let (ours, theirs) = (Arc::clone(&client), Arc::clone(&store));
        let ahead = Ahead::new(ours, theirs, target, Arc::clone(&progress));
        Self { fake, state, client, store, ahead, progress, _directory: directory }
    }

    fn layer(&self) -> LayerSink {
        self.ahead.layer(Task::start(&self.progress, "a step").id()).expect("a new blob")
    }

    fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.fake.seen();
        seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }

    /// Waits for requests of the network's side.
    async fn wait(&self, method: &str, path: &str, count: usize) {
        let come = async {
            while self.count(method, path) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let come = tokio::time::timeout(Duration::from_secs(20), come).await;
        assert!(come.is_ok(), "{:#?}", self.fake.requests());
    }

    /// Pushes an image of this one layer.
    async fn push(&self, layer: Descriptor) -> Pushed {
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![DiffId(layer.digest)];
        let config = self.store.put_document(&Document::new(config), MediaType::OciConfig);
        let manifest = Document::new(Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            config: config.expect("space"),
            layers: vec![layer],
            artifact_type: None,
            subject: None,
            annotations: BTreeMap::new(),
        });
        let image = self.store.put_document(&manifest, MediaType::OciManifest).expect("space");
        let (client, store, origins) = (&*self.client, &*self.store, &BTreeMap::new());
        let (ahead, progress) = (Some(&*self.ahead), &self.progress);
        let push = Push { client, store, origins, ahead, progress };
        let pushed = push.run(&image, &[named(&self.fake, "a:1")]).await.expect("pushed");
        pushed.into_iter().next().expect("one name")
    }
}

const LAYER: MediaType = MediaType::OciLayer(Compression::Gzip);

fn bytes(count: u8) -> Vec<u8> {
    (0..count).collect()
}

#[tokio::test]
async fn b072_a_layer_goes_up_while_it_is_written_and_only_its_end_with_the_push() {
    let bench = Bench::new("").await;
    let mut layer = bench.layer();
    layer.write_all(&bytes(199)).expect("space");
    layer.write_all(&bytes(200)).expect("space");
    // Three pieces are finished, and nobody knows yet what this will be.
    bench.wait("PATCH", "/up/", 3).await;
    layer.write_all(&bytes(70)).expect("space");
    let layer = layer.commit(LAYER).expect("space");
    let pushed = bench.push(layer.clone()).await;
    assert_eq!((pushed.uploaded, pushed.existing), (2, 0));
    assert!(bench.state.lock().expect("no panic").blobs.contains(&layer.digest.to_string()));
    // The layer and the config began once each; of the layer the fourth piece was due at its end.
    assert_eq!(bench.count("POST", "/blobs/uploads/"), 2, "{:#?}", bench.fake.requests());
    assert_eq!(bench.count("PATCH", "/up/"), 4);
    let sent: usize = bench
        .fake
        .seen()
        .iter()
        .filter(|it| it.path.contains("/up/"))
        .map(|it| it.body.len())
        .sum();
    assert!((469..1000).contains(&sent), "{sent}: nothing twice");
}

#[tokio::test]
async fn b065_what_the_registry_proves_to_have_is_not_sent_to_its_end() {
    let bench = Bench::new("").await;
    let whole = [bytes(199), bytes(200), bytes(70)].concat();
    bench.state.lock().expect("no panic").blobs.push(Digest::of(&whole).to_string());
    let mut layer = bench.layer();
    layer.write_all(&whole[..399]).expect("space");
    bench.wait("PATCH", "/up/", 3).await;
    layer.write_all(&whole[399..]).expect("space");
    let pushed = bench.push(layer.commit(LAYER).expect("space")).await;
    assert_eq!((pushed.uploaded, pushed.existing), (1, 1));
    assert_eq!((bench.count("PATCH", "/up/"), bench.count("DELETE", "/up/")), (3, 1));
}

#[tokio::test]
async fn b079_a_layer_that_comes_to_nothing_is_abandoned_and_a_small_one_never_begun() {
    let bench = Bench::new("").await;
    let mut layer = bench.layer();
    layer.write_all(&bytes(250)).expect("space");
    bench.wait("PATCH", "/up/", 2).await;
    drop(layer);
    bench.wait("DELETE", "/up/", 1).await;
    let bench = Bench::new("").await;
    let mut layer = bench.layer();
    layer.write_all(&bytes(199)).expect("space");
    let pushed = bench.push(layer.commit(LAYER).expect("space")).await;
    assert_eq!((pushed.uploaded, bench.count("PATCH", "/up/")), (2, 0));
}

#[tokio::test]
async fn b076_a_registry_that_knows_no_pieces_gets_the_layer_whole() {
    let bench = Bench::new("PATCH").await;
    let mut layer = bench.layer();
    layer.write_all(&bytes(250)).expect("space");
    bench.wait("PATCH", "/up/", 1).await;
    let layer = layer.commit(LAYER).expect("space");
    let pushed = bench.push(layer.clone()).await;
    assert_eq!((pushed.uploaded, bench.count("PATCH", "/up/")), (2, 1));
    assert!(bench.state.lock().expect("no panic").blobs.contains(&layer.digest.to_string()));
}
