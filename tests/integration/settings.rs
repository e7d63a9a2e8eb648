//! What the command line says about all steps: `--ulimit`, `--shm-size`, `--add-host`, `--allow`,
//! `--no-cache-filter`, `--build-arg-file`, and the build arguments that are for the builder.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::requirement::require;

fn registry() -> Result<Registry, String> {
    let registry = Registry::open()?;
    base::push_busybox(&registry)?;
    Ok(registry)
}

fn context(dockerfile: &str) -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile);
    context
}

/// The option without which a user with one id is emulated, who then has no rights to give, and whose
/// `df` finds no file systems.
fn in_namespaces(who: Who) -> &'static [&'static str] {
    if who == Who::Single { &["--isolation", "namespaces"] } else { &[] }
}

#[test]
fn limits_sizes_and_hosts_are_seen_inside() {
    for who in [Who::Root, Who::Subordinate, Who::Single] {
        let registry = require!(registry());
        let coracle = require!(Coracle::run_by(who));
        let context = context(
            "FROM busybox\n\
             RUN (ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -f) > /limits \
                 && df -P -k /dev/shm | awk 'NR==2 { print $2 }' > /shm \
                 && tail -n 2 /etc/hosts > /hosts\n",
        );
        let options = [
            "--ulimit",
            "nofile=100:200",
            "--ulimit",
            "core=0",
            "--ulimit",
            "fsize=1048576",
            "--shm-size",
            "3m",
            "--add-host",
            "db:192.0.2.7",
            "--add-host",
            "six=[2001:db8::1]",
        ];
        let options = [&options[..], in_namespaces(who)].concat();
        let image = coracle.build(context.path(), &registry.as_docker_hub(), &options);
        let top = image.files();
        assert_eq!(top["limits"].text(), "100\n200\n0\n2048\n", "{who:?}");
        assert_eq!(top["shm"].text(), "3072\n", "{who:?}");
        assert_eq!(top["hosts"].text(), "192.0.2.7\tdb\n2001:db8::1\tsix\n", "{who:?}");
        assert!(!top.contains_key("etc/hosts"));
    }
}

#[test]
fn what_cannot_be_is_an_error_that_says_what_to_do() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let context = context("FROM busybox\nRUN true\n");
    let directory = context.path().display().to_string();
    let check = |option: &str, value: &str, code: i32, words: &[&str]| {
        let mirror = registry.as_docker_hub();
        let arguments = ["build", "--registry-mirror", &mirror, option, value, &directory];
        coracle.run(&arguments).fails(code, words);
    };
    check("--add-host", "gw:host-gateway", 2, &["there is no gateway", "127.0.0.1"]);
    check("--add-host", "db:nowhere", 2, &["`nowhere` is not an IP address"]);
    check("--shm-size", "big", 2, &["not a size"]);
    check("--ulimit", "files=3", 2, &["no such limit", "nofile"]);
    check("--allow", "device", 2, &["network.host"]);
    check("--secret", "src=x", 2, &["`id=` is missing"]);
    check("--build-arg-file", "/none", 2, &["/none"]);
    // A user cannot raise what the machine has set.
    check(
        "--ulimit",
        "nproc=-1",
        4,
        &["set the limit `nproc`", "the most that this user may have"],
    );
}

#[test]
fn a160_an_insecure_step_has_all_that_the_sandbox_can_give() {
    let dockerfile = "FROM busybox\n\
         RUN --security=insecure grep -E 'CapEff|Seccomp:' /proc/self/status > /status \
             && mkdir /m && mount -t tmpfs none /m && umount /m && rmdir /m \
             && (mount | grep -c ' /proc/' || true) > /masks\n\
         RUN --network=host grep -E 'CapEff|Seccomp:' /proc/self/status > /usual\n";
    for who in [Who::Root, Who::Subordinate, Who::Single] {
        let registry = require!(registry());
        let coracle = require!(Coracle::run_by(who));
        let context = context(dockerfile);
        let (mirror, directory) = (registry.as_docker_hub(), context.path().display().to_string());
        let build = ["build", "--registry-mirror", &mirror, &directory];
        coracle.run(&build).fails(2, &["security.insecure is not allowed", "--allow security"]);
        let options = ["--allow", "security.insecure", "--allow", "network.host"];
        let options = [&options[..], in_namespaces(who)].concat();
        let image = coracle.build(context.path(), &mirror, &options);
        let top = image.files();
        let all = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("/proc is there");
        let all = (1_u64 << (all.trim().parse::<u32>().expect("a number") + 1)) - 1;
        let status = top["status"].text();
        if who != Who::Root {
            assert!(status.contains(&format!("{all:016x}")), "{who:?}: {status}");
        }
        assert!(!status.contains("Seccomp:\t2"), "{who:?}: {status}");
        assert_eq!(top["masks"].text(), "0\n", "{who:?}");
        assert_eq!(top["usual"].text(), "CapEff:\t00000000a80425fb\nSeccomp:\t2\n", "{who:?}");
        coracle.assert_nothing_left();
    }
}

#[test]
fn a_stage_can_be_built_anew_while_the_others_come_from_the_cache() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let context = context(
        "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
         FROM busybox AS Two\nRUN cat /proc/sys/kernel/random/uuid > /two\n\
         FROM busybox\nCOPY --from=one /one /\nCOPY --from=Two /two /\n",
    );
    let build = |options: &[&str]| {
        let image = coracle.build(context.path(), &registry.as_docker_hub(), options);
        let top = image.files();
        (top["one"].text(), top["two"].text())
    };
    let first = build(&[]);
    assert_eq!(build(&[]), first);
    let second = build(&["--no-cache-filter", "two"]);
    assert_eq!(second.0, first.0);
    assert_ne!(second.1, first.1);
    assert_eq!(build(&[]), second);
    let third = build(&["--no-cache-filter", "one,two"]);
    assert!(third.0 != second.0 && third.1 != second.1);
    let (mirror, directory) = (registry.as_docker_hub(), context.path().display().to_string());
    let arguments =
        ["build", "--registry-mirror", &mirror, "--no-cache-filter", "three", &directory];
    let output = coracle.run(&arguments).ok();
    assert!(output.text().contains("there is no stage of that name"), "{output}");
}

#[test]
fn arguments_can_stand_in_a_file() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let context = context("FROM busybox\nARG A\nARG B\nRUN echo $A $B > /args\n");
    let file = context.write("args", "# two\nA=file\nB=file\n").display().to_string();
    let options = ["--build-arg-file", &file, "--build-arg", "B=line"];
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &options);
    assert_eq!(image.files()["args"].text(), "file line\n");
}

#[test]
fn some_arguments_are_for_the_builder() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let mirror = registry.as_docker_hub();
    let context = context(
        "FROM busybox\n\
         RUN --mount=type=cache,target=/cache hostname > /name; grep -o 'localhost .*' /etc/hosts \
             | head -n 1 >> /name; ls /cache >> /name; touch /cache/used\n",
    );
    let name = |options: &[&str]| {
        let image = coracle.build(context.path(), &mirror, options);
        image.files()["name"].text()
    };
    let (host, space) = ("BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_CACHE_MOUNT_NS");
    assert_eq!(name(&[]), "buildkitsandbox\nlocalhost buildkitsandbox\n");
    let own = format!("--build-arg={host}=own");
    assert_eq!(name(&[&own]), "own\nlocalhost own\nused\n");
    let spaced = format!("--build-arg={space}=team");
    assert_eq!(name(&[&own, &spaced]), "own\nlocalhost own\n");
    let place = context.path().display().to_string();
    let build = |argument: &str| {
        let options = ["build", "--registry-mirror", &mirror, "--build-arg", argument, &place];
        coracle.run(&options)
    };
    build("BUILDKIT_SYNTAX=docker/dockerfile:1.7-labs").ok();
    let words = ["BUILDKIT_SYNTAX=example.org/x", "unsupported frontend", "leave the argument out"];
    build("BUILDKIT_SYNTAX=example.org/x").fails(2, &words);
}

#[test]
fn an_argument_that_no_arg_takes_is_a_warning() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let context = context("FROM busybox AS other\nARG VERSION=1\nFROM scratch\n");
    let (mirror, place) = (registry.as_docker_hub(), context.path().display().to_string());
    let warnings = |argument: &str| {
        let options = ["build", "--registry-mirror", &mirror, "--build-arg", argument, &place];
        let output = coracle.run(&options).ok();
        output.stderr.lines().filter(|it| it.contains("--build-arg")).collect::<Vec<_>>().join("")
    };
    assert_eq!(warnings("VERSION=2"), "");
    assert_eq!(warnings("https_proxy=http://192.0.2.1"), "");
    let expected = "no ARG of that name (did you mean VERSION?)";
    assert!(warnings("VERSOIN=2").ends_with(expected), "{}", warnings("VERSOIN=2"));
    assert!(warnings("BUILDKIT_INLINE_CACHE=1").ends_with("no ARG of that name"));
}
