//! Logging in and out: credentials are tried before they are stored, and stored for nobody else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::registry::Auth;
use crate::support::requirement::require;
use crate::support::token::TokenServer;
use crate::support::token::User;

fn tokens() -> TokenServer {
    let users = vec![User::new("alice", "the-password", "pull,push", "")];
    TokenServer::start("127.0.0.1:0", users).expect("loopback has free ports")
}

fn stored(coracle: &Coracle) -> Option<Value> {
    let bytes = std::fs::read(coracle.home(".docker/config.json")).ok()?;
    Some(serde_json::from_slice(&bytes).expect("the file is JSON"))
}

#[test]
fn a_wrong_password_is_refused_and_not_stored() {
    let tokens = tokens();
    for auth in [Auth::Token(&tokens), Auth::Basic("alice", "the-password")] {
        let registry = require!(Registry::start(&auth));
        let coracle = require!(Coracle::new());
        let login = ["login", &registry.address(), "-u", "alice", "--password-stdin"];
        let output = coracle.run_with(&login, "not-the-password\n").fails(3, &["error"]);
        assert!(!output.text().contains("not-the-password"), "{output}");
        assert!(stored(&coracle).is_none_or(|file| file["auths"][registry.address()].is_null()));
    }
}

#[test]
fn the_right_one_is_stored_for_the_user_alone_and_forgotten_at_logout() {
    let tokens = tokens();
    for auth in [Auth::Token(&tokens), Auth::Basic("alice", "the-password")] {
        let registry = require!(Registry::start(&auth));
        let coracle = require!(Coracle::new());
        let address = registry.address();
        let login = ["login", &address, "-u", "alice", "--password-stdin"];
        let output = coracle.run_with(&login, "the-password\n").ok();
        assert!(!output.text().contains("the-password"), "{output}");
        let file = std::fs::metadata(coracle.home(".docker/config.json")).expect("it was written");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        // "alice:the-password", as Docker writes it.
        let auth = "YWxpY2U6dGhlLXBhc3N3b3Jk";
        assert_eq!(stored(&coracle), Some(json!({"auths": {&address: {"auth": auth}}})));
        coracle.run(&["logout", &address]).ok();
        assert!(stored(&coracle).is_none_or(|file| file["auths"][&address].is_null()));
    }
}

#[test]
fn what_else_is_in_the_file_stays() {
    let registry = require!(Registry::start(&Auth::Basic("alice", "the-password")));
    let mut coracle = require!(Coracle::new());
    let directory = coracle.home("docker");
    coracle.own(&directory);
    let other = json!({"auths": {"r.example": {"auth": "YTpi"}}, "detachKeys": "ctrl-x"});
    std::fs::write(directory.join("config.json"), other.to_string()).expect("it is writable");
    coracle.set("DOCKER_CONFIG", &directory.display().to_string());
    let login = ["login", &registry.address(), "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").ok();
    let text = std::fs::read(directory.join("config.json")).expect("it is there");
    let file: Value = serde_json::from_slice(&text).expect("the file is JSON");
    assert_eq!(file["auths"]["r.example"]["auth"], "YTpi");
    assert_eq!(file["detachKeys"], "ctrl-x");
    assert!(file["auths"][registry.address()]["auth"].is_string());
}

#[test]
fn stored_credentials_open_private_bases_and_let_push() {
    let tokens = tokens();
    let registry = require!(Registry::start(&Auth::Token(&tokens)));
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let address = registry.address();
    let context = Scratch::new();
    context.write("Dockerfile", format!("FROM {address}/library/busybox\nCOPY Dockerfile /\n"));
    let name = format!("{address}/team/app:1");
    let directory = context.path().display().to_string();
    let build = ["build", "-t", &name, "--push", &directory];
    coracle.run(&build).fails(3, &["library/busybox", "login"]);
    let login = ["login", &address, "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").ok();
    coracle.run(&build).ok();
    let image = Image::from_registry(&registry, "team/app", "1");
    assert!(image.top().contains_key("Dockerfile"));
    // "alice:the-password"; tokens are JWTs.
    for secret in ["the-password", "YWxpY2U6dGhlLXBhc3N3b3Jk", "eyJhbGci"] {
        let found = files_with(&coracle.home(""), secret.as_bytes());
        let expected = if secret.starts_with('Y') { vec![".docker/config.json"] } else { vec![] };
        assert_eq!(found, expected, "files with {secret:?}");
    }
}

/// Every other test looks for secrets in its log too, when its `Coracle` goes.
#[test]
fn b018_the_debug_log_tells_all_but_the_secrets() {
    let tokens = tokens();
    let registry = require!(Registry::start(&Auth::Token(&tokens)));
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let address = registry.address();
    let login = ["login", &address, "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").ok();
    let (name, other) = (format!("{address}/library/busybox"), format!("{address}/team/box:1"));
    let shown = coracle.run(&["pull", "--debug", "--progress=quiet", &name]).ok();
    assert!(shown.stderr.contains(&format!("HEAD http://{address}/v2/library/busybox/manifests")));
    coracle.run(&["tag", &name, &other]).ok();
    coracle.run(&["push", &other]).ok();
    let log = coracle.debug_log() + &shown.stderr;
    for told in [
        "401 in",
        "credentials for",
        "config.json",
        "token for `repository:team/box:pull,push`",
        "POST http://",
        "PUT http://",
        "?…",
        "peak memory",
    ] {
        assert!(log.contains(told), "no {told:?} in:\n{log}");
    }
    for secret in ["the-password", "YWxpY2U6", "eyJ", "_state", "mount=", "scope="] {
        assert!(!log.contains(secret), "{secret:?} in:\n{log}");
    }
}

/// The files below `directory` that have these bytes in them.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.expect("root and the owner may look everywhere");
        if entry.file_type().is_file() {
            let content = std::fs::read(entry.path()).expect("it can be read");
            if content.windows(bytes.len()).any(|window| window == bytes) {
                let path = entry.path().strip_prefix(directory).expect("it is below");
                found.push(path.display().to_string());
            }
        }
    }
    found
}
