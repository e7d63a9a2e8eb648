//! What holds in every backend of the sandbox: each test runs in all of them, and the layers are the
//! same.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::requirement::require;
use crate::support::stand_in;
use crate::support::stand_in::PackageServer;

/// A backend, and somebody who can use it on any machine.
const BACKENDS: [(&str, Who); 4] = [
    ("namespaces", Who::Subordinate),
    ("namespaces", Who::Root),
    ("chroot", Who::Root),
    ("emulate", Who::Single),
];

/// One backend, ready to build.
struct Bench {
    registry: Registry,
    coracle: Coracle,
    isolation: &'static str,
}

impl Bench {
    fn new((isolation, who): (&'static str, Who)) -> Result<Self, String> {
        let registry = Registry::open()?;
        base::push_busybox(&registry)?;
        let mut coracle = Coracle::run_by(who)?;
        coracle.set("SOURCE_DATE_EPOCH", "0");
        Ok(Self { registry, coracle, isolation })
    }

    fn build(&self, dockerfile: &str, options: &[&str]) -> Image {
        let context = context(dockerfile);
        let options = [&["--isolation", self.isolation, "--no-cache"], options].concat();
        self.coracle.build(context.path(), &self.registry.as_docker_hub(), &options)
    }

    /// Builds what fails; gives what was said.
    fn fails(&self, dockerfile: &str, options: &[&str]) -> String {
        let context = context(dockerfile);
        let mirror = self.registry.as_docker_hub();
        let fixed = ["build", "--isolation", self.isolation, "--registry-mirror", &mirror];
        let directory = context.path().display().to_string();
        let output = self.coracle.run(&[&fixed, options, &[&directory]].concat());
        assert_ne!(output.code, 0, "{}: {output}", self.isolation);
        output.text()
    }
}

fn context(dockerfile: &str) -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile);
    context.write("file", "from the context");
    context
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that a layer can hold, done by commands of all kinds.
const ALL_CHANGES: &str = "FROM busybox\n\
    RUN mkdir -p /a/b/c /srv && echo 1 > /a/b/c/f && ln /a/b/c/f /a/g && ln -s b/c /a/link && \
        mkfifo /a/pipe && chown -R 1234:1235 /a/b && chmod 4755 /a/g && chmod 1777 /srv\n\
    RUN rm -r /a/b && mkdir /a/b && echo 2 > /a/b/new && touch -d @7 /a/g && rm /a/link\n\
    RUN mv /a /moved && mkdir /a && echo 3 > /a/3 && echo x >> /etc/passwd && chmod 600 /etc/group\n\
    USER builder\n\
    RUN echo mine > /srv/mine; id -u > /srv/id; id -G > /srv/groups; cat /etc/group 2> /srv/no; true\n\
    USER root\n\
    WORKDIR /work\n\
    COPY file .\n\
    RUN --mount=target=/c --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t \
        cp /c/file /copied && echo x > /cache/x && echo y > /t/y && rm file\n\
    RUN (sleep 1000; echo late > /late) & echo early > /early\n";

#[test]
fn the_layers_are_the_same_in_all() {
    let mut expected: Option<(String, Vec<String>)> = None;
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let image = bench.build(ALL_CHANGES, &[]);
        bench.coracle.assert_nothing_left();
        let names = image.layers.iter().flatten().map(|(path, _)| path.clone()).collect();
        match &expected {
            None => expected = Some((image.digest, names)),
            Some((digest, others)) => {
                assert_eq!(&names, others, "{backend:?}");
                assert_eq!(&image.digest, digest, "{backend:?}");
            }
        }
    }
}

/// Overlayfs keeps no changes on another overlay, as a container's own root is one: then namespaces get
/// a directory, too.
#[test]
fn the_layers_are_the_same_with_a_store_on_an_overlay() {
    let bench = require!(Bench::new(("namespaces", Who::Root)));
    let expected = bench.build(ALL_CHANGES, &[]).digest;
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(bench.coracle.home(name)).expect("home is writable");
    }
    let context = context(ALL_CHANGES);
    let tar = bench.coracle.home("on-overlay.tar");
    let script = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && \
        exec \"$@\"";
    let build = bench.coracle.prepare(&[
        "--root",
        &bench.coracle.home("merged/store").display().to_string(),
        "build",
        "--isolation=namespaces",
        "--registry-mirror",
        &bench.registry.as_docker_hub(),
        "--output",
        &format!("type=oci,dest={}", tar.display()),
        &context.path().display().to_string(),
    ]);
    let mut command = bench.coracle.command(std::path::Path::new("unshare"));
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(build.get_program()).args(build.get_args());
    crate::support::coracle::finish(&mut command, b"").ok();
    assert_eq!(Image::from_oci_tar(&tar).digest, expected);
    let made = std::fs::read_dir(bench.coracle.home("upper/store/snapshots")).expect("it was used");
    assert_eq!(made.count(), 1);
    bench.coracle.assert_nothing_left();
}

#[test]
fn the_founding_example_is_the_same_in_all() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    let context = packages.context();
    let mut digests = Vec::new();
    for (isolation, who) in BACKENDS {
        let mut coracle = require!(Coracle::run_by(who));
        coracle.set("SOURCE_DATE_EPOCH", "0");
        let mirror = registry.as_docker_hub();
        digests.push(coracle.build_digest(context.path(), &mirror, &["--isolation", isolation]));
        coracle.assert_nothing_left();
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a152_how_a_command_ends_is_told() {
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        for (command, said) in [
            ("exit 42", "exit code: 42"),
            ("kill -9 $$", "exit code: 137"),
            ("kill -TERM $$", "exit code: 143"),
        ] {
            let text = bench.fails(&format!("FROM busybox\nRUN {command}\n"), &[]);
            assert!(text.contains(said), "{backend:?}: {text}");
        }
        let text = bench.fails("FROM busybox\nRUN [\"/nowhere\"]\n", &[]);
        assert!(text.contains("no such file or directory"), "{backend:?}: {text}");
        let text = bench.fails("FROM busybox\nRUN [\"/etc/passwd\"]\n", &[]);
        assert!(text.contains("permission denied"), "{backend:?}: {text}");
    }
}

#[test]
fn a151_what_every_command_expects_is_there() {
    let step = "RUN set -e; for f in null zero full random urandom tty; do test -c /dev/$f; done; \
        for it in $(seq 300); do echo $it; done > /dev/null; head -c 4 /dev/zero | wc -c; \
        echo to error > /dev/stderr; echo to output > /dev/stdout; cat /dev/stdin; \
        test \"$(cat /proc/self/comm)\" = cat; test -r /proc/self/exe; ls /proc/self/fd > /dev/null; \
        ls /proc | grep -q '^self$'; ls /proc/$$/task | grep -q .; grep -q processor /proc/cpuinfo; \
        readlink /proc/self/exe > /exe; test -d /sys; echo x > /dev/shm/x; test \"$(tty)\" = 'not a tty'; \
        hostname > /name; cat /proc/sys/kernel/hostname >> /name; (exec -a busybox /proc/self/exe echo again) > /again; \
        cat /proc/mounts | grep -q ' / '; df / > /dev/null; grep -q localhost /etc/hosts; echo $HOME > /home-is";
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let image = bench.build(&format!("FROM busybox\n{step}\n"), &[]);
        let top = image.top();
        let read = |name: &str| top[name].text();
        assert_eq!(read("exe"), "/bin/busybox\n", "{backend:?}");
        assert_eq!(read("again"), "again\n", "{backend:?}");
        assert_eq!(read("name"), "buildkitsandbox\nbuildkitsandbox\n", "{backend:?}");
        assert_eq!(read("home-is"), "/root\n", "{backend:?}");
        let mut names: Vec<&String> = top.keys().collect();
        names.sort();
        assert_eq!(names, ["again", "exe", "home-is", "name"], "{backend:?}");
    }
}

#[test]
fn a151_the_files_of_the_network_and_mount_points_leave_no_trace() {
    let dockerfile = "FROM busybox\n\
        RUN echo image > /etc/hosts; rm -f /etc/resolv.conf; true\n\
        RUN --mount=type=secret,id=s --mount=type=cache,target=/new/cache --mount=target=/new/b \
            test -s /run/secrets/s && ls -A /new/b && ! touch /new/b/x && touch /new/cache/x && \
            echo 1 > /etc/new\n";
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let secret = bench.coracle.home("secret");
        std::fs::write(&secret, "correct-horse").expect("home is writable");
        let secret = format!("id=s,src={}", secret.display());
        let image = bench.build(dockerfile, &["--secret", &secret]);
        let names: Vec<&String> = image.top().keys().collect();
        assert_eq!(names, ["etc", "etc/new"], "{backend:?}");
    }
}

#[test]
fn a157_a_cache_is_kept_and_a_secret_touches_no_disk() {
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=cache,target=/c,id=one --mount=type=cache,target=/d,id=one \
            echo kept > /c/f && cat /d/f\n\
        RUN --mount=type=cache,target=/e,id=one cat /e/f > /seen\n\
        USER builder\n\
        RUN --mount=type=secret,id=s ! cat /run/secrets/s\n\
        RUN --mount=type=secret,id=s,uid=1234 cd /run/secrets && test $(wc -c < s) = 13 && \
            test \"$(stat -c '%a %u' s)\" = '400 1234'\n";
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let secret = bench.coracle.home("secret");
        std::fs::write(&secret, "correct-horse").expect("home is writable");
        let given = format!("id=s,src={}", secret.display());
        let image = bench.build(dockerfile, &["--secret", &given]);
        assert!(
            image
                .layers
                .iter()
                .flatten()
                .any(|(path, file)| { path == "seen" && file.content == b"kept\n" })
        );
        let store = bench.coracle.store();
        let output = std::process::Command::new("grep")
            .args(["-rlaF", "-e", "correct-horse"])
            .arg(store)
            .output()
            .expect("grep runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{backend:?}");
    }
}

#[test]
fn a_step_without_network_has_none() {
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let url = format!("http://{}/v2/", bench.registry.address());
        let step = format!("RUN --network=none ! wget -q -O /dev/null {url}");
        bench.build(&format!("FROM busybox\n{step}\nRUN wget -q -O /dev/null {url}\n"), &[]);
    }
}

/// A shell starts the next command of a pipeline while the one before it ends, and hears of that by a
/// signal: no call of it may fail for that reason.
#[test]
fn shells_start_pipelines_undisturbed() {
    let step = "RUN i=0; while [ $i -lt 100 ]; do true | cat | true | cat; \
        x=$(echo a | cat; true & echo b > /dev/null); i=$((i+1)); done; echo $i > /count";
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let image = bench.build(&format!("FROM busybox\n{step}\n"), &[]);
        assert_eq!(image.top()["count"].text(), "100\n", "{backend:?}");
    }
}

#[test]
fn control_c_and_sigkill_leave_nothing_running() {
    let step = "RUN (trap '' INT TERM; sleep 1000) & (sleep 1000 &) ; echo under-''way; sleep 1000";
    for backend in BACKENDS {
        for signal in [Signal::INT, Signal::KILL] {
            let bench = require!(Bench::new(backend));
            let context = context(&format!("FROM busybox\n{step}\n"));
            let mirror = bench.registry.as_docker_hub();
            let directory = context.path().display().to_string();
            let fixed = ["build", "--isolation", bench.isolation, "--progress=plain"];
            let build = [&fixed[..], &["--registry-mirror", &mirror, &directory]].concat();
            let mut process = bench.coracle.start(&build, "build");
            wait_until("the step", || bench.coracle.written("build").contains("under-way"));
            process.signal(signal);
            wait_until("the end", || process.ended().is_some());
            bench.coracle.assert_nothing_left();
        }
    }
}

#[test]
fn a_cache_survives_a_killed_builder() {
    for backend in BACKENDS {
        let bench = require!(Bench::new(backend));
        let step =
            "RUN --mount=type=cache,target=/c,id=it echo kept > /c/f; echo under-''way; sleep 1000";
        let context = context(&format!("FROM busybox\n{step}\n"));
        let mirror = bench.registry.as_docker_hub();
        let directory = context.path().display().to_string();
        let fixed = ["build", "--isolation", bench.isolation, "--progress=plain"];
        let build = [&fixed[..], &["--registry-mirror", &mirror, &directory]].concat();
        let mut process = bench.coracle.start(&build, "build");
        wait_until("the step", || bench.coracle.written("build").contains("under-way"));
        process.signal(Signal::KILL);
        wait_until("the end", || process.ended().is_some());
        bench.coracle.assert_nothing_left();
        let step = "RUN --mount=type=cache,target=/c,id=it cat /c/f > /seen";
        let image = bench.build(&format!("FROM busybox\n{step}\n"), &[]);
        assert_eq!(image.top()["seen"].text(), "kept\n", "{backend:?}");
    }
}

#[test]
fn more_processes_than_the_limit_are_refused() {
    let step =
        "RUN for it in $(seq 400); do sleep 1000 & done 2> /err; jobs | wc -l > /count; true";
    for backend in [("namespaces", Who::Single), ("chroot", Who::Root)] {
        let bench = require!(Bench::new(backend));
        let context = context(&format!("FROM busybox\n{step}\nRUN echo alive\n"));
        let mirror = bench.registry.as_docker_hub();
        let directory = context.path().display().to_string();
        let fixed = ["build", "--isolation", bench.isolation, "--ulimit", "nproc=50"];
        let build = [&fixed[..], &["--registry-mirror", &mirror, &directory]].concat();
        // A shell that may start no more gives up; that the next step works is what counts.
        bench.coracle.run(&build);
        bench.coracle.assert_nothing_left();
        bench.build("FROM busybox\nRUN echo alive\n", &[]);
    }
}
