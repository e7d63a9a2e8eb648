//! Building without a command: no namespace, no unpacking, and no more of the base than is asked for.

use std::path::Path;
use std::process::Command;

use axum::http::Method;
use axum::http::StatusCode;
use coracle::oci::Digest;
use serde_json::json;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::archive;
use crate::support::archive::LayerBuilder;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::proxy::Fault;
use crate::support::proxy::Seen;
use crate::support::requirement;
use crate::support::requirement::require;
use crate::support::skopeo;

/// A base of three layers: a large one with the system's directories, a link and another one, and
/// one on top that has `/srv`. Each is like no other that skopeo may remember from an earlier registry
/// at the same address: it would take up that one, and forget what its table is.
fn push_base(registry: &Registry) {
    let address = registry.address();
    let mark = format!("{address} {}", std::process::id());
    let mut system = LayerBuilder::new();
    for directory in ["etc", "usr", "usr/lib"] {
        system.directory(directory, 0o755);
    }
    system.file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nbuilder:x:1234:1235::/:/bin/sh\n");
    system.file("usr/lib/large", 0o644, &vec![b'x'; 4 << 20]);
    system.file("usr/lib/mark", 0o644, mark.as_bytes());
    let mut middle = LayerBuilder::new();
    middle.symlink("lib", "usr/lib");
    middle.directory("opt", 0o700);
    middle.file("opt/mark", 0o644, mark.as_bytes());
    let mut top = LayerBuilder::new();
    top.directory("srv", 0o711);
    top.file("srv/mark", 0o644, mark.as_bytes());
    let layers = [system.finish(), middle.finish(), top.finish()];
    base::push(registry, "team/base", "latest", &layers, &json!({}));
}

/// The same base, with layers that have tables of contents, as skopeo makes them of it.
fn push_chunked_base(registry: &Registry) -> Result<(), String> {
    push_base(registry);
    let name = |name: &str| format!("docker://{}/team/{name}:latest", registry.address());
    let options = ["--dest-compress-format", "zstd:chunked"];
    skopeo::copy(&name("base"), &name("chunked"), &options)
}

struct Bench {
    registry: Registry,
    proxy: Proxy,
    coracle: Coracle,
    context: Scratch,
    /// The repository of the base.
    base: &'static str,
}

impl Bench {
    fn new(who: Who) -> Result<Self, String> {
        let registry = Registry::open()?;
        push_base(&registry);
        let proxy = Proxy::start(&registry.address());
        let context = Scratch::new();
        context.write("app/run", "run");
        context.write("app/lib/part", "part");
        Ok(Self { registry, proxy, coracle: Coracle::run_by(who)?, context, base: "base" })
    }

    /// Builds with these lines after `FROM`, pushes to the base's registry, and gives the image and
    /// how many layers came down for it.
    #[track_caller]
    fn push(&self, lines: &str, options: &[&str]) -> (Image, usize) {
        let address = self.proxy.address();
        self.context.write("Dockerfile", format!("FROM {address}/team/{}\n{lines}\n", self.base));
        let name = format!("{address}/team/app:1");
        let directory = self.context.path().display().to_string();
        self.proxy.forget();
        let fixed = ["build", "-t", &name, "--push"];
        let arguments = [&fixed, options, &[&directory]].concat();
        self.coracle.run_without_namespaces(&arguments).ok();
        let configs = usize::from(self.proxy.seen().iter().any(|seen| self.is_config(&seen.path)));
        (Image::from_registry(&self.registry, "team/app", "1"), self.proxy.downloads() - configs)
    }

    /// Whether this is the path of the base's config.
    fn is_config(&self, path: &str) -> bool {
        let repository = format!("team/{}", self.base);
        let manifest = self.registry.client().manifest(&repository, "latest").expect("it is there");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
        path.ends_with(manifest["config"]["digest"].as_str().expect("a config has a digest"))
    }

    /// The bytes of all blobs in the store.
    fn stored(&self) -> u64 {
        let blobs = self.coracle.store().join("blobs/sha256");
        let files = std::fs::read_dir(blobs).expect("the store has blobs").flatten();
        files.map(|file| file.metadata().expect("it is there").len()).sum()
    }
}

#[test]
fn a127_a_linked_copy_needs_nothing_of_its_base() {
    let bench = require!(Bench::new(Who::Subordinate));
    let lines = "COPY --link app /app\nADD --link app/run /usr/bin/\nENTRYPOINT [\"/app/run\"]";
    let (image, layers) = bench.push(lines, &[]);
    assert_eq!(layers, 0, "{:#?}", bench.proxy.seen());
    assert_eq!(image.layers.len(), 5);
    assert_eq!(image.files()["app/lib/part"].text(), "part");
    // Three of the base, which the registry moves by itself.
    assert!(bench.proxy.count(&Method::POST, "mount=sha256") >= 3, "{:#?}", bench.proxy.seen());
    // Two layers and the config.
    assert_eq!(bench.proxy.count(&Method::PUT, "/blobs/uploads/"), 3);
    assert!(!bench.coracle.store().join("snapshots/real-user").exists());
}

#[test]
fn a_base_is_looked_into_once_and_not_kept() {
    let bench = require!(Bench::new(Who::Subordinate));
    let (image, layers) = bench.push("COPY app /app\nENTRYPOINT [\"/app/run\"]", &[]);
    // That nothing is at `/app`, only all layers together can tell.
    assert_eq!(layers, 3, "{:#?}", bench.proxy.seen());
    assert_eq!(image.top()["app"].summary(), "d 755 0:0");
    assert!(bench.stored() < 100_000, "no blob of the base is in the store");
    let (image, layers) =
        bench.push("WORKDIR /w\nCOPY app/run /opt\nADD app /lib", &["--no-cache"]);
    assert_eq!(layers, 0, "{:#?}", bench.proxy.seen());
    let files = image.files();
    // A116, A108 and A122: what is there is known, mode and link.
    assert_eq!(files["opt"].summary(), "d 700 0:0");
    assert_eq!(files["opt/run"].text(), "run");
    assert_eq!(files["w"].summary(), "d 755 0:0");
    assert_eq!(image.top().keys().next_back().map(String::as_str), Some("usr/lib/run"));
}

#[test]
fn a_base_is_looked_into_from_the_top_and_no_deeper_than_needed() {
    let bench = require!(Bench::new(Who::Single));
    // A101: what is there is not changed. The layer on top has it.
    let (image, layers) = bench.push("WORKDIR /srv", &[]);
    assert_eq!(layers, 1, "{:#?}", bench.proxy.seen());
    assert!(image.top().is_empty());
    let (image, layers) = bench.push("WORKDIR /opt", &[]);
    assert_eq!(layers, 1, "{:#?}", bench.proxy.seen());
    assert!(image.top().is_empty());
    let (image, layers) = bench.push("COPY --chown=builder app/run /opt/", &[]);
    assert_eq!(layers, 1, "{:#?}", bench.proxy.seen());
    assert_eq!(image.top()["opt"].summary(), "d 700 0:0");
    assert_eq!(image.top()["opt/run"].summary(), "- 644 1234:1235");
    assert!(bench.stored() < 100_000, "no blob of the base is in the store");
}

#[test]
fn a_base_with_tables_of_contents_is_not_downloaded() {
    let mut bench = require!(Bench::new(Who::Single));
    require!(push_chunked_base(&bench.registry));
    bench.base = "chunked";
    let (image, layers) = bench.push("COPY app /app\nENTRYPOINT [\"/app/run\"]", &[]);
    assert_eq!(image.top()["app"].summary(), "d 755 0:0");
    // Each of the three was asked for its table and for nothing else.
    assert_eq!(layers, 3, "{:#?}", bench.proxy.seen());
    let seen = bench.proxy.seen();
    let parts =
        seen.iter().filter(|it| it.range.is_some() && it.status == StatusCode::PARTIAL_CONTENT);
    assert_eq!(parts.count(), 3, "{seen:#?}");
    assert!(bench.stored() < 100_000, "no blob of the base is in the store");
    // What is there is known from the tables, mode and link; and they are asked for once.
    let lines = "WORKDIR /opt\nCOPY app/run /opt\nADD app /lib";
    let (image, layers) = bench.push(lines, &["--no-cache"]);
    assert_eq!(layers, 0, "{:#?}", bench.proxy.seen());
    let files = image.files();
    assert_eq!(files["opt"].summary(), "d 700 0:0");
    assert_eq!(image.top().keys().next_back().map(String::as_str), Some("usr/lib/run"));
    // Contents are in no table: whoever asks for one has the layer that holds it come by.
    let (image, layers) = bench.push("COPY --chown=builder app/run /opt/", &["--no-cache"]);
    assert_eq!(layers, 1, "{:#?}", bench.proxy.seen());
    assert_eq!(image.top()["opt/run"].summary(), "- 644 1234:1235");
    let (_, layers) = bench.push("COPY --chown=builder app /opt/", &["--no-cache"]);
    assert_eq!(layers, 0, "{:#?}", bench.proxy.seen());
    let copy = format!("COPY --from={}/team/chunked /usr/lib/large /x/", bench.proxy.address());
    let (image, _) = bench.push(&copy, &[]);
    assert_eq!(image.files()["x/large"].text().len(), 4 << 20);
}

/// A base that coracle has built elsewhere, of one layer: a user, `/srv`, and much that does not
/// compress. Gives its manifest.
fn push_own_base(registry: &Registry) -> Result<serde_json::Value, String> {
    let elsewhere = Coracle::run_by(Who::Single)?;
    let context = Scratch::new();
    context.write("etc/passwd", "builder:x:1234:1235::/:/bin/sh\n");
    context.write("srv/file", "file");
    let mut noise = Digest::of("noise");
    let mut next = || {
        noise = Digest::of(noise.hex());
        noise.hex()
    };
    // Half of the digits are noise.
    context.write("large", (0..100_000).map(|_| next()).collect::<String>());
    // As many as make more than one member of the index.
    for number in 0..1000 {
        context.write(&format!("many/{}", Digest::of(number.to_string()).hex()), "");
    }
    context.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    let name = format!("{}/team/own:latest", registry.address());
    let directory = context.path().display().to_string();
    elsewhere.run_without_namespaces(&["build", "-t", &name, "--push", &directory]).ok();
    let manifest = registry.client().manifest("team/own", "latest").expect("it was pushed");
    Ok(serde_json::from_slice(&manifest).expect("it is JSON"))
}

#[test]
fn a_base_that_coracle_made_is_not_downloaded() {
    let mut bench = require!(Bench::new(Who::Single));
    let manifest = require!(push_own_base(&bench.registry));
    bench.base = "own";
    let size = manifest["layers"][0]["size"].as_u64().expect("a layer has a size");
    assert!(size > 3_000_000, "{size}");
    let lines = "COPY --chown=builder app /app\nWORKDIR /srv\nENTRYPOINT [\"/app/run\"]";
    let (image, layers) = bench.push(lines, &[]);
    assert_eq!(image.files()["app/run"].summary(), "- 644 1234:1235");
    assert!(image.top().is_empty(), "A101: /srv is there");
    // It was asked for what stands behind it and for nothing else.
    let seen = bench.proxy.seen();
    let parts = seen.iter().filter(|it| it.status == StatusCode::PARTIAL_CONTENT);
    let parts: Vec<String> = parts.filter_map(|it| it.range.clone()).collect();
    assert_eq!((layers, parts.len()), (1, 1), "{seen:#?}");
    let (from, to) = parts[0].trim_start_matches("bytes=").split_once('-').expect("a range");
    let numbers = [from, to].map(|it| it.parse::<u64>().expect("a number"));
    assert!(numbers[0] > size - size / 32 && numbers[1] == size - 1, "{numbers:?} of {size}");
    assert!(bench.stored() < 100_000, "no blob of the base is in the store");
    // Nobody who unpacks the layer sees anything of it.
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest");
    let blob = bench.registry.client().blob("team/own", layer).expect("it was pushed");
    let file = bench.context.write("layer.tar.gz", blob);
    for program in ["gzip", "busybox"] {
        let program = require!(requirement::program(program));
        let is_busybox = program.ends_with("busybox");
        let mut unpack = Command::new(&program);
        unpack.args(is_busybox.then_some("gunzip")).arg("-t").arg(&file);
        let output = unpack.output().expect("it starts");
        assert!(output.status.success(), "{program:?}: {output:?}");
    }
    let (_, layers) = bench.push("WORKDIR /other", &[]);
    assert_eq!(layers, 0, "once is enough: {:#?}", bench.proxy.seen());
    // The image made of it names the index too; contents come out of the layer itself.
    let name = format!("{}/team/app", bench.proxy.address());
    let copy = format!("COPY --from={name}:1 /srv/file /large /x/");
    let (image, _) = bench.push(&copy, &[]);
    assert_eq!(image.files()["x/file"].text(), "file");
    assert_eq!(image.files()["x/large"].text().len(), 6_400_000);
    let ours = bench.registry.client().manifest("team/app", "1").expect("it was pushed");
    let ours: serde_json::Value = serde_json::from_slice(&ours).expect("it is JSON");
    assert_eq!(ours["layers"][0], manifest["layers"][0]);
}

#[test]
fn what_a_manifest_says_of_a_layer_is_not_believed_of_another() {
    let mut bench = require!(Bench::new(Who::Single));
    let mut manifest = require!(push_own_base(&bench.registry));
    // This image says that its layer, whose index has `/srv`, unpacks to what the other one's does.
    let mut plain = LayerBuilder::new();
    plain.directory("opt", 0o700);
    let layer = plain.finish();
    base::push(&bench.registry, "team/plain", "latest", &[layer], &json!({}));
    let client = bench.registry.client();
    let other = client.manifest("team/plain", "latest").expect("it is there");
    let other: serde_json::Value = serde_json::from_slice(&other).expect("it is JSON");
    let config = other["config"]["digest"].as_str().expect("a digest");
    manifest["config"] = other["config"].clone();
    client.put_blob("team/liar", &client.blob("team/plain", config).expect("it is there"));
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    client.put_blob("team/liar", &client.blob("team/own", &layer).expect("it is there"));
    client.put_manifest("team/liar", "latest", base::MANIFEST, manifest.to_string().as_bytes());
    let from = |base: &str| format!("FROM {}/team/{base}\nWORKDIR /srv\n", bench.proxy.address());
    bench.context.write("Dockerfile", from("liar"));
    let directory = bench.context.path().display().to_string();
    let name = format!("{}/team/lie:1", bench.proxy.address());
    bench.coracle.run_without_namespaces(&["build", "-t", &name, "--push", &directory]).ok();
    let parts = bench.proxy.seen().into_iter();
    assert_eq!(parts.filter(|it| it.status == StatusCode::PARTIAL_CONTENT).count(), 1);
    // What is in its files, only the layer itself can tell, and it is not the one that was promised.
    let from =
        format!("FROM scratch\nCOPY --from={}/team/liar /srv/file /\n", bench.proxy.address());
    bench.context.write("Dockerfile", from);
    let build = ["build", "-t", &name, "--push", &directory];
    bench.coracle.run_without_namespaces(&build).fails(4, &["the layer unpacks to"]);
    bench.base = "plain";
    let (image, _) = bench.push("WORKDIR /srv", &[]);
    assert_eq!(image.top()["srv"].summary(), "d 755 0:0");
}

#[test]
fn what_is_known_of_a_layer_is_not_believed_of_another_blob() {
    let bench = require!(Bench::new(Who::Single));
    let push = |repository: &str, text: &str| {
        let mut layer = LayerBuilder::new();
        layer.file("sh", 0o755, text.as_bytes());
        base::push(&bench.registry, repository, "latest", &[layer.finish()], &json!({}));
        let client = bench.registry.client();
        let manifest = client.manifest(repository, "latest").expect("it was pushed");
        serde_json::from_slice::<serde_json::Value>(&manifest).expect("it is JSON")
    };
    let (honest, mut evil) = (push("team/honest", "good"), push("team/evil", "evil"));
    let client = bench.registry.client();
    let config = honest["config"]["digest"].as_str().expect("a digest");
    client.put_blob("team/evil", &client.blob("team/honest", config).expect("it is there"));
    evil["config"] = honest["config"].clone();
    client.put_manifest("team/evil", "latest", base::MANIFEST, evil.to_string().as_bytes());
    let build = |dockerfile: &str| {
        let address = bench.proxy.address();
        bench
            .context
            .write("Dockerfile", dockerfile.replace("REPOSITORY", &format!("{address}/team")));
        let name = format!("{address}/team/made:1");
        let directory = bench.context.path().display().to_string();
        bench.coracle.run_without_namespaces(&["build", "-t", &name, "--push", &directory])
    };
    build("FROM REPOSITORY/honest\nWORKDIR /w\n").ok();
    let copy = "FROM scratch\nCOPY --from=REPOSITORY/IMAGE /sh /\n";
    build(&copy.replace("IMAGE", "evil")).fails(4, &["the layer unpacks to"]);
    build(&copy.replace("IMAGE", "honest")).ok();
    let image = Image::from_registry(&bench.registry, "team/made", "1");
    assert_eq!(image.files()["sh"].text(), "good");
}

#[test]
fn a_table_of_contents_that_cannot_be_had_is_done_without() {
    let mut bench = require!(Bench::new(Who::Single));
    require!(push_chunked_base(&bench.registry));
    bench.base = "chunked";
    let manifest = bench.registry.client().manifest("team/chunked", "latest").expect("there");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
    // What comes first is another table, or none at all.
    let faults = [Fault::Corrupt, Fault::Status(416, None), Fault::Corrupt];
    for (number, fault) in faults.into_iter().enumerate() {
        let digest = manifest["layers"][number]["digest"].as_str().expect("a digest");
        bench.proxy.fail(1, Method::GET, digest, fault);
    }
    let (image, _) = bench.push("COPY app /app", &[]);
    let seen = bench.proxy.seen();
    let is_layer = |it: &&Seen| it.method == Method::GET && it.path.contains("/blobs/");
    let whole = seen.iter().filter(is_layer).filter(|it| it.range.is_none());
    assert_eq!(whole.count(), 1 + 3, "the config and all layers: {seen:#?}");
    assert_eq!(image.top()["app"].summary(), "d 755 0:0");
    assert_eq!(image.layers.len(), 4);
}

#[test]
fn files_of_another_image_are_read_without_unpacking_it() {
    let bench = require!(Bench::new(Who::Single));
    let lines = format!(
        "COPY --from={0}/team/base /usr/lib/large /x/\nCOPY --from={0}/team/base /etc /e/",
        bench.proxy.address()
    );
    let (image, _) = bench.push(&lines, &[]);
    let files = image.files();
    assert_eq!(files["x/large"].text().len(), 4 << 20);
    assert!(files["e/passwd"].text().contains("builder"));
}

#[test]
fn all_files_can_be_written_without_a_namespace() {
    let bench = require!(Bench::new(Who::Single));
    let address = bench.proxy.address();
    bench
        .context
        .write("Dockerfile", format!("FROM {address}/team/base\nCOPY --chown=5 app /lib/\n"));
    let tar = bench.coracle.home("files.tar");
    let directory = bench.coracle.home("files");
    let outputs = [
        format!("type=tar,dest={}", tar.display()),
        format!("type=local,dest={}", directory.display()),
    ];
    let context = bench.context.path().display().to_string();
    let build = ["build", "-o", &outputs[0], "-o", &outputs[1], &context];
    bench.coracle.run_without_namespaces(&build).ok();
    let files = archive::read(&std::fs::read(&tar).expect("it was written"));
    assert_eq!(files["usr/lib/lib/part"].summary(), "- 644 5:5");
    assert_eq!(files["usr/lib/large"].text().len(), 4 << 20);
    assert_eq!(files["opt"].summary(), "d 700 0:0");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("it was written");
    assert_eq!(read("lib/run"), "run");
}

#[test]
fn a_base_that_another_registry_has_passes_through() {
    let bench = require!(Bench::new(Who::Subordinate));
    let other = require!(Registry::open());
    let (source, target) = (bench.proxy.address(), other.address());
    bench.context.write("Dockerfile", format!("FROM {source}/team/base\nCOPY --link app /app\n"));
    let name = format!("{target}/elsewhere/app:1");
    let directory = bench.context.path().display().to_string();
    bench.coracle.run_without_namespaces(&["build", "-t", &name, "--push", &directory]).ok();
    let image = Image::from_registry(&other, "elsewhere/app", "1");
    assert_eq!(image.layers.len(), 4);
    assert!(bench.stored() < 100_000, "no blob of the base is in the store");
}

#[test]
fn a096_a_trigger_of_the_base_can_run_a_command_that_the_dockerfile_does_not_have() {
    let registry = require!(Registry::open());
    let layers = [require!(base::system())];
    let config = json!({"config": {"OnBuild": ["RUN id > /made", "COPY app /app"]}});
    base::push(&registry, "library/trigger", "latest", &layers, &config);
    for who in [Who::Root, Who::Subordinate, Who::Single] {
        let coracle = require!(Coracle::run_by(who));
        let context = Scratch::new();
        context.write("app", "app");
        let build = |dockerfile: &str| {
            let tar = coracle.home("built.tar");
            let output = format!("type=oci,dest={}", tar.display());
            let (mirror, context) =
                (registry.as_docker_hub(), context.path().display().to_string());
            let options = ["--registry-mirror", &mirror, "--output", &output, "-f", "-"];
            let build = [&["build"], &options[..], &[&context]].concat();
            // Standard input can be read once: beginning again must not read it again.
            coracle.run_with(&build, dockerfile).ok();
            Image::from_oci_tar(&tar)
        };
        let image = build("FROM trigger\nCOPY app /own\n");
        assert!(image.files()["made"].text().starts_with("uid=0 "), "{who:?}");
        assert_eq!(image.files()["app"].text(), "app");
        assert_eq!(image.files()["own"].text(), "app");
    }
}

#[test]
fn only_commands_need_a_namespace() {
    let bench = require!(Bench::new(Who::Subordinate));
    let address = bench.proxy.address();
    let names = ["team/base", "team/base:2"].map(|name| format!("{address}/{name}"));
    let run = |arguments: &[&str]| bench.coracle.run_without_namespaces(arguments);
    run(&["pull", &names[0]]).ok();
    run(&["tag", &names[0], &names[1]]).ok();
    run(&["push", &names[1]]).ok();
    run(&["images"]).ok();
    let context = bench.context.path().display().to_string();
    bench.context.write("Dockerfile", format!("FROM {address}/team/base\nRUN x\n"));
    let namespaces = ["build", "--isolation", "namespaces", &context];
    run(&namespaces).fails(4, &["cannot run the steps", "namespaces"]);
    // A stage that nobody needs does not count.
    let text =
        format!("FROM {address}/team/base\nRUN x\nFROM {address}/team/base\nCOPY app /app\n");
    bench.context.write("Dockerfile", text);
    run(&["build", &context]).ok();
}

#[test]
fn a_registry_that_fails_is_blamed_and_not_the_file_that_was_asked_for() {
    let bench = require!(Bench::new(Who::Single));
    let address = bench.proxy.address();
    bench.context.write("Dockerfile", format!("FROM {address}/team/base\nCOPY app /app\n"));
    let manifest = bench.registry.client().manifest("team/base", "latest").expect("it is there");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let layer = manifest["layers"][2]["digest"].as_str().expect("a layer has a digest");
    let fault = Fault::Status(403, None);
    bench.proxy.fail(20, Method::GET, layer, fault);
    let name = format!("{address}/team/app:1");
    let directory = bench.context.path().display().to_string();
    let output = bench.coracle.run(&["build", "-t", &name, "--push", &directory]);
    assert_eq!(output.code, 3, "{output}");
    let without =
        |path: &Path| !output.text().contains(&format!("cannot read `{}`", path.display()));
    assert!(without(Path::new("/app")), "{output}");
}
