//! Mistakes in the Dockerfile, in the command line, and in what a step runs.

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement::require;

/// Builds `dockerfile` with `options`; it has to fail with this code and these words.
#[track_caller]
fn check(dockerfile: &str, options: &[&str], code: i32, words: &[&str]) {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", dockerfile);
    context.write("present", "");
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    let fixed = ["build", "--registry-mirror", &mirror];
    coracle.run(&[&fixed, options, &[&directory]].concat()).fails(code, words);
    coracle.assert_nothing_left();
}

#[test]
fn a_failing_step_shows_its_status_its_last_lines_and_its_place() {
    let dockerfile = "FROM busybox\n\nRUN echo last ''words && exit 7\n";
    check(dockerfile, &[], 1, &["exit code: 7", "last words", "Dockerfile:3", "RUN echo"]);
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let words = ["127", "no-such-program", "Dockerfile:2"];
    check("FROM busybox\nRUN no-such-program\n", &[], 1, &words);
    check(
        "FROM busybox\nRUN [\"no-such-program\"]\n",
        &[],
        1,
        &["no-such-program", "Dockerfile:2"],
    );
}

#[test]
fn an_unknown_instruction_has_a_nearest_one() {
    check("FROM busybox\nCOYP a b\n", &[], 2, &["COYP", "COPY", "Dockerfile:2"]);
}

#[test]
fn an_unknown_flag_of_an_instruction_has_a_nearest_one() {
    check(
        "FROM busybox\nCOPY --chwon=1 a b\n",
        &[],
        2,
        &["--chwon", "did you mean chown", "Dockerfile:2"],
    );
}

#[test]
fn an_unknown_option_has_a_nearest_one() {
    check("FROM busybox\n", &["--no-cahce"], 2, &["--no-cahce", "--no-cache"]);
}

#[test]
fn an_unknown_target_has_a_nearest_one() {
    check("FROM busybox AS build\n", &["--target", "biuld"], 2, &["biuld", "build"]);
}

#[test]
fn an_empty_dockerfile_says_so() {
    check("# nothing\n", &[], 2, &["dockerfile"]);
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    check("FROM busybox\nCOPY absent /\n", &[], 2, &["absent", "Dockerfile:2"]);
}

#[test]
fn a_missing_dockerfile_and_a_missing_context_are_named() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let directory = context.path().display().to_string();
    coracle.run(&["build", &directory]).fails(2, &["Dockerfile", &directory]);
    coracle.run(&["build", "/no/such/context"]).fails(2, &["/no/such/context"]);
}

#[test]
fn several_mistakes_are_all_reported() {
    check("FROM busybox\nCOYP a b\nRNU true\n", &[], 2, &["Dockerfile:2", "Dockerfile:3"]);
}

#[test]
fn what_is_not_built_yet_is_an_error_at_its_line() {
    let dockerfile = "FROM busybox\nRUN --device=vendor.example/x true\n";
    check(dockerfile, &[], 2, &["--device", "Dockerfile:2"]);
}
