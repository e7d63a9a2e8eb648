//! The supporting services themselves: does a client that nobody of coracle wrote agree with them?

use crate::support::Image;
use crate::support::Proxy;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::proxy::Fault;
use crate::support::registry::Auth;
use crate::support::requirement::require;
use crate::support::skopeo;
use crate::support::token::TokenServer;
use crate::support::token::User;

fn token_server() -> TokenServer {
    let users = vec![
        User::new("", "", "pull", "library/"),
        User::new("reader", "secret-of-reader", "pull", ""),
        User::new("writer", "secret-of-writer", "pull,push", ""),
    ];
    TokenServer::start("127.0.0.1:0", users).expect("loopback has free ports")
}

#[test]
fn a_registry_accepts_the_token_servers_tokens() {
    let tokens = token_server();
    let registry = require!(Registry::start(&Auth::Token(&tokens)));
    require!(base::push_busybox(&registry));
    let from = format!("docker://{}/library/busybox:latest", registry.address());
    let to = format!("docker://{}/team/copy:1", registry.address());
    let with = |user: &str| format!("--dest-creds={user}:secret-of-{user}");
    require!(skopeo::copy(&from, &to, &[&with("writer")]));
    skopeo::copy(&from, &to, &[&with("reader")]).expect_err("a reader may not push");
    skopeo::copy(&from, &to, &["--dest-creds=writer:wrong"]).expect_err("a wrong password");
    skopeo::copy(&from, &to, &[]).expect_err("nobody may not push");
    assert!(tokens.asked().iter().any(|scope| scope == "repository:team/copy:pull,push"));
    Image::from_registry(&registry, "team/copy", "1");
}

#[test]
fn a_registry_with_basic_authentication_wants_the_password() {
    let registry = require!(Registry::start(&Auth::Basic("somebody", "the-password")));
    require!(base::push_busybox(&registry));
    let from = format!("docker://{}/library/busybox:latest", registry.address());
    let directory = Scratch::new();
    let to = format!("oci:{}:latest", directory.join("layout").display());
    require!(skopeo::copy(&from, &to, &["--src-creds=somebody:the-password"]));
    skopeo::copy(&from, &to, &["--src-creds=somebody:wrong"]).expect_err("a wrong password");
    let image = Image::from_layout(&directory.join("layout"));
    let files = image.files();
    assert_eq!(files["bin/busybox"].summary(), "- 755 0:0");
    assert_eq!(files["bin/sh"].link, "/bin/busybox");
    assert_eq!(files["tmp"].summary(), "d 1777 0:0");
    assert!(files["etc/passwd"].text().contains("builder:x:1234:1235"));
}

#[test]
fn the_proxy_breaks_what_it_is_told_to_break() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let proxy = Proxy::start(&registry.address());
    let from = format!("docker://{}/library/busybox:latest", proxy.address());
    let directory = Scratch::new();
    let to = |name: &str| format!("oci:{}:latest", directory.join(name).display());
    require!(skopeo::copy(&from, &to("whole"), &[]));
    assert_eq!(proxy.downloads(), 3, "{:#?}", proxy.seen());
    proxy.fail(1, axum::http::Method::GET, "/blobs/", Fault::Corrupt);
    skopeo::copy(&from, &to("corrupt"), &[]).expect_err("a blob is another one");
    proxy.fail(100, axum::http::Method::GET, "/blobs/", Fault::Cut(100));
    skopeo::copy(&from, &to("cut"), &[]).expect_err("the connection breaks");
}
