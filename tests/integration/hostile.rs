//! Steps that want out: each attempt, in each place, must fail.
//!
//! Most attempts are in `testdata/places/hostile.c`, which says `ESCAPED` when one succeeds.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::Place;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::archive::LayerBuilder;
use crate::support::base;
use crate::support::place::Kind;
use crate::support::requirement;
use crate::support::requirement::require;

/// What no step may get to see.
const SECRET: &str = "hunter2-of-the-builder";
/// What no step may change.
const UNTOUCHED: &str = "untouched";

/// What a step tries.
struct Attempt {
    /// The command; `@OUT@` is a file outside and `@STORE@` the store, as the builder calls them, and
    /// `@SOCKET@` the name of an abstract socket on which somebody outside listens.
    script: &'static str,
    /// Flags of `RUN`.
    flags: &'static str,
    /// Options of `coracle build`.
    options: &'static [&'static str],
    /// Whether the step itself may come to harm.
    may_fail: bool,
}

const USUAL: Attempt =
    Attempt { script: "", flags: "", options: &["--timeout", "100s"], may_fail: false };

const fn of(script: &'static str) -> Attempt {
    Attempt { script, ..USUAL }
}

const READ_FILES: Attempt = of("for root in '' /proc/1/root /proc/self/root /proc/*/root \
     /proc/*/cwd/../../../../../.. /../../../.. ./../../../..; do \
     cat $root@OUT@ $root@STORE@/oci-layout $root@STORE@/../docker/config.json $root/etc/shadow && \
     echo ESCAPED $root; done 2> /dev/null; ls /proc/*/fd/ 2> /dev/null | grep -q coracle && echo ESCAPED; \
     echo attempted");
const WRITE_THROUGH_LINKS: Attempt = of(
    "mkdir -p /l && cd /l && ln -s / root && ln -s @OUT@ file && \
     ln -s ../../../../../../../../../..@OUT@ up && ln -s /proc/1/root/@OUT@ proc && \
     ln -s /proc/self/cwd/../../../../../..@OUT@ cwd && mkdir -p deep/er && \
     for it in root@OUT@ file up proc cwd deep/er/../../../../../../../..@OUT@ @OUT@; do \
     echo touched >> $it; chmod 777 $it; rm -f $it/; mv $it /stolen; ln $it /linked; done 2> /dev/null; \
     grep -s untouched /stolen /linked && echo ESCAPED; echo attempted",
);
const READ_ENVIRONMENT: Attempt = of(
    "cat /proc/*/environ /proc/*/cmdline /proc/*/task/*/environ 2> /dev/null \
     | tr '\\0' '\\n' | grep -e 'hunter[2]-of' -e 'registry-mirro[r]' && echo ESCAPED; env | grep 'hunter[2]' && echo ESCAPED; \
     echo attempted",
);
const KILL_EVERYBODY: Attempt = Attempt {
    may_fail: true,
    ..of(
        "trap '' TERM; /hostile kill; kill -9 1; kill -TERM -1; kill -9 -1; kill -9 0; echo attempted",
    )
};
const SELF_EXE: Attempt = of("printf '#!/proc/self/exe\\n' > /script && chmod 755 /script && \
     (/script & for n in 1 2 3 4 5 6 7 8 9; do for it in /proc/*/exe; do \
     { echo x >> $it; } 2> /dev/null && ls -l $it | grep coracle && echo ESCAPED; done; done; wait) 2> /dev/null; \
     echo attempted");
const NO_NETWORK: Attempt = Attempt {
    flags: "--network=none ",
    ..of("wget -T 3 -q -O - http://@REGISTRY@/v2/ && echo ESCAPED; \
          nc -w 2 127.0.0.1 $(echo @REGISTRY@ | cut -d: -f2) < /dev/null && echo ESCAPED; echo attempted")
};
const BOMB: Attempt =
    Attempt { may_fail: true, ..of("/hostile bomb; /hostile bomb; echo attempted; sleep 1") };

fn check(kind: Kind, attempt: &Attempt) {
    let registry = require!(Registry::open());
    require!(push_image(&registry));
    let mut place = require!(Place::new(kind));
    let (out, docker) = (place.directory().join("outside"), place.directory().join("docker"));
    for directory in [&out, &docker] {
        fs::create_dir(directory).expect("the place is writable");
    }
    let config = json!({"auths": {"registry.invalid": {"registrytoken": SECRET}}}).to_string();
    fs::write(docker.join("config.json"), config).expect("the place is writable");
    let victim = out.join("victim");
    fs::write(&victim, UNTOUCHED).expect("the place is writable");
    // It is not its mode that protects it.
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o666)).expect("it is ours");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).expect("it is ours");
    place.set("DOCKER_CONFIG", &place.inside("docker"));
    place.set("CORACLE_TEST_SECRET", SECRET);
    let socket = format!("coracle-test-{}-{kind:?}", std::process::id());
    let address = SocketAddr::from_abstract_name(&socket).expect("a short name");
    let _listener = UnixListener::bind_addr(&address).expect("nobody else has that name");

    let store = place.inside("store");
    let script = attempt
        .script
        .replace("@OUT@", &place.inside("outside/victim"))
        .replace("@STORE@", &store)
        .replace("@SOCKET@", &socket)
        .replace("@REGISTRY@", &registry.address());
    let context = Scratch::new();
    let dockerfile = format!("FROM hostile\nRUN {}{script}\n", attempt.flags);
    context.write("Dockerfile", dockerfile);
    let directory = place.copy(context.path(), "context");
    let mirror = registry.as_docker_hub();
    let root = format!("--root={store}");
    let build = ["build", &root, "--registry-mirror", &mirror, "--output=type=store"];
    // By itself a build with one id is emulated; the other way must hold as well.
    let way: &[&str] = if kind == Kind::Single { &["--isolation=namespaces"] } else { &[] };
    let output = place.run(&[&build, attempt.options, way, &[&directory]].concat());
    // The command line is drawn with an error, so only what the command says counts.
    let said: Vec<&str> = output.stderr.lines().filter(|line| !line.contains("RUN ")).collect();
    let said = said.join("\n");
    assert!(!said.contains("ESCAPED:") && !said.contains("\nESCAPED"), "{kind:?}: {output}");
    assert!(!has_line(&said, "ESCAPED"), "{kind:?}: {output}");
    assert!(!output.text().contains(SECRET), "{kind:?}: {output}");
    if attempt.may_fail {
        assert!([0, 1].contains(&output.code), "{kind:?}: {output}");
    } else {
        assert_eq!(output.code, 0, "{kind:?}: {output}");
        assert!(has_line(&said, "attempted"), "{kind:?}: {output}");
    }
    let now = fs::read_to_string(&victim).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(now, UNTOUCHED, "{kind:?}: {output}");
    let mode = fs::metadata(&victim).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o666, "{kind:?}: {output}");
    assert_eq!(fs::read_dir(&out).expect("it is there").count(), 1, "{kind:?}: {output}");
    place.assert_nothing_left();
}

/// Whether a command has written that line, or one that begins so.
fn has_line(said: &str, word: &str) -> bool {
    said.lines().any(|line| {
        let text = line.split_once(' ').filter(|(number, _)| number.starts_with('#'));
        text.is_some_and(|(_, text)| text.trim_start().starts_with(word))
    })
}

/// The only image in which the program of the attempts does anything.
fn push_image(registry: &Registry) -> Result<(), String> {
    let program = fs::read(hostile()?).map_err(|error| error.to_string())?;
    let mut layer = LayerBuilder::new();
    layer.file("hostile", 0o755, &program);
    layer.file("this-is-a-step-of-coracles-tests", 0o644, b"yes\n");
    base::push(
        registry,
        "library/hostile",
        "latest",
        &[base::system()?, layer.finish()],
        &json!({}),
    );
    Ok(())
}

/// Builds the program of the attempts, once for all tests.
fn hostile() -> Result<PathBuf, String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/places/hostile.c");
    let text = fs::read(source).map_err(|error| error.to_string())?;
    let name = coracle::oci::Digest::of(&text).to_string().replace(':', "-");
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{}", &name[..20]));
    if !built.is_file() {
        let compiler = requirement::program("gcc")?;
        let mine = built.with_extension(std::process::id().to_string());
        let arguments = ["-static", "-O1", "-pthread", "-Wall", "-o"];
        let output = Command::new(compiler).args(arguments).arg(&mine).arg(source).output();
        let output = output.map_err(|error| error.to_string())?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Several tests may do it at once; each result is as good.
        fs::rename(&mine, &built).map_err(|error| error.to_string())?;
    }
    Ok(built)
}

/// Every attempt as a test in the place.
macro_rules! attempts {
    ($($place:ident: $kind:expr),*) => {$(
        mod $place {
            use super::*;

            #[test]
            fn reading_files() { check($kind, &READ_FILES) }
            #[test]
            fn reading_the_environment() { check($kind, &READ_ENVIRONMENT) }
            #[test]
            fn reading_other_processes() { check($kind, &of("/hostile read")) }
            #[test]
            fn tracing_other_processes() { check($kind, &of("/hostile trace")) }
            #[test]
            fn killing_everybody() { check($kind, &KILL_EVERYBODY) }
            #[test]
            fn writing_through_links() { check($kind, &WRITE_THROUGH_LINKS) }
            #[test]
            fn racing_with_links() { check($kind, &of("/hostile race @OUT@")) }
            #[test]
            fn leaving_by_chroot() { check($kind, &of("/hostile chroot @OUT@")) }
            #[test]
            fn leaving_by_handle() { check($kind, &of("/hostile handle")) }
            #[test]
            fn inherited_descriptors() { check($kind, &of("/hostile descriptors")) }
            #[test]
            fn devices_of_the_machine() { check($kind, &of("/hostile devices @OUT@")) }
            #[test]
            fn calls_of_the_kernel() { check($kind, &of("/hostile kernel")) }
            #[test]
            fn writing_to_the_program() { check($kind, &SELF_EXE) }
            #[test]
            fn abstract_sockets() { check($kind, &of("/hostile abstract @SOCKET@")) }
            #[test]
            fn a_network_that_is_not_there() { check($kind, &NO_NETWORK) }
            #[test]
            fn a_daemon_left_behind() { check($kind, &of("/hostile daemon")) }
            #[test]
            fn a_fork_bomb() { check($kind, &BOMB) }
        }
    )*};
}

attempts! {
    as_root: Kind::Root,
    with_subordinate_ids: Kind::Subordinate,
    with_one_id: Kind::Single,
    in_a_pod: Kind::RootPod,
    in_a_restricted_pod: Kind::RestrictedPod,
    in_a_pod_with_own_users: Kind::OwnUsersPod,
    without_namespaces: Kind::NoNamespaces
}
