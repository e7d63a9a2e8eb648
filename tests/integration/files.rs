//! Which files get into the image: contexts, `.dockerignore`, other stages, and what steps leave.

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::process::wait_until;
use crate::support::requirement::require;

fn build(context: &Scratch, options: &[&str]) -> Result<Image, String> {
    let registry = Registry::open()?;
    base::push_busybox(&registry)?;
    let coracle = Coracle::new()?;
    Ok(coracle.build(context.path(), &registry.as_docker_hub(), options))
}

#[test]
fn dockerignore_keeps_files_out_and_lets_exceptions_in() {
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nCOPY . /app/\n");
    context.write(".dockerignore", "*.log\n**/secret\n!keep.log\nDockerfile\n");
    for name in ["keep.log", "drop.log", "a/secret", "a/b/secret", "a/open"] {
        context.write(name, name);
    }
    let image = require!(build(&context, &[]));
    let names: Vec<&str> =
        image.top().iter().filter(|(_, f)| f.kind == '-').map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["app/.dockerignore", "app/a/open", "app/keep.log"]);
}

#[test]
fn a146_an_excluded_directory_is_not_even_looked_into() {
    use std::os::unix::fs::PermissionsExt as _;

    let context = Scratch::new();
    context.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    context.write(".dockerignore", "private\n!open/x\nDockerfile\n.dockerignore\n");
    context.write("private/key", "key");
    context.write("open/x", "x");
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(context.join("private"), permissions).expect("it is ours");
    };
    mode(0o000);
    let built = build(&context, &[]);
    mode(0o700);
    let image = require!(built);
    assert_eq!(image.files().keys().collect::<Vec<_>>(), ["open", "open/x"]);
}

#[test]
fn copy_takes_from_another_stage_by_name_and_by_number() {
    let context = Scratch::new();
    let dockerfile = "FROM busybox AS first\nRUN echo one > /one && chown 1234 /one\n\
                      FROM first AS second\nRUN echo two > /two\n\
                      FROM busybox\nCOPY --from=first /one /\nCOPY --from=1 /two /renamed\n";
    context.write("Dockerfile", dockerfile);
    let image = require!(build(&context, &[]));
    let files = image.files();
    // COPY --from keeps owners, other than from the context.
    assert_eq!(files["one"].summary(), "- 644 1234:0");
    assert_eq!(files["renamed"].text(), "two\n");
    assert!(!files.contains_key("two"));
    assert_eq!(image.layers.len(), 4);
}

#[test]
fn a_layer_holds_what_its_step_changed_and_nothing_of_the_builder() {
    let context = Scratch::new();
    let step = "RUN grep -q nameserver /etc/resolv.conf; touch /new && rm /etc/group \
                && mkdir /dir && ln /new /dir/linked";
    context.write("Dockerfile", format!("FROM busybox\n{step}\n"));
    let image = require!(build(&context, &[]));
    let names: Vec<&String> = image.top().keys().collect();
    assert_eq!(names, ["dir", "dir/linked", "etc", "etc/.wh.group", "new"]);
    assert!(!image.files().contains_key("etc/group"));
}

#[test]
fn a_file_keeps_an_owner_for_whom_there_is_no_id() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let context = Scratch::new();
    for name in ["d/changed", "d/given", "d/same", "d/sub/appended"] {
        context.write(name, "text\n");
    }
    std::os::unix::fs::symlink("same", context.join("d/link")).expect("scratch is writable");
    for who in [Who::Root, Who::Subordinate, Who::Single] {
        let dockerfile = "FROM busybox\nCOPY --chown=3000000000:4000001 d /d\n\
             RUN chmod 600 /d/changed && echo more >> /d/sub/appended && chown 7:8 /d/given && touch /d/new\n\
             RUN chmod 700 /d/sub\n";
        context.write("Dockerfile", dockerfile);
        let coracle = require!(Coracle::run_by(who));
        let image = coracle.build(context.path(), &registry.as_docker_hub(), &[]);
        let files = image.files();
        let summary = |name: &str| files[name].summary();
        let owned = |kind_and_mode: &str| format!("{kind_and_mode} 3000000000:4000001");
        assert_eq!(summary("d"), owned("d 755"), "{who:?}");
        assert_eq!(summary("d/changed"), owned("- 600"), "{who:?}");
        assert_eq!(summary("d/same"), owned("- 644"), "{who:?}");
        assert_eq!(summary("d/link"), owned("l 777"), "{who:?}");
        assert_eq!(summary("d/sub"), owned("d 700"), "{who:?}");
        assert_eq!(summary("d/sub/appended"), owned("- 644"), "{who:?}");
        assert_eq!(files["d/sub/appended"].text(), "text\nmore\n");
        assert_eq!(summary("d/new"), "- 644 0:0", "{who:?}");
        assert_eq!(summary("d/given"), "- 644 7:8", "{who:?}");
    }
}

#[test]
fn a_step_sees_the_arguments_and_not_the_builders_environment() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let mut coracle = require!(Coracle::new());
    coracle.set("BUILDERS_SECRET", "do-not-tell");
    coracle.set("FROM_OUTSIDE", "let-in");
    let context = Scratch::new();
    let dockerfile = "FROM busybox\nARG GIVEN\nARG FROM_OUTSIDE\nENV KEPT=yes\n\
                      RUN env | sort > /env; id > /id; hostname > /hostname\n";
    context.write("Dockerfile", dockerfile);
    let options = ["--build-arg", "GIVEN=value", "--build-arg", "FROM_OUTSIDE"];
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &options);
    let env = image.top()["env"].text();
    for line in ["FROM_OUTSIDE=let-in", "GIVEN=value", "HOME=/root", "KEPT=yes", base::PATH] {
        assert!(env.lines().any(|have| have == line), "{line} is not in {env}");
    }
    assert!(!env.contains("do-not-tell"), "{env}");
    assert!(image.top()["id"].text().starts_with("uid=0(root) gid=0(root)"));
}

#[test]
fn a057_what_the_target_does_not_need_is_not_even_asked_for() {
    let context = Scratch::new();
    context.write(
        "Dockerfile",
        "FROM 127.0.0.1:1/nowhere AS unneeded\nRUN exit 1\nFROM busybox AS target\nRUN true\n\
         FROM unneeded\nCOPY --from=127.0.0.1:1/nothing / /\n",
    );
    let image = require!(build(&context, &["--target", "target"]));
    assert!(image.files().contains_key("bin/busybox"));
}

#[test]
fn stages_that_do_not_need_each_other_run_at_once() {
    // Each step waits until the other three have begun: one after the other, none would ever end.
    const MEET: &str = "RUN --mount=type=cache,id=meet,target=/meet touch /meet/$ME && \
                        for i in $(seq 600); do test $(ls /meet | wc -l) = 4 && exit; sleep 0.1; done; exit 1";
    let context = Scratch::new();
    let stage = |name: &str| format!("FROM busybox AS {name}\nARG ME={name}\n{MEET}\n");
    let mut dockerfile: String = ["a", "b", "c", "d"].into_iter().map(stage).collect();
    dockerfile.push_str("FROM scratch\n");
    for name in ["a", "b", "c", "d"] {
        dockerfile.extend(["COPY --from=", name, " /etc/passwd /", name, "\n"]);
    }
    context.write("Dockerfile", dockerfile);
    let image = require!(build(&context, &[]));
    let files = image.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn a_linked_copy_does_not_wait_for_the_steps_before_it() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("f", "f");
    context.write(
        "Dockerfile",
        "FROM busybox\n\
         RUN --mount=type=cache,target=/gate \
             until test -e /gate/open; do sleep 0.1; done; echo run > /g\n\
         COPY --link f /f\nRUN cat /f /g > /both\n",
    );
    let output = format!("type=oci,dest={}", coracle.home("built.tar").display());
    let (mirror, place) = (registry.as_docker_hub(), context.path().display().to_string());
    let options = ["build", "--registry-mirror", &mirror, "--progress", "plain", "-o", &output];
    let mut build = coracle.start(&[&options[..], &[&place]].concat(), "build");
    let is_copied = || {
        let written = coracle.written("build");
        let copy = written.lines().find_map(|line| line.strip_suffix(" [2/3] COPY f /f"));
        copy.is_some_and(|number| written.contains(&format!("{number} done")))
    };
    wait_until("the file is copied while the first step runs", is_copied);
    wait_until("the first step runs", || coracle.cache_mount().is_dir());
    std::fs::write(coracle.cache_mount().join("open"), "").expect("root may do it");
    assert!(build.wait().success(), "{}", coracle.written("build"));
    let image = Image::from_oci_tar(&coracle.home("built.tar"));
    assert_eq!(image.files()["both"].text(), "frun\n");
    let has = |index: usize, name: &str| image.layers[index].contains_key(name);
    assert!(has(2, "g") && has(3, "f") && has(4, "both"));
}

#[test]
fn user_and_workdir_hold_for_later_steps() {
    let context = Scratch::new();
    let dockerfile = "FROM busybox\nWORKDIR /home/builder\nRUN chown builder .\nUSER builder\n\
                      RUN id > who && pwd > where && test ! -w /etc/passwd\n";
    context.write("Dockerfile", dockerfile);
    let image = require!(build(&context, &[]));
    let files = image.files();
    let who = files["home/builder/who"].text();
    assert!(who.starts_with("uid=1234(builder) gid=1235(builder)"), "{who}");
    assert!(who.contains("1300(extra)"), "{who}");
    assert_eq!(files["home/builder/where"].text(), "/home/builder\n");
    assert_eq!(files["home/builder/who"].summary(), "- 644 1234:1235");
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let context = Scratch::new();
    let mut archive = crate::support::archive::LayerBuilder::new();
    archive.directory("inner", 0o755);
    archive.file("inner/file", 0o640, b"content");
    context.write("a.tar.gz", crate::support::archive::gzip(&archive.finish()));
    let dockerfile = "FROM scratch\nADD a.tar.gz /added/\nCOPY a.tar.gz /copied/\n";
    context.write("Dockerfile", dockerfile);
    let files = require!(build(&context, &[])).files();
    assert_eq!(files["added/inner/file"].text(), "content");
    assert_eq!(files["copied/a.tar.gz"].kind, '-');
    assert!(!files.contains_key("added/a.tar.gz"));
}

#[test]
fn a_dockerfile_on_standard_input_uses_the_context() {
    let registry = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("hello", "hello");
    let tar = coracle.home("built.tar");
    let output = format!("type=oci,dest={}", tar.display());
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    let build = ["build", "--registry-mirror", &mirror, "-f", "-", "-o", &output, &directory];
    coracle.run_with(&build, "FROM scratch\nCOPY hello /\n").ok();
    assert_eq!(Image::from_oci_tar(&tar).files()["hello"].text(), "hello");
}

#[test]
fn more_than_a_hundred_layers_can_be_built_on() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let many: Vec<Vec<u8>> = (0..140)
        .map(|number| {
            let mut layer = crate::support::archive::LayerBuilder::new();
            layer.file(&format!("layer-{number}"), 0o644, b"");
            layer.finish()
        })
        .collect();
    let base_image = Image::from_registry(&registry, "library/busybox", "latest");
    assert_eq!(base_image.layers.len(), 2);
    let layers = [&[require!(base::system())], &many[..]].concat();
    base::push(&registry, "library/deep", "latest", &layers, &serde_json::json!({}));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", "FROM deep\nRUN ls / | grep -c ^layer- > /count\n");
    let image = coracle.build(context.path(), &registry.as_docker_hub(), &[]);
    assert_eq!(image.top()["count"].text(), "140\n");
}
