//! The founding example: the Dockerfile that coracle was begun for, from base image to a running
//! container, as an ordinary user, between registries that want to know who asks.

use coracle::oci::Digest;
use serde_json::json;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::coracle::Who;
use crate::support::registry::Auth;
use crate::support::requirement::require;
use crate::support::skopeo;
use crate::support::stand_in;
use crate::support::stand_in::PackageServer;
use crate::support::token::TokenServer;
use crate::support::token::User;

const FIZZBUZZ: &str = "1\n2\nfizz\n4\nbuzz\nfizz\n7\n8\nfizz\nbuzz\n";

#[test]
fn it_builds_pushes_to_two_registries_and_runs() {
    let users = vec![User::new("alice", "alices-password", "pull,push", "")];
    let tokens = TokenServer::start("127.0.0.1:0", users).expect("loopback has free ports");
    let first = require!(Registry::start(&Auth::Token(&tokens)));
    let second = require!(Registry::start(&Auth::Basic("bob", "bobs-password")));
    require!(stand_in::push(&first, &["--dest-creds=alice:alices-password"]));
    let packages = PackageServer::start();
    let context = packages.context();
    let coracle = require!(Coracle::new());
    let before = Proxy::start(&first.address());

    for (registry, user) in [(&before.address(), "alice"), (&second.address(), "bob")] {
        let password = format!("{user}s-password");
        coracle.run_with(&["login", registry, "-u", user, "--password-stdin"], &password).ok();
    }
    let name = format!("{}/team/helloworld:v1.1.0", before.address());
    let mirror = before.as_docker_hub();
    let context = context.path().display().to_string();
    let version = "VERSION=v1.1.0";
    let arguments =
        ["build", "--registry-mirror", &mirror, "--build-arg", version, "-t", &name, &context];
    let once = coracle.run(&arguments).ok();
    assert_eq!(packages.served(), 1, "{once}");

    let other = format!("{}/team/helloworld:v1.1.0", second.address());
    coracle.run(&["tag", &name, &other]).ok();
    coracle.run(&["push", &name, &other]).ok();
    let image = Image::from_registry(&first, "team/helloworld", "v1.1.0");
    let other = second.client().manifest("team/helloworld", "v1.1.0").expect("it was pushed");
    assert_eq!(image.digest, Digest::of(&other).to_string());
    check_image(&image);

    before.forget();
    let again = coracle.run(&arguments).ok();
    coracle.run(&["push", &name]).ok();
    assert_eq!(packages.served(), 1, "the second build ran a step:\n{again}");
    assert_eq!((before.uploads(), before.downloads()), (0, 0), "{:#?}", before.seen());

    let ran = coracle.run(&["run", &name]).ok();
    assert_eq!(ran.stdout, FIZZBUZZ, "{ran}");
    for text in [once.text(), again.text(), ran.text()] {
        assert!(!text.contains("s-password"), "{text}");
    }
    coracle.assert_nothing_left();
}

/// Config and history as `BuildKit` writes them (A066 to A082), and a layer with what pip wrote.
fn check_image(image: &Image) {
    assert_eq!(*image.setting("Entrypoint"), json!(["helloworld"]));
    assert_eq!(*image.setting("Cmd"), json!(["fizzbuzz", "-n", "10"]));
    assert_eq!(image.config["author"], "Chris Ostrouchov");
    let env = image.setting("Env").to_string();
    assert!(env.contains("LANG=C.UTF-8") && !env.contains("VERSION"), "{env}");
    let arguments = "VERSION=v1.1.0 USERNAME=costrouc PROJECT=python-package-template";
    let history = image.history();
    let own: Vec<(&str, bool)> =
        history.iter().skip(4).map(|(text, empty)| (text.as_str(), *empty)).collect();
    let run = own[4].0;
    assert!(run.starts_with(&format!("RUN |3 {arguments} /bin/sh -c pip install ")), "{run}");
    assert!(run.ends_with("/$VERSION/archive.tar.gz # buildkit"), "{run}");
    assert_eq!(
        own,
        [
            ("MAINTAINER Chris Ostrouchov", true),
            ("ARG VERSION=v1.1.0", true),
            ("ARG USERNAME=costrouc", true),
            ("ARG PROJECT=python-package-template", true),
            (run, false),
            ("ENTRYPOINT [\"helloworld\"]", true),
            ("CMD [\"fizzbuzz\" \"-n\" \"10\"]", true),
        ]
    );
    assert_eq!(image.layers.len(), 4, "three of the base and one of pip");
    let installed = "usr/local/lib/python3.11/dist-packages/helloworld";
    for (path, file) in image.top() {
        let expected = path.starts_with(installed)
            || installed.starts_with(path.as_str())
            || ["usr/local/bin", "usr/local/bin/helloworld", "tmp"].contains(&path.as_str());
        assert!(expected, "{path} is in pip's layer: {}", file.summary());
        assert_eq!((file.uid, file.gid), (0, 0), "{path}");
    }
    assert_eq!(image.top()["usr/local/bin/helloworld"].summary(), "- 755 0:0");
    assert!(image.top().contains_key(&format!("{installed}/cli.py")));
}

#[test]
fn everybody_gets_the_same_image() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    let mut digests = Vec::new();
    for who in [Who::Root, Who::Subordinate] {
        let mut coracle = require!(Coracle::run_by(who));
        coracle.set("SOURCE_DATE_EPOCH", "0");
        let context = packages.context();
        let mirror = registry.as_docker_hub();
        digests.push(coracle.build_digest(context.path(), &mirror, &["--no-cache"]));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn skopeo_copies_it_out_and_back() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    let context = packages.context();
    let coracle = require!(Coracle::new());
    let name = format!("{}/team/helloworld:1", registry.address());
    let mirror = registry.as_docker_hub();
    let context = context.path().display().to_string();
    coracle.run(&["build", "--registry-mirror", &mirror, "-t", &name, "--push", &context]).ok();
    let layout = coracle.home("layout");
    let oci = format!("oci:{}:1", layout.display());
    require!(skopeo::copy(&format!("docker://{name}"), &oci, &[]));
    let back = format!("docker://{}/team/back:1", registry.address());
    require!(skopeo::copy(&oci, &back, &[]));
    let digest = |image: &str| skopeo::inspect(image).expect("it is there")["Digest"].clone();
    assert_eq!(digest(&format!("docker://{name}")), digest(&back));
}
