//! Tokens that run out while a push goes on.

use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::Wire;
use crate::support::registry::Auth;
use crate::support::requirement::require;
use crate::support::show;
use crate::support::token::TokenServer;
use crate::support::token::User;

const MIB: u64 = 1 << 20;

/// For how many seconds the push is to go on: twelve lives of a token. `CORACLE_PUSH_SECONDS=60` is
/// tokens of five seconds.
fn seconds() -> u64 {
    std::env::var("CORACLE_PUSH_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(24)
}

#[test]
fn b031_a_push_outlives_its_tokens_by_far() {
    let users = vec![User::new("alice", "the-password", "pull,push", "")];
    let tokens = TokenServer::start_with_life("127.0.0.1:0", users, seconds() / 12);
    let tokens = tokens.expect("loopback has free ports");
    let registry = require!(Registry::start(&Auth::Token(&tokens)));
    let coracle = require!(Coracle::new());
    // One layer that goes in pieces, and some that go whole.
    let layers = [136, 8, 8, 4, 4, 4, 4];
    let bytes = layers.iter().sum::<u64>() * MIB;
    let wire = Wire::slow(&registry.address(), bytes / seconds());
    let context = Scratch::new();
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (number, size) in layers.into_iter().enumerate() {
        context.write_noise(&format!("f{number}"), size);
        writeln!(dockerfile, "COPY f{number} /").expect("a String takes all");
    }
    context.write("Dockerfile", dockerfile);
    let name = format!("{}/team/app:1", wire.address());
    coracle.run(&["build", "-t", &name, &context.path().display().to_string()]).ok();
    let login = ["login", &wire.address(), "-u", "alice", "--password-stdin"];
    coracle.run_with(&login, "the-password").ok();
    wire.forget();
    let begun = Instant::now();
    coracle.run(&["push", &name]).ok();
    let took = begun.elapsed();
    show(&format!("{} tokens in {} s", tokens.asked().len(), took.as_secs()));
    assert!(took >= Duration::from_secs(seconds() * 9 / 10), "{took:?}");
    // What was refused for its token was not large.
    assert!(wire.sent() < bytes + 24 * MIB, "{} for {bytes}\n{}", wire.sent(), coracle.debug_log());
    assert_eq!(Image::from_registry(&registry, "team/app", "1").layers.len(), layers.len());
}
