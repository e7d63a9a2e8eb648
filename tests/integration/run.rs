//! `coracle run`: an image is tried before it is pushed.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Who;
use crate::support::requirement::require;

const DOCKERFILE: &str = "FROM busybox\nENV GREETING=hello\nWORKDIR /work\nUSER builder\n\
    ENTRYPOINT [\"sh\", \"-c\", \"echo $GREETING $0 $(pwd) $(id -u); exit ${STATUS:-0}\"]\n\
    CMD [\"default\"]\n";

fn check(who: Who) {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::run_by(who));
    let context = Scratch::new();
    context.write("Dockerfile", DOCKERFILE);
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    coracle.run(&["build", "--registry-mirror", &mirror, "-t", "app", &directory]).ok();
    let default = coracle.run(&["run", "app"]).ok();
    assert_eq!(default.stdout, "hello default /work 1234\n", "{default}");
    let given = coracle.run(&["run", "app", "given"]).ok();
    assert_eq!(given.stdout, "hello given /work 1234\n", "{given}");
    let failing = coracle.run(&["run", "-e", "STATUS=9", "app"]);
    assert_eq!(failing.code, 9, "{failing}");
    let other = coracle.run_with(&["run", "--entrypoint", "cat", "app", "-"], "from outside");
    assert_eq!(other.stdout, "from outside", "{other}");
    coracle.assert_nothing_left();
}

#[test]
fn as_a_user_with_subordinate_ids() {
    check(Who::Subordinate);
}

#[test]
fn as_root() {
    check(Who::Root);
}

#[test]
fn an_image_that_is_not_in_the_store_is_named() {
    let coracle = require!(Coracle::new());
    let output = coracle.run(&["run", "127.0.0.1:1/nobody/nothing"]);
    assert_ne!(output.code, 0, "{output}");
    assert!(output.text().contains("nobody/nothing"), "{output}");
}
