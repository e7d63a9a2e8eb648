//! Build contexts that are no directory, and contexts with names.

use std::io::Write as _;
use std::process::Command;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::archive::LayerBuilder;
use crate::support::archive::gzip;
use crate::support::base;
use crate::support::coracle::Output;
use crate::support::files::FileServer;
use crate::support::git::GitServer;
use crate::support::requirement::require;

/// A context with an ignore file, as a tar.
fn archive() -> Vec<u8> {
    let mut archive = LayerBuilder::new();
    archive.file("Dockerfile", 0o644, b"FROM scratch\nCOPY . /\n");
    archive.file(".dockerignore", 0o644, b"**/*.log\nDockerfile\nother\n");
    archive.file("other", 0o644, b"FROM scratch\nCOPY kept.txt /renamed\n");
    archive.file("kept.txt", 0o640, b"kept");
    archive.file("dir/deep.log", 0o644, b"");
    archive.file("dir/deep.txt", 0o644, b"deep");
    archive.finish()
}

const KEPT: [&str; 4] = [".dockerignore", "dir", "dir/deep.txt", "kept.txt"];

/// Builds with `input` on standard input. Gives what was said and the image.
#[track_caller]
fn build(coracle: &Coracle, arguments: &[&str], input: impl AsRef<[u8]>) -> (Output, Image) {
    let tar = coracle.home("built.tar");
    let output = format!("type=oci,dest={}", tar.display());
    let output = coracle.run_with(&[&["build", "--output", &output], arguments].concat(), input);
    (output.ok(), Image::from_oci_tar(&tar))
}

fn names(image: &Image) -> Vec<String> {
    image.files().keys().map(|name| name.trim_end_matches('/').to_owned()).collect()
}

#[test]
fn a_tar_is_a_context_however_it_comes() {
    let coracle = require!(Coracle::new());
    let scratch = Scratch::new();
    let tar = archive();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar).expect("a Vec takes all");
    let forms = [
        ("tar", tar.clone()),
        ("gz", gzip(&tar)),
        ("bz2", bzip2.finish().expect("a Vec takes all")),
        ("xz", liblzma::encode_all(&tar[..], 1).expect("a Vec takes all")),
        ("zst", zstd::encode_all(&tar[..], 1).expect("a Vec takes all")),
    ];
    let server = FileServer::start();
    let mut digests = Vec::new();
    for (name, bytes) in &forms {
        let path = scratch.write(&format!("context.{name}"), bytes);
        let (_, image) = build(&coracle, &[&path.display().to_string()], "");
        assert_eq!(names(&image), KEPT, "{name}");
        assert_eq!(image.files()["kept.txt"].summary(), "- 640 0:0");
        digests.push(image.layers);
        let (_, image) = build(&coracle, &["-"], bytes);
        digests.push(image.layers);
        // What it is shows in the bytes, not in the name.
        server.put_text(&format!("/{name}"), bytes);
        let (_, image) = build(&coracle, &[&server.url(&format!("/{name}"))], "");
        digests.push(image.layers);
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_dockerfile_can_be_all_that_comes() {
    let coracle = require!(Coracle::new());
    let text = "FROM scratch\nCOPY <<a /a\ninline\na\n";
    let (_, image) = build(&coracle, &["-"], text);
    assert_eq!(image.files()["a"].text(), "inline\n");
    let server = FileServer::start();
    server.put_text("/Dockerfile", text);
    let (_, image) = build(&coracle, &[&server.url("/Dockerfile")], "");
    assert_eq!(image.files()["a"].text(), "inline\n");
    let output = coracle.run_with(&["build", "-"], "FROM scratch\nCOPY a /\n");
    output.fails(2, &["\"/a\": not found", "Dockerfile:2"]);
}

#[test]
fn the_dockerfile_of_an_archive_has_a_name_or_comes_apart() {
    let coracle = require!(Coracle::new());
    let scratch = Scratch::new();
    let tar = scratch.write("context.tar", archive()).display().to_string();
    let (_, image) = build(&coracle, &["--file", "other", &tar], "");
    assert_eq!(names(&image), ["renamed"]);
    let (_, image) = build(&coracle, &["-f", "-", &tar], "FROM scratch\nCOPY dir /d/\n");
    assert_eq!(names(&image), ["d", "d/deep.txt"]);
    coracle.run(&["build", "-f", "missing", &tar]).fails(2, &["no Dockerfile `missing`"]);
    coracle.run(&["build", "-f", "-", "-"]).fails(2, &["cannot be both"]);
    let text = scratch.write("text", "FROM scratch\n").display().to_string();
    coracle.run(&["build", &text]).fails(2, &["neither a directory nor an archive"]);
    let cut = scratch.write("cut.tar", &archive()[..1300]).display().to_string();
    coracle.run(&["build", &cut]).fails(2, &["cannot read the build context"]);
}

#[test]
fn hostile_names_in_an_archive_stay_in_the_context() {
    let coracle = require!(Coracle::new());
    let scratch = Scratch::new();
    scratch.write("in/Dockerfile", "FROM scratch\nCOPY . /\n");
    scratch.write("up", "outside");
    std::os::unix::fs::symlink("/etc/passwd", scratch.join("in/passwd")).expect("writable");
    let tar = scratch.join("context.tar");
    let status = Command::new("tar")
        .args(["-C", &scratch.join("in").display().to_string(), "-Pcf"])
        .arg(&tar)
        .args([".", "../up"])
        .status();
    assert!(status.expect("tar runs").success());
    let (_, image) = build(&coracle, &[&tar.display().to_string()], "");
    assert_eq!(names(&image), ["Dockerfile", "passwd", "up"]);
    assert_eq!(image.files()["passwd"].link, "/etc/passwd");
    let text = "FROM scratch\nCOPY passwd /\n";
    let output = coracle.run_with(&["build", "-f", "-", &tar.display().to_string()], text);
    output.fails(2, &["\"/passwd\": not found"]);
}

#[test]
fn a141_a_repository_is_a_context_and_its_commit_is_recorded() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    repository.write("app/Dockerfile", "FROM scratch\nCOPY f /one\n");
    repository.write("app/ci.Dockerfile", "FROM scratch\nCOPY . /ci/\n");
    repository.write("app/ci.Dockerfile.dockerignore", "*Dockerfile*\n");
    repository.write("app/f", "v1");
    let commit = repository.commit();
    repository.git(&["tag", "v1"]);
    repository.write("app/f", "v2");
    let newer = repository.commit();

    let url = repository.url.clone();
    let metadata = coracle.home("metadata.json").display().to_string();
    let place = format!("{url}#v1:app");
    let (output, image) = build(&coracle, &["--metadata-file", &metadata, &place], "");
    assert_eq!(image.files()["one"].text(), "v1");
    assert!(output.stderr.contains(&format!("{place} at commit {commit}")), "{output}");
    let text = std::fs::read_to_string(&metadata).expect("it was written");
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let source = &metadata["buildx.build.provenance"]["invocation"]["configSource"];
    assert_eq!((&source["uri"], &source["digest"]["sha1"]), (&place.into(), &commit.into()));

    let (output, image) = build(&coracle, &["-f", "ci.Dockerfile", &format!("{url}#:app")], "");
    assert_eq!(names(&image), ["ci", "ci/f"]);
    assert!(output.stderr.contains(&newer), "{output}");
    let (_, image) = build(&coracle, &["-f", "-", &url], "FROM scratch\nCOPY app/f /\n");
    assert_eq!(image.files()["f"].text(), "v2");
    let all = format!("{url}#main");
    let keep = "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
    for (options, expected) in [(&[][..], false), (&[keep][..], true)] {
        let (_, image) = build(&coracle, &[options, &[&all]].concat(), "");
        assert_eq!(image.files().contains_key(".git/HEAD"), expected, "{options:?}");
    }
    let output = coracle.run(&["build", &format!("{url}#nosuch")]);
    output.fails(3, &["repository does not contain ref nosuch"]);
}

#[test]
fn contexts_with_names_come_from_anywhere() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("sub/f", "git");
    repository.commit();
    let files = FileServer::start();
    files.put_text("/x.txt", "web");
    let context = Scratch::new();
    context.write("extra/f", "dir");
    context.write("extra/ignored", "");
    context.write("extra/.dockerignore", "ignored\n");
    let dockerfile = "FROM scratch\nCOPY --from=one . /git/\nCOPY --from=two . /web/\n\
                      COPY --from=three . /dir/\nCOPY --from=four . /nothing/\n";
    context.write("Dockerfile", dockerfile);
    let options = [
        format!("--build-context=one={}#main:sub", repository.url),
        format!("--build-context=TWO={}", files.url("/x.txt")),
        format!("--build-context=three={}", context.join("extra").display()),
        "--build-context=four=docker-image://scratch".to_owned(),
        context.path().display().to_string(),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (_, image) = build(&coracle, &options, "");
    let expected =
        ["dir", "dir/.dockerignore", "dir/f", "git", "git/f", "nothing", "web", "web/context"];
    assert_eq!(names(&image), expected);
    assert_eq!(image.files()["web/context"].text(), "web");

    // A stage can start from files, whether `FROM` names them or they stand in for the stage.
    for text in [
        "FROM three\nCOPY --from=one f /g\n",
        "FROM no AS three\nRUN no\nFROM three\nCOPY --from=one f /g\n",
    ] {
        context.write("Dockerfile", text);
        let (_, image) = build(&coracle, &options, "");
        assert_eq!(names(&image), [".dockerignore", "f", "g"], "{text}");
        assert_eq!(image.layers.len(), 2);
        let history = image.config["history"].as_array().expect("a history");
        assert_eq!(history[0]["created_by"], "FROM three");
    }
    context.write("Dockerfile", "FROM no AS three\n");
    let (_, image) = build(&coracle, &options, "");
    assert_eq!(names(&image), [".dockerignore", "f"]);
}

#[test]
fn an_image_of_a_layout_can_stand_in_for_a_base() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let layout = coracle.home("layout");
    context.write("Dockerfile", "FROM busybox\nCOPY <<a /a\nfrom the layout\na\n");
    let place = context.path().display().to_string();
    let output = format!("type=oci,dest={},tar=false", layout.display());
    let mirror = registry.as_docker_hub();
    let built =
        coracle.run(&["build", "--registry-mirror", &mirror, "-t", "x:v1", "-o", &output, &place]);
    built.ok();

    let other = require!(Coracle::new());
    other.own(&other.home(""));
    let copy = other.home("layout");
    let status = Command::new("cp").arg("-r").arg(&layout).arg(&copy).status();
    assert!(status.expect("cp runs").success());
    context.write("Dockerfile", "FROM base\nRUN test -s /a && cp /a /b\n");
    for place in ["", ":v1"] {
        // Nobody may be asked: no mirror is named, and docker.io cannot be reached.
        let option = format!("--build-context=base=oci-layout://{}{place}", copy.display());
        let (_, image) =
            build(&other, &[&option, "--pull", &context.path().display().to_string()], "");
        assert_eq!(image.files()["b"].text(), "from the layout\n");
    }
    let option = format!("--build-context=base=oci-layout://{}:v2", copy.display());
    let output = other.run(&["build", &option, &context.path().display().to_string()]);
    output.fails(4, &["no such image", "v1"]);
}

#[test]
fn a163_a_copy_of_an_ignored_file_is_remarked_on() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write(".dockerignore", "ignored.txt\n");
    context.write("ignored.txt", "");
    let place = context.path().display().to_string();
    let remark = "Attempting to Copy file \"ignored.txt\" that is excluded by .dockerignore";
    context.write("Dockerfile", "# check=error=true\nFROM scratch\nCOPY ignored.txt /\n");
    let output = coracle.run(&["build", &place]);
    output.fails(2, &["lint violation found for rules: CopyIgnoredFile", remark, "Dockerfile:3"]);
    context.write("Dockerfile", "FROM scratch\nCOPY ignored.tx* /\n");
    coracle.run(&["build", &place]).ok();
    context.write("Dockerfile", "FROM scratch\nCOPY ignored.txt /\n");
    coracle.run(&["build", &place]).fails(2, &["not found", "line 1 of `.dockerignore`"]);
    context.write(
        "Dockerfile",
        "# check=skip=CopyIgnoredFile;error=true\nFROM scratch\nCOPY ignored.txt /\n",
    );
    let output = coracle.run(&["build", &place]).fails(2, &["not found"]);
    assert!(!output.text().contains("CopyIgnoredFile "), "{output}");
}
