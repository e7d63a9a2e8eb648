//! Registries with certificates: of a private authority, and of clients too.

use std::fs;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::registry::Auth;
use crate::support::registry::Tls;
use crate::support::requirement::require;
use crate::support::tls::Authority;

/// A Dockerfile whose base is on the registry at `address`.
fn context(address: &str) -> Scratch {
    let context = Scratch::new();
    context.write("Dockerfile", format!("FROM {address}/library/busybox\nCOPY Dockerfile /\n"));
    context
}

#[test]
fn b009_a_client_shows_its_certificate_and_all_goes_over_http_2() {
    let plain = require!(Registry::open());
    require!(base::push_busybox(&plain));
    let authority = Authority::new();
    let registry = require!(plain.twin_with(&Auth::None, Tls::Mutual(&authority)));
    let coracle = require!(Coracle::new());
    let address = registry.address();
    let context = context(&address);
    let name = format!("{address}/team/app:1");
    let build = ["build", "--push", "-t", &name, &context.path().display().to_string()];
    coracle.run(&build).fails(3, &[&address, "not trusted"]);
    let directory = coracle.home(&format!(".config/containers/certs.d/{address}"));
    coracle.own(&directory);
    fs::copy(authority.certificate(), directory.join("ca.crt")).expect("it is writable");
    coracle.run(&build).fails(3, &[&address, "client certificate"]);
    let pair = authority.issue("me");
    fs::copy(pair.certificate, directory.join("me.cert")).expect("it is writable");
    fs::copy(pair.key, directory.join("me.key")).expect("it is writable");
    coracle.run(&build).ok();
    coracle.run(&["pull", &name]).ok();
    let image = Image::from_registry(&plain, "team/app", "1");
    assert!(image.top().contains_key("Dockerfile"));
    let log = coracle.debug_log();
    let went_well =
        log.lines().filter(|line| line.contains(" 201 in ") || line.contains(" 200 in "));
    let others: Vec<_> = went_well.filter(|line| !line.ends_with("HTTP/2.0")).collect();
    assert!(others.is_empty() && log.contains("HTTP/2.0"), "{others:#?}");
}

#[test]
fn b009_a_private_authority_is_named_by_an_option_or_the_environment() {
    let plain = require!(Registry::open());
    require!(base::push_busybox(&plain));
    let authority = Authority::new();
    let auth = Auth::Basic("alice", "the-password");
    let registry = require!(plain.twin_with(&auth, Tls::Server(&authority)));
    let mut coracle = require!(Coracle::new());
    let address = registry.address();
    let name = format!("{address}/library/busybox:latest");
    let login = ["login", &address, "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").fails(3, &["not trusted", "certs.d"]);
    let directory = coracle.home("certs");
    coracle.own(&directory);
    let bundle = directory.join("ours.crt");
    fs::copy(authority.certificate(), &bundle).expect("it is writable");
    let certs = directory.display().to_string();
    coracle.run_with(&[&login[..], &["--cert-dir", &certs]].concat(), "the-password").ok();
    coracle.run(&["pull", "--cert-dir", &certs, &name]).ok();
    coracle.run(&["pull", &name]).fails(3, &["not trusted"]);
    coracle.set("SSL_CERT_FILE", &bundle.display().to_string());
    coracle.run(&["pull", &name]).ok();
    coracle.set("SSL_CERT_FILE", "/nonexistent");
    coracle.run(&["pull", "--tls-verify=false", &name]).ok();
}
