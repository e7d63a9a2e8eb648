//! What a step reaches: the builder's network, or nothing.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement::require;

/// The two options, and whether a step then reaches a service on the builder's loopback.
#[test]
fn a_step_reaches_what_its_network_option_says() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let url = format!("http://{}/v2/", registry.address());
    let step = format!("RUN wget -q -O /got {url} && echo reached > /word || echo alone > /word");
    context.write("Dockerfile", format!("FROM busybox\n{step}; ip link > /links\n"));
    for (option, expected) in [("host", "reached\n"), ("none", "alone\n")] {
        let options = ["--no-cache", "--network", option];
        let image = coracle.build(context.path(), &registry.as_docker_hub(), &options);
        assert_eq!(image.top()["word"].text(), expected, "--network {option}");
        let links = image.top()["links"].text();
        assert!(links.contains("lo:"), "{links}");
        if option == "none" {
            assert_eq!(links.matches("mtu").count(), 1, "{links}");
            assert!(links.contains("UP"), "loopback is down: {links}");
        }
    }
}

#[test]
fn an_instruction_can_ask_for_less() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let url = format!("http://{}/v2/", registry.address());
    let step = format!("RUN --network=none ! wget -q -O /dev/null {url}");
    context.write("Dockerfile", format!("FROM busybox\n{step}\n"));
    coracle.build(context.path(), &registry.as_docker_hub(), &["--network", "host"]);
}
