//! `ADD` of what is on other machines: downloads and git repositories (rules A137, A139 to A141).

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use coracle::oci::Digest;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Scratch;
use crate::support::archive::File;
use crate::support::archive::LayerBuilder;
use crate::support::archive::gzip;
use crate::support::coracle::Output;
use crate::support::coracle::Who;
use crate::support::files::Answer;
use crate::support::files::FileServer;
use crate::support::git::COMMIT_TIME;
use crate::support::git::GitServer;
use crate::support::requirement::require;

const DATE: &str = "Thu, 02 Jan 2020 03:04:05 GMT";

/// Builds a Dockerfile that needs no base, and gives what the program said.
fn run(coracle: &Coracle, dockerfile: &str, options: &[&str]) -> Output {
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile);
    let output = format!("type=oci,dest={}", coracle.home("built.tar").display());
    let directory = context.path().display().to_string();
    coracle.run(&[&["build", "--output", &output], options, &[&directory]].concat())
}

#[track_caller]
fn build(coracle: &Coracle, dockerfile: &str, options: &[&str]) -> Image {
    run(coracle, dockerfile, options).ok();
    Image::from_oci_tar(&coracle.home("built.tar"))
}

fn steps(output: &Output) -> &str {
    output.stderr.lines().find(|line| line.starts_with("steps ")).unwrap_or_default()
}

#[test]
fn a139_a_download_is_the_owners_and_as_old_as_the_server_says() {
    let coracle = require!(Coracle::new());
    let server = FileServer::start();
    let headers = vec![("last-modified", DATE.to_owned())];
    server.put("/a/file.txt", Answer { body: b"text".to_vec(), headers, ..Answer::default() });
    server.put_text("/undated", "u");
    // What a server packs for the way is unpacked on arrival, as in BuildKit.
    let headers = vec![("content-encoding", "gzip".to_owned())];
    server.put("/packed", Answer { body: gzip(b"page"), headers, ..Answer::default() });
    let url = server.url("");
    let dockerfile = format!(
        "FROM scratch\nADD {url}/a/file.txt?x=1#y {url}/undated /d/\nADD --chmod=755 {url}/a/file.txt /named\n\
         ADD {url}/packed /\n"
    );
    let files = build(&coracle, &dockerfile, &[]).files();
    let of = |name: &str| (files[name].summary(), files[name].mtime, files[name].text());
    assert_eq!(of("d/file.txt"), ("- 600 0:0".to_owned(), COMMIT_TIME, "text".to_owned()));
    assert_eq!(of("d/undated"), ("- 600 0:0".to_owned(), 0, "u".to_owned()));
    assert_eq!(of("named").0, "- 755 0:0");
    assert_eq!(of("packed").2, "page");
}

#[test]
fn a137_a_downloaded_archive_is_unpacked_only_when_asked() {
    let coracle = require!(Coracle::new());
    let server = FileServer::start();
    let mut archive = LayerBuilder::new();
    archive.file("inner", 0o640, b"content");
    server.put_text("/a.tgz", gzip(&archive.finish()));
    let url = server.url("/a.tgz");
    let dockerfile =
        format!("FROM scratch\nADD {url} /kept/\nADD --unpack=true {url} /unpacked/\n");
    let files = build(&coracle, &dockerfile, &[]).files();
    assert_eq!(files["kept/a.tgz"].kind, '-');
    assert_eq!(files["unpacked/inner"].text(), "content");
    assert_eq!(server.statuses(), [200], "one URL is asked for once a build");
}

#[test]
fn a139_redirects_are_followed_and_no_secret_goes_with_them() {
    let coracle = require!(Coracle::new());
    let (first, second) = (FileServer::start(), FileServer::start());
    second.put_text("/real", "text");
    let location = Some(second.url("/real"));
    first.put("/moved", Answer { location, ..Answer::default() });
    // The credentials of a registry of the same name are for the registry.
    let auths: Vec<String> = [&first, &second]
        .iter()
        .map(|server| format!(r#""{}":{{"auth":"dXNlcjpzZWNyZXQ="}}"#, server.address()))
        .collect();
    let config = format!(r#"{{"auths":{{{}}}}}"#, auths.join(","));
    let directory = coracle.home(".docker");
    coracle.own(&directory);
    std::fs::write(directory.join("config.json"), config).expect("writable");

    let plain = first.url("/moved");
    let image = build(&coracle, &format!("FROM scratch\nADD {plain} /f\n"), &[]);
    assert_eq!(image.files()["f"].text(), "text");
    let mut asked = first.exchanges();
    asked.extend(second.exchanges());
    assert!(asked.iter().all(|exchange| exchange.authorization.is_none()), "{asked:?}");

    let with_secret = plain.replace("http://", "http://me:password@");
    build(&coracle, &format!("FROM scratch\nADD {with_secret} /f\n"), &[]);
    assert_eq!(first.exchanges()[0].authorization.as_deref(), Some("Basic bWU6cGFzc3dvcmQ="));
    assert!(second.exchanges()[0].authorization.is_none());
}

#[test]
fn a_file_that_has_not_changed_is_not_downloaded_again() {
    let coracle = require!(Coracle::new());
    let server = FileServer::start();
    for (name, header, value) in [("/etag", "etag", "\"1\""), ("/date", "last-modified", DATE)] {
        let put = |text: &str, value: &str| {
            let headers = vec![(header, value.to_owned())];
            server.put(name, Answer { body: text.into(), headers, ..Answer::default() });
        };
        let dockerfile = format!("FROM scratch\nADD {} /f\n", server.url(name));
        put("old", value);
        let first = build(&coracle, &dockerfile, &[]);
        assert_eq!(server.statuses(), [200]);
        let output = run(&coracle, &dockerfile, &[]).ok();
        assert!(steps(&output).contains("0 run, 1 from the cache"), "{output}");
        assert_eq!(server.statuses(), [304], "{name}");
        let again = build(&coracle, &dockerfile, &["--no-cache"]);
        assert_eq!((server.statuses(), again.layers == first.layers), (vec![304], true));
        let newer = if header == "etag" { "\"2\"" } else { "Thu, 02 Jan 2020 03:04:06 GMT" };
        put("new", newer);
        assert_eq!(build(&coracle, &dockerfile, &[]).files()["f"].text(), "new");
        assert_eq!(server.statuses(), [200]);
    }
}

#[test]
fn a140_a_checksum_is_verified_and_spares_the_server() {
    let coracle = require!(Coracle::new());
    let server = FileServer::start();
    server.put_text("/f", "text");
    let (right, wrong) = (Digest::of("text"), Digest::of("other"));
    let dockerfile = |sum: &Digest| {
        format!("FROM scratch\nARG SUM={sum}\nADD --checksum=$SUM {} /f\n", server.url("/f"))
    };
    let mismatch = format!("digest mismatch {right}: {wrong}");
    run(&coracle, &dockerfile(&wrong), &[]).fails(3, &[&mismatch, "Dockerfile:3"]);
    build(&coracle, &dockerfile(&right), &[]);
    server.exchanges();
    for option in ["--pull", "--no-cache"] {
        let image = build(&coracle, &dockerfile(&right), &[option]);
        assert_eq!(image.files()["f"].text(), "text");
    }
    assert_eq!(server.statuses(), [0; 0]);
}

#[test]
fn a139_what_the_server_refuses_is_an_error_with_its_status() {
    let coracle = require!(Coracle::new());
    let server = FileServer::start();
    let url = server.url("/missing").replace("http://", "http://me:password@");
    let output = run(&coracle, &format!("FROM scratch\nADD {url}?token=secret /f\n"), &[]);
    let output = output.fails(3, &["invalid response status 404", "Dockerfile:2"]);
    let shown = output.text().replace(&format!("ADD {url}?token=secret"), "");
    assert!(!shown.contains("password") && !shown.contains("secret"), "{output}");
    let nobody = format!("http://127.0.0.1:{}/f", crate::support::process::free_port());
    run(&coracle, &format!("FROM scratch\nADD {nobody} /f\n"), &[]).fails(3, &["cannot connect"]);
}

#[test]
fn a141_a_repository_is_added_without_git_dir_and_with_plain_modes() {
    let server = require!(GitServer::start());
    let mut coracle = require!(Coracle::new());
    // Nothing of the user's configuration may count.
    coracle.set("GIT_DIR", "/nonexistent");
    std::fs::write(coracle.home(".gitconfig"), "[core]\n\tautocrlf = true\n").expect("writable");
    let inner = server.repository("inner.git");
    inner.write("inside", "submodule\n");
    inner.commit();
    let repository = server.repository("outer.git");
    repository.write("plain", "one\n");
    let script = repository.write("dir/run", "#!/bin/sh\n");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).expect("ours");
    std::os::unix::fs::symlink("plain", repository.path.join("link")).expect("writable");
    repository.git(&["submodule", "--quiet", "add", "../inner.git", "sub"]);
    let commit = repository.commit();
    repository.git(&["tag", "--annotate", "--message=tag", "v1"]);
    repository.write("plain", "two\n");
    repository.commit();

    let url = &repository.url;
    let dockerfile = format!(
        "FROM scratch\nADD {url} /main/\nADD {url}#v1 /tag/\nADD --checksum={commit} {url}#{commit}:dir /sub/\n\
         ADD --chown=5:6 {url}?branch=main&submodules=false /plain\n"
    );
    let image = build(&coracle, &dockerfile, &[]);
    let files = image.files();
    assert_eq!(
        (files["main/plain"].text(), files["tag/plain"].text()),
        ("two\n".into(), "one\n".into())
    );
    assert_eq!(
        (files["main/plain"].summary(), files["main/plain"].mtime),
        ("- 644 0:0".into(), COMMIT_TIME)
    );
    assert_eq!(files["main/dir/run"].summary(), "- 755 0:0");
    assert_eq!(files["main/link"].link, "plain");
    assert_eq!(files["main/sub/inside"].text(), "submodule\n");
    assert_eq!(files["sub/run"].summary(), "- 755 0:0");
    assert!(!files.contains_key("sub/plain"));
    assert_eq!(files["plain/plain"].summary(), "- 644 5:6");
    assert!(!files.contains_key("plain/sub/inside"));
    assert!(
        !files.keys().any(|name| name.split('/').any(|part| part == ".git")),
        "{:?}",
        files.keys()
    );
    assert_eq!(image.history()[0].0, format!("ADD {url} /main/ # buildkit"));
}

#[test]
fn a141_the_git_dir_is_kept_on_request() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("f", "text");
    let commit = repository.commit();
    repository.git(&["tag", "--annotate", "--message=tag", "v1"]);
    let dockerfile = format!("FROM scratch\nADD --keep-git-dir=true {}#v1 /r/\n", repository.url);
    let files = build(&coracle, &dockerfile, &[]).files();
    let clone = Scratch::new();
    for (name, file) in files.iter().filter(|(_, file)| file.kind == '-') {
        clone.write(name, &file.content);
    }
    for (name, _) in files.iter().filter(|(_, file)| file.kind == 'd') {
        std::fs::create_dir_all(clone.join(name.trim_end_matches('/'))).expect("writable");
    }
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "safe.directory=*", "-C"])
            .arg(clone.join("r"))
            .args(args)
            .output();
        String::from_utf8_lossy(&output.expect("git runs").stdout).trim().to_owned()
    };
    assert_eq!(git(&["rev-parse", "HEAD"]), commit);
    assert_eq!(git(&["describe"]), "v1");
    assert_eq!(git(&["config", "remote.origin.url"]), repository.url);
    assert_eq!(git(&["fsck"]), "");
    let text = format!("{:?}", files.values().map(File::text).collect::<String>());
    assert!(!text.contains("share/coracle"), "the store's path is no part of an image");
}

#[test]
fn a141_a_commit_that_has_not_changed_is_not_fetched_again() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("f", "one");
    let commit = repository.commit();
    let by_branch = format!("FROM scratch\nADD {}#main /\n", repository.url);
    let by_commit = format!("FROM scratch\nADD {}#{commit} /\n", repository.url);
    let first = build(&coracle, &by_branch, &[]);
    let cached = run(&coracle, &by_branch, &[]).ok();
    assert!(steps(&cached).contains("0 run, 1 from the cache"), "{cached}");
    repository.write("f", "two");
    repository.commit();
    assert_eq!(build(&coracle, &by_branch, &[]).files()["f"].text(), "two");
    drop(server);
    // A commit's name says it all; what was fetched once is still there.
    let cached = run(&coracle, &by_commit, &[]).ok();
    assert!(steps(&cached).contains("0 run, 1 from the cache"), "{cached}");
    let again = build(&coracle, &by_commit, &["--no-cache"]);
    assert_eq!(again.layers, first.layers);
}

#[test]
fn a141_what_git_does_not_find_is_an_error_that_says_so() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("f", "one");
    let commit = repository.commit();
    let url = &repository.url;
    let check = |add: &str, words: &[&str]| {
        let dockerfile = format!("FROM scratch\nADD {add} /\n");
        run(&coracle, &dockerfile, &[]).fails(3, &[words, &["Dockerfile:2"]].concat());
    };
    check(&format!("{url}#nosuch"), &["repository does not contain ref nosuch"]);
    check(&format!("{url}#:nosuch"), &["has no directory `nosuch`"]);
    check(&format!("{url}#:f"), &["has no directory `f`"]);
    check(&format!("--checksum=0000 {url}"), &["expected checksum to match 0000", &commit]);
    check(&url.replace("a.git", "b.git"), &["b.git"]);
    let missing = "0123456789012345678901234567890123456789";
    check(&format!("{url}#{missing}"), &[missing]);
}

#[test]
fn a_repository_cannot_reach_into_the_machine() {
    let server = require!(GitServer::start());
    let coracle = require!(Coracle::new());
    let secret = server.repository("secret.git");
    secret.write("secret", "of the machine");
    secret.commit();
    let repository = server.repository("a.git");
    std::fs::create_dir(repository.path.join("d")).expect("writable");
    std::os::unix::fs::symlink("/etc", repository.path.join("d/etc")).expect("writable");
    repository.write(
        ".gitmodules",
        &format!("[submodule \"s\"]\n\tpath = s\n\turl = file://{}\n", secret.path.display()),
    );
    let commit = secret.git(&["rev-parse", "HEAD"]);
    let entry = format!("160000,{},s", commit.trim());
    repository.commit();
    repository.git(&["update-index", "--add", "--cacheinfo", &entry]);
    repository.git(&["commit", "--quiet", "--message=submodule"]);
    let add = |what: &str| format!("FROM scratch\nADD {}{what} /\n", repository.url);
    run(&coracle, &add(""), &[]).fails(3, &["transport 'file' not allowed"]);
    let output = run(&coracle, &add("?submodules=false#:d/etc"), &[]);
    output.fails(3, &["has no directory `d/etc`"]);
}

#[test]
fn a141_over_ssh_the_agent_is_lent_only_on_request() {
    let server = require!(GitServer::start());
    let mut coracle = require!(Coracle::new());
    let repository = server.repository("a.git");
    repository.write("Dockerfile", "FROM scratch\nCOPY f /\n");
    repository.write("f", "text");
    repository.commit();
    // An `ssh` that stays on this machine, and notes how it was called.
    let bin = coracle.home("bin");
    coracle.own(&bin);
    let log = coracle.home("ssh.log");
    let script = format!(
        "#!/bin/sh\necho \"agent=$SSH_AUTH_SOCK $*\" >> {}\nfor last; do :; done\n\
         export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\neval \"exec $last\"\n",
        log.display()
    );
    std::fs::write(bin.join("ssh"), script).expect("writable");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("ssh"), mode).expect("ours");
    coracle.set("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    // Not a socket anybody listens on: no key is needed here.
    let agent = coracle.home("agent");
    let agent_name = agent.display().to_string();
    let _listener = std::os::unix::net::UnixListener::bind(&agent).expect("a short name");
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o777)).expect("ours");
    coracle.set("SSH_AUTH_SOCK", &agent_name);
    let calls = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        assert!(text.lines().all(|line| line.contains("-o BatchMode=yes")), "{text}");
        assert!(!text.is_empty());
        text.lines().filter(|line| line.starts_with(&format!("agent={agent_name} "))).count()
    };
    let url = format!("ssh://git@host.invalid{}", repository.path.display());
    let dockerfile = format!("FROM scratch\nADD {url} /\n");
    assert_eq!(build(&coracle, &dockerfile, &["--no-cache"]).files()["f"].text(), "text");
    assert_eq!(calls(), 0, "a Dockerfile alone cannot use the agent");
    build(&coracle, &dockerfile, &["--no-cache", "--ssh", "default"]);
    assert_ne!(calls(), 0);
    let output = format!("type=oci,dest={}", coracle.home("built.tar").display());
    let scp = format!("git@host.invalid:{}", repository.path.display());
    coracle.run(&["build", "--output", &output, &scp]).ok();
    assert_ne!(calls(), 0, "who names a repository on the command line lends the agent");
}

#[test]
fn a_machine_without_git_is_told_so() {
    let coracle = require!(Coracle::run_by(Who::Root));
    let context = Scratch::new();
    context.write("Dockerfile", "FROM scratch\nADD https://127.0.0.1:9/x.git /\n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.arg("build").arg(context.path()).env_clear();
    command.env("PATH", "/nonexistent").env("HOME", coracle.home(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = crate::support::coracle::finish(&mut command, b"");
    output.fails(4, &["git", "not installed", "install git", "Dockerfile:2"]);
}
