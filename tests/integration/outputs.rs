//! What `--output` writes, and whether other programs read it.

use serde_json::Value;

use crate::support::Coracle;
use crate::support::Image;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::requirement::require;
use crate::support::skopeo;

const DOCKERFILE: &str = "FROM busybox\nRUN echo hello > /hello && chown 1234:1235 /hello\n";

struct Bench {
    registry: Registry,
    coracle: Coracle,
    context: Scratch,
}

impl Bench {
    fn new() -> Result<Self, String> {
        let registry = Registry::open()?;
        base::push_busybox(&registry)?;
        let context = Scratch::new();
        context.write("Dockerfile", DOCKERFILE);
        Ok(Self { registry, coracle: Coracle::new()?, context })
    }

    fn build(&self, options: &[&str]) {
        let mirror = self.registry.as_docker_hub();
        let context = self.context.path().display().to_string();
        let fixed = ["build", "--registry-mirror", &mirror];
        self.coracle.run(&[&fixed, options, &[&context]].concat()).ok();
    }
}

#[test]
fn a_docker_archive_loads_with_skopeo() {
    let bench = require!(Bench::new());
    let tar = bench.coracle.home("archive.tar").display().to_string();
    bench.build(&["-t", "team/app:1", "-o", &format!("type=docker,dest={tar}")]);
    let layout = bench.coracle.home("layout");
    let to = format!("oci:{}:1", layout.display());
    require!(skopeo::copy(&format!("docker-archive:{tar}:team/app:1"), &to, &[]));
    assert_eq!(Image::from_layout(&layout).files()["hello"].text(), "hello\n");
}

#[test]
fn an_oci_tar_is_read_by_skopeo() {
    let bench = require!(Bench::new());
    let tar = bench.coracle.home("image.tar");
    bench.build(&["-o", &format!("type=oci,dest={}", tar.display())]);
    let image = Image::from_oci_tar(&tar);
    let layout = bench.coracle.home("layout");
    let to = format!("oci:{}:1", layout.display());
    require!(skopeo::copy(&format!("oci-archive:{}", tar.display()), &to, &[]));
    assert_eq!(Image::from_layout(&layout).digest, image.digest);
}

#[test]
fn a_tar_and_a_directory_hold_the_root_file_system() {
    let bench = require!(Bench::new());
    let tar = bench.coracle.home("rootfs.tar");
    bench.build(&["-o", &format!("type=tar,dest={}", tar.display())]);
    let files = crate::support::archive::read(&std::fs::read(&tar).expect("it was written"));
    assert_eq!(files["hello"].summary(), "- 644 1234:1235");
    assert_eq!(files["bin/busybox"].summary(), "- 755 0:0");
    let directory = bench.coracle.home("rootfs");
    bench.build(&["-o", &format!("type=local,dest={}", directory.display())]);
    let hello = std::fs::read_to_string(directory.join("hello")).expect("it was written");
    assert_eq!(hello, "hello\n");
}

#[test]
fn the_files_for_scripts_name_what_was_built() {
    let bench = require!(Bench::new());
    let address = bench.registry.address();
    let name = format!("{address}/team/app:1");
    let id_file = bench.coracle.home("id");
    let metadata_file = bench.coracle.home("metadata");
    let (id, metadata) = (id_file.display().to_string(), metadata_file.display().to_string());
    let files = ["--iidfile", &id, "--metadata-file", &metadata];
    bench.build(&[&files[..], &["-t", &name, "--push"]].concat());
    let image = Image::from_registry(&bench.registry, "team/app", "1");
    let config = image.manifest["config"]["digest"].as_str().expect("a digest is text");
    assert_eq!(std::fs::read_to_string(id_file).expect("it was written").trim(), config);
    let metadata = std::fs::read(metadata_file).expect("it was written");
    let metadata: Value = serde_json::from_slice(&metadata).expect("it is JSON");
    assert_eq!(metadata["containerimage.digest"], image.digest);
    assert_eq!(metadata["containerimage.config.digest"], config);
    assert_eq!(metadata["image.name"], name);
}

#[test]
fn standard_output_can_be_the_destination() {
    let bench = require!(Bench::new());
    let mirror = bench.registry.as_docker_hub();
    let context = bench.context.path().display().to_string();
    let build = ["build", "--registry-mirror", &mirror, "-o", "type=oci,dest=-", &context];
    let output = bench.coracle.prepare(&build).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tar = bench.context.write("image.tar", &output.stdout);
    Image::from_oci_tar(&tar);
}
