//! Pushes and pulls with a real registry: Debian's `docker-registry`, on a free loopback port.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::oci::{
    Descriptor, DiffId, Digest, Document, ImageConfig, ImageIndex, Manifest, MediaType, Platform,
    Reference,
};
use crate::progress::{Event, Progress, Silent, Task};
use crate::registry::{
    Client, Config, Credential, CredentialSources, HttpError, Mirror, RegistryError, Secret,
};
use crate::store::Store;
use crate::transfer::tests::push;
use crate::transfer::{TransferError, check_login, fetch_layers, find, resolve};

struct Registry {
    address: String,
    process: Child,
    directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says that this test cannot run here, or fails if it has to.
fn missing(program: &str) {
    let must_work = std::env::var_os("CORACLE_MUST_WORK").is_some_and(|value| value == "1");
    assert!(!must_work, "CORACLE_MUST_WORK=1, but there is no {program}");
}

/// Starts a registry; `None` where the program is not installed.
fn start(extra: impl Fn(&Path) -> String) -> Option<Registry> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let (root, config) = (directory.path().join("data"), directory.path().join("config.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
         delete: {{enabled: true}}\n{}",
        root.display(),
        extra(directory.path()).replace("ADDRESS", &address)
    );
    fs::write(&config, text).expect("written");
    drop(listener);
    let log = fs::File::create(directory.path().join("log")).expect("written");
    let process = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdout(log.try_clone().expect("shared"))
        .stderr(log)
        .stdin(Stdio::null())
        .spawn();
    let Ok(process) = process else {
        missing("docker-registry");
        return None;
    };
    let registry = Registry { address, process, directory };
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(&registry.address).is_err() {
        assert!(Instant::now() < deadline, "docker-registry does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(registry)
}

fn open() -> Option<Registry> {
    start(|_| "http: {addr: \"ADDRESS\", secret: test}\n".to_owned())
}

struct Bench {
    store: Store,
    _directory: tempfile::TempDir,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&directory.path().join("store")).expect("a store");
    Bench { store, _directory: directory }
}

const LAYER_SIZE: usize = 3_000_000;

/// An image with two equal layers, one other and an empty one, in the store.
fn image(store: &Store) -> (Descriptor, Manifest) {
    let big: Vec<u8> = (0..=250).cycle().take(LAYER_SIZE).collect();
    let kind = MediaType::from("application/vnd.oci.image.layer.v1.tar");
    let layers: Vec<Descriptor> = [&big[..], b"small", &big[..], b""]
        .iter()
        .map(|bytes| store.put(bytes, kind.clone()).expect("stored"))
        .collect();
    let mut config = ImageConfig { platform: Platform::host(), ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId(layer.digest)).collect();
    let config = Document::new(config);
    let config = store.put(config.bytes(), MediaType::OciConfig).expect("stored");
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    let document = Document::new(manifest.clone());
    let descriptor = store.put(document.bytes(), MediaType::OciManifest).expect("stored");
    (descriptor, manifest)
}

fn client() -> Client {
    Client::new(Config::default()).expect("a client")
}

fn named(registry: &Registry, rest: &str) -> Reference {
    format!("{}/{rest}", registry.address).parse().expect("a reference")
}

fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

#[derive(Default)]
struct Log(Mutex<Vec<Event>>);

impl Progress for Log {
    fn report(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b081_what_is_pushed_can_be_pulled_and_moves_once() {
    let Some(registry) = open() else { return };
    let (from, client) = (bench(), Arc::new(client()));
    let (descriptor, manifest) = image(&from.store);
    let targets =
        [named(&registry, "a/one:1"), named(&registry, "a/one:2"), named(&registry, "b:1")];
    let log = Arc::new(Log::default());
    let progress: Arc<dyn Progress> = Arc::<Log>::clone(&log);
    let none = BTreeMap::new();
    let pushed = push(&client, &from.store, &descriptor, &targets, &none, &progress).await;
    let pushed = pushed.expect("pushed");
    let counts: Vec<_> = pushed.iter().map(|it| (it.uploaded, it.mounted, it.existing)).collect();
    // Two layers, the empty one and the config; the second repository mounts them all.
    assert_eq!(counts, [(4, 0, 0), (0, 0, 0), (0, 4, 0)]);
    assert!(pushed[0].uploaded_bytes > LAYER_SIZE as u64);
    let sent_whole =
        |event: &Event| matches!(event, Event::Transfer { done, total, .. } if done == total);
    assert!(log.0.lock().expect("no panic").iter().any(sent_whole));
    let again = push(&client, &from.store, &descriptor, &targets, &none, &silent()).await;
    let again: Vec<_> = again.expect("pushed").iter().map(|it| it.existing).collect();
    assert_eq!(again, [4, 0, 4]);

    let to = bench();
    let image = resolve(&client, &to.store, &targets[1], &Platform::host()).await.expect("there");
    assert_eq!((image.descriptor.digest, image.manifest.value()), (descriptor.digest, &manifest));
    assert!(!to.store.has(&manifest.layers[0]), "layers wait until they are needed");
    let task = Task::start(&silent(), "pull");
    let layers = image.layers();
    fetch_layers(&client, &to.store, &targets[1], &layers, &task).await.expect("fetched");
    task.finish();
    assert!(layers.iter().all(|layer| to.store.has(&layer.descriptor)));
    to.store.tag(&targets[1], &image.descriptor).expect("tagged");
    let found = find(&to.store, &targets[1], &Platform::host()).expect("readable");
    assert_eq!(found.as_ref(), Some(&image));
    let pinned = targets[1].with_digest(descriptor.digest);
    assert!(find(&to.store, &pinned, &Platform::host()).expect("readable").is_some());
    let offline = resolve(&client, &to.store, &pinned, &Platform::host()).await;
    assert_eq!(offline.expect("stored").config, image.config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_layer_that_is_not_here_passes_through_only_where_it_must() {
    let (Some(first), Some(second)) = (open(), open()) else { return };
    let (origin, client, none) = (bench(), client(), BTreeMap::new());
    let (descriptor, manifest) = image(&origin.store);
    let base = named(&first, "library/base:1");
    let from = std::slice::from_ref(&base);
    push(&client, &origin.store, &descriptor, from, &none, &silent()).await.expect("pushed");

    let here = bench();
    let image = resolve(&client, &here.store, &base, &Platform::host()).await.expect("resolved");
    let origins: BTreeMap<Digest, Reference> =
        manifest.layers.iter().map(|layer| (layer.digest, base.clone())).collect();
    let near = [named(&first, "me/app:1")];
    let pushed = push(&client, &here.store, &image.descriptor, &near, &origins, &silent()).await;
    let pushed = pushed.expect("pushed");
    assert_eq!((pushed[0].mounted, pushed[0].uploaded), (3, 1), "{pushed:?}");
    assert!(!here.store.has(&manifest.layers[0]), "a mount moves nothing");

    let far = [named(&second, "me/app:1")];
    let lost = push(&client, &here.store, &image.descriptor, &far, &none, &silent()).await;
    // Where it came from is remembered by the store.
    assert_eq!(lost.expect("pushed")[0].uploaded, 4);
    assert!(!here.store.has(&manifest.layers[0]), "what passed through is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b064_an_index_is_pushed_from_the_inside_out_and_resolved_by_platform() {
    let Some(registry) = open() else { return };
    let (from, client, none) = (bench(), client(), BTreeMap::new());
    let (mut child, _) = image(&from.store);
    child.platform = Some(Platform::host());
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: vec![child.clone()],
        annotations: BTreeMap::new(),
    };
    let index = Document::new(index);
    let index = from.store.put(index.bytes(), MediaType::OciIndex).expect("stored");
    let target = [named(&registry, "multi:1")];
    push(&client, &from.store, &index, &target, &none, &silent()).await.expect("pushed");
    let to = bench();
    let image = resolve(&client, &to.store, &target[0], &Platform::host()).await.expect("resolved");
    assert_eq!(image.descriptor.digest, index.digest);
    assert_eq!(image.manifest_descriptor.digest, child.digest);
    let other = "linux/s390x".parse().expect("a platform");
    let error = resolve(&client, &to.store, &target[0], &other).await.expect_err("none");
    assert!(matches!(error, TransferError::NoPlatform { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b042_b091_what_is_missing_is_named_with_the_registrys_words() {
    let Some(registry) = open() else { return };
    let (to, client) = (bench(), client());
    let name = named(&registry, "no/such:1");
    let error = resolve(&client, &to.store, &name, &Platform::host()).await.expect_err("missing");
    assert!(matches!(&error, TransferError::Registry(RegistryError::NotFound { .. })), "{error}");
    assert!(error.to_string().contains("no/such:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b038_basic_authentication_and_mirrors() {
    let htpasswd = Command::new("htpasswd").args(["-Bbn", "alice", "the-password"]).output();
    let Ok(htpasswd) = htpasswd else { return missing("htpasswd") };
    let guarded = start(|directory| {
        let file = directory.join("htpasswd");
        fs::write(&file, &htpasswd.stdout).expect("written");
        format!(
            "http: {{addr: \"ADDRESS\", secret: test}}\nauth:\n  htpasswd: {{realm: r, path: {}}}\n",
            file.display()
        )
    });
    let Some(registry) = guarded else { return };
    let target = [named(&registry, "hub/library/app:1")];
    let (from, none) = (bench(), BTreeMap::new());
    let (descriptor, _) = image(&from.store);
    let anonymous = push(&client(), &from.store, &descriptor, &target, &none, &silent()).await;
    let error = anonymous.expect_err("refused");
    assert!(error.hint().is_some_and(|hint| hint.contains("coracle login")), "{error}");

    let auths =
        format!(r#"{{"auths":{{"{}":{{"auth":"YWxpY2U6dGhlLXBhc3N3b3Jk"}}}}}}"#, registry.address);
    let mirror = format!("docker.io=http://{}/hub", registry.address);
    let config = Config {
        credentials: CredentialSources {
            inline: Some(Secret::new(auths)),
            ..CredentialSources::default()
        },
        mirrors: vec![mirror.parse::<Mirror>().expect("a mirror")],
        ..Config::default()
    };
    let client = Client::new(config).expect("a client");
    push(&client, &from.store, &descriptor, &target, &none, &silent()).await.expect("pushed");
    let (to, hub) = (bench(), "app:1".parse().expect("a reference"));
    let image = resolve(&client, &to.store, &hub, &Platform::host()).await.expect("mirrored");
    assert_eq!(image.descriptor.digest, descriptor.digest);

    let right = Credential::basic("alice", "the-password");
    check_login(&client, &registry.address, &right).await.expect("taken");
    let wrong = Credential::basic("alice", "another");
    check_login(&client, &registry.address, &wrong).await.expect_err("refused");
    assert!(registry.directory.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b007_b008_a_certificate_is_believed_only_with_a_reason() {
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let pem = made.cert.pem();
    let secured = start(|directory| {
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&certificate, &pem).expect("written");
        fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        format!(
            "http:\n  addr: \"ADDRESS\"\n  secret: test\n  tls: {{certificate: {}, key: {}}}\n",
            certificate.display(),
            key.display()
        )
    });
    let Some(registry) = secured else { return };
    let name = named(&registry, "a:1");
    let outcome = async |config: Config| {
        let client = Client::new(config).expect("a client");
        resolve(&client, &bench().store, &name, &Platform::host()).await.expect_err("no image")
    };
    let untrusted = outcome(Config::default()).await;
    let TransferError::Registry(RegistryError::Unreachable { source, .. }) = &untrusted else {
        panic!("{untrusted:?}")
    };
    assert!(matches!(source, HttpError::Certificate { .. }), "{source:?}");
    let trusted = Config { authorities: vec![pem.clone().into_bytes()], ..Config::default() };
    let insecure = Config { insecure: vec![registry.address.clone()], ..Config::default() };
    for config in [trusted, insecure] {
        let error = outcome(config).await;
        let not_found = matches!(error, TransferError::Registry(RegistryError::NotFound { .. }));
        assert!(not_found, "{error:?}");
    }
}

#[test]
fn futures_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let (bench, client) = (bench(), Arc::new(client()));
    let reference = "a:1".parse().expect("a reference");
    is_send(resolve(&client, &bench.store, &reference, &Platform::host()));
    let task = Task::start(&silent(), "pull");
    is_send(fetch_layers(&client, &bench.store, &reference, &[], &task));
    let descriptor = Descriptor::new(MediaType::OciManifest, Digest::of(""), 0);
    let (none, progress) = (BTreeMap::new(), silent());
    is_send(push(&client, &bench.store, &descriptor, &[], &none, &progress));
    is_send(check_login(&client, "a", &Credential::basic("u", "p")));
}
