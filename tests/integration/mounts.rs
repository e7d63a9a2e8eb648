//! `RUN --mount`: caches, secrets and SSH agents (rules A157 to A159).

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::process::Process;
use crate::support::process::wait_until;
use crate::support::requirement;
use crate::support::requirement::require;

const EVERYONE: [Who; 3] = [Who::Root, Who::Subordinate, Who::Single];

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

/// The files below `directory` with `text` in them, as `grep` finds them.
fn find(text: &str, directory: &Path) -> String {
    let output = Command::new("grep").args(["-rlaF", "-e", text]).arg(directory).output();
    String::from_utf8_lossy(&output.expect("grep runs").stdout).into_owned()
}

/// The same in the layers of an image, which are compressed, and in its documents.
fn find_in_image(text: &str, image: &Image) -> Vec<String> {
    let files = image.layers.iter().flatten();
    let contains = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let mut found: Vec<String> =
        files.filter(|(_, file)| contains(&file.content)).map(|(path, _)| path.clone()).collect();
    let documents = format!("{}{}", image.manifest, image.config);
    found.extend(contains(documents.as_bytes()).then(|| "config".to_owned()));
    found
}

fn check_secrets(who: Who) {
    const FILE: &str = "correct-horse-battery";
    const VARIABLE: &str = "staple-of-the-stable";
    let registry = require!(registry());
    let mut coracle = require!(Coracle::run_by(who));
    coracle.set("API_TOKEN", VARIABLE);
    let context = context(
        "FROM busybox\nARG MARK\n\
         RUN --mount=type=secret,id=token,target=/etc/deep/token,mode=0440 \
             --mount=type=secret,id=api,env=TOKEN --mount=type=secret,id=none \
             stat -c '%a %u %g' /etc/deep/token > /seen && stat -f -c %T /etc/deep/token >> /seen \
             && wc -c < /etc/deep/token >> /seen && expr length $TOKEN >> /seen \
             && ! touch /etc/deep/token && ! ls /run/secrets \
             && echo at work: $MARK && while test ! -e /cache/go; do sleep 0.1; done\n\
         RUN ls -R /etc /run\n"
            .replace("RUN --mount", "RUN --mount=type=cache,id=gate,target=/cache --mount")
            .as_str(),
    );
    let secret = coracle.home("token");
    std::fs::write(&secret, FILE).expect("home is writable");
    std::os::unix::fs::chown(&secret, Some(65534), None).ok();
    let at = |name: &str| coracle.home(name).display().to_string();
    let (token, api) = (format!("id=token,src={}", at("token")), "id=api,env=API_TOKEN".to_owned());
    let output = format!("type=oci,dest={}", at("built.tar"));
    let (mirror, directory) = (registry.as_docker_hub(), context.path().display().to_string());
    let (iidfile, metadata) = (at("iid"), at("metadata"));
    let arguments = [
        "build",
        "--registry-mirror",
        &mirror,
        "--secret",
        &token,
        "--secret",
        &api,
        "-t",
        "app",
        "--progress",
        "json",
        "--build-arg",
        "MARK=visible",
        "--iidfile",
        &iidfile,
        "--metadata-file",
        &metadata,
        "-o",
        &output,
        "-o",
        "type=store",
        &directory,
    ];
    let mut build = coracle.start(&arguments, "build");
    wait_until("the step runs", || coracle.written("build").contains("at work: visible"));
    // While the step runs and has the secrets: nothing on disk has them.
    std::fs::remove_file(&secret).expect("it is there");
    let scratch = coracle.home("..");
    let search = || (find(FILE, &scratch), find(VARIABLE, &scratch));
    assert_eq!(search(), (String::new(), String::new()));
    std::fs::write(coracle.cache_mount().join("go"), "").expect("root may do it");
    assert!(build.wait().success(), "{}", coracle.written("build"));
    assert_eq!(search(), (String::new(), String::new()));
    // What is there is found.
    assert_ne!(find("visible", &scratch), "");
    let image = Image::from_oci_tar(&coracle.home("built.tar"));
    assert_eq!(find_in_image(FILE, &image), [""; 0]);
    assert_eq!(find_in_image(VARIABLE, &image), [""; 0]);
    assert_ne!(find_in_image("visible", &image), [""; 0]);
    // Memory in both cases; what is emulated for one id is locked (SECURITY.md).
    let memory = if who == Who::Single { "tmpfs" } else { "ramfs" };
    let expected = format!("440 0 0\n{memory}\n{}\n{}\n", FILE.len(), VARIABLE.len());
    let seen = image.files()["seen"].text().replace("858458f6", "ramfs");
    assert_eq!(seen, expected);
    let leftovers = image.layers.iter().flatten().filter(|(path, _)| path.contains("deep"));
    assert_eq!(leftovers.count(), 0);
    coracle.assert_nothing_left();
}

#[test]
fn a158_a_secret_is_in_nothing_that_the_build_of_root_wrote() {
    check_secrets(Who::Root);
}

#[test]
fn a158_a_secret_is_in_nothing_that_the_build_of_a_user_wrote() {
    require!(requirement::root());
    check_secrets(Who::Subordinate);
}

#[test]
fn a158_a_secret_is_in_nothing_that_the_build_of_a_user_with_one_id_wrote() {
    require!(requirement::root());
    check_secrets(Who::Single);
}

#[test]
fn a158_a_changed_secret_does_not_run_a_step_again_and_a_missing_one_is_an_error() {
    let registry = require!(registry());
    let mut coracle = require!(Coracle::new());
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s,env=S,required date > /when\n";
    let context = context(dockerfile);
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    let build = |coracle: &Coracle, more: &[&str]| {
        let fixed = ["build", "--registry-mirror", &mirror, &directory];
        coracle.run(&[&fixed, more].concat())
    };
    build(&coracle, &[]).fails(2, &["Dockerfile:2", "secret s: not found", "--secret id=s"]);
    build(&coracle, &["--secret", "id=s,env=NONE"]).fails(2, &["no variable NONE"]);
    build(&coracle, &["--secret", "id=s,src=/none"]).fails(2, &["cannot read `/none`"]);
    coracle.set("ONE", "1");
    coracle.set("TWO", "2");
    build(&coracle, &["--secret", "id=s,env=ONE"]).ok();
    let again = build(&coracle, &["--secret", "id=s,env=TWO", "--progress", "json"]).ok();
    assert!(again.text().contains("cached"), "{again}");
}

#[test]
fn a157_a_cache_outlives_the_build_and_is_in_no_layer() {
    for who in EVERYONE {
        let registry = require!(registry());
        let coracle = require!(Coracle::run_by(who));
        let context = context(
            "FROM busybox AS seed\nRUN mkdir -m 0750 /s && echo seed > /s/f\n\
             FROM busybox AS app\n\
             RUN --mount=type=cache,target=/var/c echo x >> /var/c/runs && wc -l < /var/c/runs > /runs\n\
             RUN --mount=type=cache,target=/seeded,from=seed,source=/s \
                 echo more >> /seeded/f && cat /seeded/f > /grown && stat -c %a /seeded > /mode\n\
             RUN --mount=type=cache,target=/ro,id=/var/c,ro ! touch /ro/x && ls /ro > /ro.txt\n",
        );
        let mut grown = "seed\n".to_owned();
        for number in 1..3 {
            let image = coracle.build(
                context.path(),
                &registry.as_docker_hub(),
                &["--no-cache-filter", "app"],
            );
            let top = image.files();
            grown.push_str("more\n");
            assert_eq!(top["runs"].text(), format!("{number}\n"), "{who:?}");
            assert_eq!(top["grown"].text(), grown, "{who:?}");
            assert_eq!(top["mode"].text(), "750\n", "{who:?}");
            assert_eq!(top["ro.txt"].text(), "runs\n", "{who:?}");
            let paths: Vec<_> = image.layers[2..].iter().flat_map(|files| files.keys()).collect();
            assert_eq!(paths, ["runs", "grown", "mode", "ro.txt"], "{who:?}");
        }
        coracle.assert_nothing_left();
    }
}

#[test]
fn a157_a_locked_cache_is_used_by_one_process_at_a_time() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let mirror = registry.as_docker_hub();
    let contexts = ["a", "b", "c"].map(|name| {
        let text = "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked \
            set -e; echo NAME starts; test ! -e /c/busy; touch /c/busy; sleep 1; rm /c/busy; \
            echo NAME >> /c/all; sort /c/all > /all\n";
        (name, context(&text.replace("NAME", name)))
    });
    // The base is unpacked before, so that they really meet.
    let first = context("FROM busybox\nRUN true\n");
    coracle.build(first.path(), &mirror, &[]);
    let mut builds: Vec<Process> = contexts
        .iter()
        .map(|(name, context)| {
            let directory = context.path().display().to_string();
            coracle.start(&["build", "--registry-mirror", &mirror, "-t", name, &directory], name)
        })
        .collect();
    for (build, (name, _)) in builds.iter_mut().zip(&contexts) {
        assert!(build.wait().success(), "{}", coracle.written(name));
    }
    let written: String = contexts.iter().map(|(name, _)| coracle.written(name)).collect();
    assert!(written.contains("waiting for the cache /c"), "{written}");
}

#[test]
fn a157_an_interrupted_build_waits_for_no_cache() {
    let registry = require!(registry());
    let coracle = require!(Coracle::new());
    let mirror = registry.as_docker_hub();
    let holder = context(
        "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked echo held; sleep 30\n",
    );
    let waiter = context("FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked true\n");
    let start = |context: &Scratch, name: &str| {
        let directory = context.path().display().to_string();
        coracle.start(&["build", "--registry-mirror", &mirror, &directory], name)
    };
    let mut first = start(&holder, "holder");
    wait_until("the cache is held", || coracle.written("holder").contains("held\n"));
    let mut second = start(&waiter, "waiter");
    wait_until("the other waits", || coracle.written("waiter").contains("waiting for the cache"));
    // `setpriv` has become coracle.
    for build in [&mut second, &mut first] {
        build.signal(rustix::process::Signal::TERM);
        let asked = Instant::now();
        assert!(!build.wait().success());
        assert!(asked.elapsed() < Duration::from_secs(8));
    }
    coracle.assert_nothing_left();
}

/// `ssh-add` and the libraries that it needs, as files of a build context.
fn ssh_client(context: &Scratch) -> Result<(), String> {
    let program = requirement::program("ssh-add")?;
    context.write("root/usr/bin/ssh-add", std::fs::read(&program).expect("readable"));
    let libraries = Command::new("ldd").arg(&program).output().expect("ldd runs").stdout;
    for line in String::from_utf8_lossy(&libraries).lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else {
            continue;
        };
        context.write(&format!("root{path}"), std::fs::read(path).expect("readable"));
    }
    Ok(())
}

#[test]
fn a159_a_step_can_use_the_users_agent_but_not_change_it() {
    let registry = require!(registry());
    let agent = require!(requirement::program("ssh-agent"));
    for who in EVERYONE {
        let mut coracle = require!(Coracle::run_by(who));
        let context = context(
            "FROM busybox\nCOPY --chmod=755 root /\n\
             RUN --mount=type=ssh,required ssh-add -l > /keys && ! ssh-add -D \
                 && stat -c '%a %u %g %F' $SSH_AUTH_SOCK > /socket && echo $SSH_AUTH_SOCK >> /socket\n\
             RUN --mount=type=ssh,id=other,target=/agent,mode=0666 echo $SSH_AUTH_SOCK > /other; \
                 test ! -e /agent\n\
             RUN ls /run > /left\n",
        );
        require!(ssh_client(&context));
        let socket = coracle.home("agent").display().to_string();
        let command = |program: &str| coracle.command(Path::new(program));
        let running =
            Process::start(command(&agent.display().to_string()).args(["-D", "-a", &socket]));
        wait_until("the agent listens", || Path::new(&socket).exists());
        let key = coracle.home("key").display().to_string();
        let run = |command: &mut Command| {
            let output = command.output().expect("it runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        run(command("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "the-key", "-f", &key]));
        run(command("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket));

        let mirror = registry.as_docker_hub();
        let directory = context.path().display().to_string();
        let build = ["build", "--registry-mirror", &mirror, &directory];
        coracle
            .run(&build)
            .fails(2, &["Dockerfile:3", "no SSH key \"\" forwarded", "--ssh default"]);
        let with_key = format!("default={key}");
        coracle
            .run(&[&build[..], &["--ssh", &with_key]].concat())
            .fails(2, &["not the socket of an agent", "ssh-agent"]);
        coracle.run(&[&build[..], &["--ssh", "default"]].concat()).fails(2, &["SSH_AUTH_SOCK"]);
        coracle.set("SSH_AUTH_SOCK", &socket);
        let image = coracle.build(context.path(), &mirror, &["--ssh", "default"]);
        let top = image.files();
        assert!(top["keys"].text().contains("the-key"), "{who:?}: {}", top["keys"].text());
        let expected = "600 0 0 socket\n/run/buildkit/ssh_agent.0\n";
        assert_eq!(top["socket"].text(), expected, "{who:?}");
        assert_eq!(top["other"].text(), "/agent\n", "{who:?}");
        assert_eq!(top["left"].text(), "", "{who:?}");
        let keys = coracle.command(Path::new("ssh-add")).arg("-l").output().expect("it runs");
        assert!(String::from_utf8_lossy(&keys.stdout).contains("the-key"), "{who:?}");
        drop(running);
        coracle.assert_nothing_left();
    }
}

#[test]
fn a159_an_agent_can_belong_to_the_steps_user() {
    let registry = require!(registry());
    let agent = require!(requirement::program("ssh-agent"));
    let coracle = require!(Coracle::new());
    let context = context(
        "FROM busybox\nCOPY --chmod=755 root /\nUSER builder\n\
         RUN --mount=type=ssh,uid=1234,required ssh-add -l | grep 'no identities'\n\
         RUN --mount=type=ssh,required ! ssh-add -l\n",
    );
    require!(ssh_client(&context));
    let socket = coracle.home("agent").display().to_string();
    let _agent = Process::start(coracle.command(&agent).args(["-D", "-a", &socket]));
    wait_until("the agent listens", || Path::new(&socket).exists());
    let option = format!("default={socket}");
    coracle.build(context.path(), &registry.as_docker_hub(), &["--ssh", &option]);
}
