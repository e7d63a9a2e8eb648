//! Other tools pull what coracle pushed, and coracle pulls what they pushed, in every format.

use std::path::Path;

use serde_json::Value;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::buildah::Buildah;
use crate::support::requirement::require;
use crate::support::skopeo;

/// The media types of an image's manifest and first layer.
fn types(registry: &Registry, repository: &str, tag: &str) -> (String, String) {
    let manifest = registry.client().manifest(repository, tag).expect("it was pushed");
    let manifest: Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&manifest["mediaType"]), text(&manifest["layers"][0]["mediaType"]))
}

/// Pulls an image of busybox, and builds on it: its layers are unpacked, and what it sets is heeded.
#[track_caller]
fn check_base(coracle: &Coracle, registry: &Registry, name: &str) {
    coracle.run(&["pull", name]).ok();
    let context = Scratch::new();
    context.write("Dockerfile", format!("FROM {name}\nRUN cat /etc/passwd > /copied\n"));
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &[]);
    assert!(image.top()["copied"].text().contains("builder:x:1234"), "{name}");
    assert_eq!(image.setting("Env")[0], base::PATH, "{name}");
}

#[test]
fn coracle_pulls_what_skopeo_pushed() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let from = format!("docker://{}/library/busybox:latest", registry.address());
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    for (tag, options, manifest, layer) in [
        ("v2s2", &["--format=v2s2"][..], docker, docker_layer),
        ("zstd", &["--format=oci", "--dest-compress-format=zstd"], base::MANIFEST, zstd),
    ] {
        // Only what is not compressed yet, and not known to be there in another form, is compressed
        // as one likes.
        let other = require!(Registry::open());
        let name = format!("{}/other/{tag}:1", other.address());
        let plain = format!("dir:{}", coracle.home(tag).display());
        require!(skopeo::copy(&from, &plain, &["--dest-decompress"]));
        require!(skopeo::copy(&plain, &format!("docker://{name}"), options));
        let found = types(&other, &format!("other/{tag}"), "1");
        assert_eq!(found, (manifest.to_owned(), layer.to_owned()), "skopeo did as it was told");
        check_base(&coracle, &other, &name);
    }
}

#[test]
fn an_index_goes_to_skopeo_and_comes_back() {
    let (first, second) = (require!(Registry::open()), require!(Registry::open()));
    require!(base::push_busybox(&first));
    let coracle = require!(Coracle::new());
    let image = format!("{}/library/busybox:latest", first.address());
    let index = format!("{}/team/multi:1", first.address());
    coracle.run(&["index", "create", &index, &image]).ok();
    coracle.run(&["index", "push", &index]).ok();
    let to = format!("docker://{}/team/multi:1", second.address());
    require!(skopeo::copy(&format!("docker://{index}"), &to, &["--all"]));
    let bytes = |registry: &Registry| registry.client().manifest("team/multi", "1");
    assert_eq!(bytes(&first), bytes(&second));
    check_base(&coracle, &second, &format!("{}/team/multi:1", second.address()));
}

#[test]
fn skopeo_and_buildah_pull_what_coracle_pushed() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    // The layer of the second command is large enough to have an index behind it, in several pieces.
    context.write(
        "Dockerfile",
        "FROM busybox\nRUN echo made > /made\n\
         RUN head -c 3000000 /dev/urandom > /large; mkdir /many; \\\n\
         for i in $(seq 500); do : > /many/$(echo $i | sha256sum | cut -c1-64); done\n\
         CMD [\"cat\", \"/made\"]\n",
    );
    let name = format!("{}/team/app:1", registry.address());
    let directory = context.path().display().to_string();
    let mirror = registry.as_docker_hub();
    let build = ["build", "--registry-mirror", &mirror, "--push", "-t", &name, &directory];
    coracle.run(&build).ok();
    let pushed = Image::from_registry(&registry, "team/app", "1");
    let layout = coracle.home("layout");
    let to = format!("oci:{}:x", layout.display());
    require!(skopeo::copy(&format!("docker://{name}"), &to, &[]));
    assert_eq!(Image::from_layout(&layout).digest, pushed.digest);
    let buildah = require!(Buildah::new());
    let (policy, from) = (buildah.policy(), format!("docker://{name}"));
    require!(buildah.run(&["pull", "--tls-verify=false", &policy, &from]));
    let seen = require!(buildah.run(&["inspect", "--type=image", &name]));
    let seen: Value = serde_json::from_str(&seen).expect("it is JSON");
    assert_eq!(seen["FromImageDigest"], pushed.digest);
    assert_eq!(seen["OCIv1"]["config"]["Cmd"], serde_json::json!(["cat", "/made"]));
    let container = require!(buildah.run(&["from", &policy, &name]));
    let files = Path::new(&require!(buildah.run(&["mount", &container]))).to_owned();
    let length = |name: &str| std::fs::metadata(files.join(name)).map(|it| it.len()).ok();
    assert_eq!((length("made"), length("large")), (Some(5), Some(3_000_000)));
    assert_eq!(std::fs::read_dir(files.join("many")).expect("it is unpacked").count(), 500);
    let manifest = registry.client().manifest("team/app", "1").expect("it was pushed");
    let manifest: Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let index = &manifest["layers"].as_array().expect("a list").last().expect("some");
    assert!(index["annotations"]["dev.coracle.layer.index"].is_string(), "{manifest}");
}

#[test]
fn coracle_pulls_what_buildah_pushed() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let buildah = require!(Buildah::new());
    let (address, policy) = (registry.address(), buildah.policy());
    let from = format!("docker://{address}/library/busybox:latest");
    let container = require!(buildah.run(&["from", "--tls-verify=false", &policy, &from]));
    require!(buildah.run(&["config", "--label", "made-by=buildah", &container]));
    for (format, expected) in [
        ("oci", base::MANIFEST),
        ("docker", "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let (local, to) = (format!("made-{format}"), format!("docker://{address}/made/{format}:1"));
        require!(buildah.run(&["commit", "--format", format, &policy, &container, &local]));
        require!(buildah.run(&["push", "--tls-verify=false", &policy, &local, &to]));
        assert_eq!(types(&registry, &format!("made/{format}"), "1").0, expected);
        check_base(&coracle, &registry, &format!("{address}/made/{format}:1"));
    }
}
