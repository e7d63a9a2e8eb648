//! The base image of most tests: one static busybox and a few files around it, in two layers.

use std::process::Command;

use coracle::oci::Digest;
use serde_json::Value;
use serde_json::json;

use crate::support::archive::LayerBuilder;
use crate::support::archive::gzip;
use crate::support::registry::Registry;
use crate::support::requirement;

/// The OCI media type of manifests.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The `PATH` of the base image.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      builder:x:1234:1235:builder:/home/builder:/bin/sh\n";
const GROUP: &str = "root:x:0:\nbuilder:x:1235:\nextra:x:1300:builder\n";

/// Puts `library/busybox:latest` into a registry; gives the digest of its manifest.
pub(crate) fn push_busybox(registry: &Registry) -> Result<String, String> {
    Ok(push(registry, "library/busybox", "latest", &[system()?, settings()], &json!({})))
}

/// Puts an image of these layers into a registry, with `config` over the usual image config.
pub(crate) fn push(
    registry: &Registry,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
    config: &Value,
) -> String {
    let client = registry.client();
    let blobs: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let mut image = json!({
        "created": "2019-01-01T00:00:00Z",
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": [PATH], "Cmd": ["sh"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|tar| Digest::of(tar).to_string()).collect::<Vec<_>>(),
        },
        "history": layers.iter().map(|_| json!({"created_by": "base"})).collect::<Vec<_>>(),
    });
    merge(&mut image, config);
    let image = image.to_string().into_bytes();
    let descriptor = |media_type: &str, bytes: &[u8]| {
        let digest = client.put_blob(repository, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = |blob: &Vec<u8>| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &image),
        "layers": blobs.iter().map(layer).collect::<Vec<_>>(),
    });
    client.put_manifest(repository, tag, MANIFEST, manifest.to_string().as_bytes())
}

/// Puts the members of `over` into `value`, objects within objects too.
fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (name, member) in over {
                merge(value.entry(name.clone()).or_insert(Value::Null), member);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

/// The first layer: directories, busybox, and a link for each of its applets.
pub(crate) fn system() -> Result<Vec<u8>, String> {
    let program = requirement::program("busybox")?;
    let busybox = std::fs::read(&program).map_err(|error| format!("busybox: {error}"))?;
    let applets = Command::new(&program).arg("--list-full").output().expect("busybox runs").stdout;
    let mut layer = LayerBuilder::new();
    for directory in ["bin", "dev", "etc", "home", "proc", "sbin", "sys", "usr", "usr/bin"] {
        layer.directory(directory, 0o755);
    }
    for directory in ["run", "usr/local", "usr/local/bin", "usr/sbin", "var"] {
        layer.directory(directory, 0o755);
    }
    layer.directory("root", 0o700);
    layer.directory("tmp", 0o1777);
    layer.symlink("var/run", "../run");
    layer.file("bin/busybox", 0o755, &busybox);
    for applet in String::from_utf8_lossy(&applets).lines() {
        if applet != "bin/busybox" && !applet.starts_with("linuxrc") {
            layer.symlink(applet, "/bin/busybox");
        }
    }
    Ok(layer.finish())
}

/// The second layer: who is who.
fn settings() -> Vec<u8> {
    let mut layer = LayerBuilder::new();
    layer.directory("etc", 0o755);
    layer.file("etc/group", 0o644, GROUP.as_bytes());
    layer.file("etc/passwd", 0o644, PASSWD.as_bytes());
    layer.finish()
}
