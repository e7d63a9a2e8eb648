//! Machines that lack something: the error says what, and what to do.

use std::process::Command;

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement;
use crate::support::requirement::require;

/// Where no namespace can be made a build goes another way and says why, unless it must not.
#[test]
fn without_user_namespaces_a_build_says_so() {
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", "FROM busybox\nRUN true\n");
    let (mirror, directory) = (registry.as_docker_hub(), context.path().display().to_string());
    let build = ["build", "--registry-mirror", &mirror, &directory];
    let text = coracle.run_without_namespaces(&build).ok().text();
    assert!(text.contains("isolation: emulate") && text.contains("not namespaces: "), "{text}");
    let strict = [&build[..], &["--no-cache", "--min-isolation", "namespaces"]].concat();
    coracle.run_without_namespaces(&strict).fails(4, &["user namespaces", "hint"]);
}

#[test]
fn a_full_disk_is_an_error_and_not_a_broken_store() {
    require!(requirement::root());
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let dockerfile = "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=$SIZE\nARG SIZE\n";
    context.write("Dockerfile", dockerfile.replace("$SIZE", "64"));
    let store = coracle.home("small");
    coracle.own(&store);
    let disk = require!(TinyDisk::mount(&store));
    let root = store.display().to_string();
    let mirror = registry.as_docker_hub();
    let directory = context.path().display().to_string();
    let build = ["build", "--root", &root, "--registry-mirror", &mirror, &directory];
    let output = coracle.run(&build);
    assert!([1, 4].contains(&output.code), "{output}");
    assert!(output.text().to_lowercase().contains("no space left"), "{output}");
    context.write("Dockerfile", dockerfile.replace("$SIZE", "1"));
    coracle.run(&build).ok();
    coracle.run(&["--root", &root, "images"]).ok();
    drop(disk);
}

/// A file system with little room, unmounted when dropped.
struct TinyDisk(std::path::PathBuf);

impl TinyDisk {
    fn mount(directory: &std::path::Path) -> Result<Self, String> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs"])
            .arg(directory)
            .status()
            .map_err(|error| error.to_string())?;
        if status.success() { Ok(Self(directory.to_owned())) } else { Err("mount failed".into()) }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}
