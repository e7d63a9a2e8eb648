//! Ends that come early: nothing is left running or mounted, and the store is whole.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::process::Process;
use crate::support::process::wait_until;
use crate::support::requirement::require;
use crate::support::stand_in;
use crate::support::stand_in::PackageServer;

#[track_caller]
fn wait_for_end(process: &mut Process) -> std::process::ExitStatus {
    let mut status = None;
    wait_until("the end", || {
        status = process.ended();
        status.is_some()
    });
    status.expect("it has ended")
}

fn arguments(context: &Path, mirror: &str) -> [String; 5] {
    ["build", "--registry-mirror", mirror, "--progress=plain", &context.display().to_string()]
        .map(str::to_owned)
}

#[test]
fn control_c_ends_a_step_and_everything_it_started() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let step = "RUN (trap '' INT TERM; sleep 1000) & echo under-''way; sleep 1000";
    context.write("Dockerfile", format!("FROM busybox\n{step}\n"));
    let build = arguments(context.path(), &registry.as_docker_hub());
    let mut process = coracle.start(&build, "build");
    wait_until("the step", || coracle.written("build").contains("under-way"));
    process.signal(Signal::INT);
    assert_eq!(wait_for_end(&mut process).code(), Some(130), "{}", coracle.written("build"));
    coracle.assert_nothing_left();
}

#[test]
fn sigkill_at_any_moment_is_mended_by_the_next_build() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let context = Scratch::new();
    // Big enough that each moment falls somewhere else: download, unpacking, steps, layers.
    let dockerfile = "FROM busybox\n\
        RUN dd if=/dev/zero of=/zero bs=1M count=20 && mkdir /many && cd /many && \
        i=0; while [ $i -lt 500 ]; do echo $i > $i; i=$((i+1)); done\n\
        RUN rm -r /many && echo done > /done\n";
    context.write("Dockerfile", dockerfile);
    kill_ten_times(&context, &registry.as_docker_hub());
}

#[test]
fn sigkill_at_any_moment_of_the_founding_build_is_mended_too() {
    let registry = require!(Registry::open());
    require!(stand_in::push(&registry, &[]));
    let packages = PackageServer::start();
    kill_ten_times(&packages.context(), &registry.as_docker_hub());
}

/// Builds, kills the build at ten moments, and checks that the image comes out the same each time.
fn kill_ten_times(context: &Scratch, mirror: &str) {
    let mut reference = require!(Coracle::new());
    reference.set("SOURCE_DATE_EPOCH", "0");
    let begun = Instant::now();
    let expected = reference.build(context.path(), mirror, &[]).digest;
    let whole = begun.elapsed();

    let mut coracle = require!(Coracle::new());
    coracle.set("SOURCE_DATE_EPOCH", "0");
    for moment in 0..10 {
        let mut process = coracle.start(&arguments(context.path(), mirror), "build");
        // Spread over the length of a build, not random: a failure can be had again.
        std::thread::sleep(whole * moment / 10);
        process.signal(Signal::KILL);
        process.wait();
        coracle.assert_nothing_left();
        if moment % 3 == 2 {
            let image = coracle.build(context.path(), mirror, &["--no-cache"]);
            assert_eq!(image.digest, expected, "after the kill at moment {moment}");
        }
    }
    assert_eq!(coracle.build(context.path(), mirror, &[]).digest, expected);
    coracle.assert_nothing_left();
}

#[test]
fn sigkill_during_a_push_is_mended_by_the_next_push() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let target = require!(Registry::open());
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN dd if=/dev/urandom of=/r bs=1M count=8\n");
    let name = format!("{}/team/app:1", target.address());
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    coracle.run(&["build", "--registry-mirror", &mirror, "-t", &name, &directory]).ok();
    for moment in 0..4 {
        let mut process = coracle.start(&["push", &name], "push");
        std::thread::sleep(Duration::from_millis(40 * moment));
        process.signal(Signal::KILL);
        process.wait();
    }
    coracle.run(&["push", &name]).ok();
    crate::support::Image::from_registry(&target, "team/app", "1");
}
