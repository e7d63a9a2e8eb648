//! The stand-in for `python:3.6-slim` that `scripts/stand-in` makes, and the package to install.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::routing::get;

use crate::support::archive;
use crate::support::registry::Registry;
use crate::support::scratch::Scratch;
use crate::support::serve::Service;
use crate::support::skopeo;

/// Puts the stand-in into a registry as `library/python:3.6-slim`, with `options` for skopeo.
pub(crate) fn push(registry: &Registry, options: &[&str]) -> Result<(), String> {
    let layout = source("target/stand-in");
    if !layout.join("index.json").is_file() {
        return Err("target/stand-in is missing (`make stand-in` makes it)".to_owned());
    }
    let from = format!("oci:{}:latest", layout.display());
    let to = format!("docker://{}/library/python:3.6-slim", registry.address());
    skopeo::copy(&from, &to, options)
}

/// The tars of its layers, the lowest first: for the bench.
#[allow(dead_code, reason = "only the bench needs it")]
pub(crate) fn layers() -> Result<Vec<Vec<u8>>, String> {
    let layout = source("target/stand-in");
    let read = |name: &str| -> Result<Vec<u8>, String> {
        std::fs::read(layout.join(name)).map_err(|_| "target/stand-in is missing".to_owned())
    };
    let blob = |digest: &str| read(&format!("blobs/{}", digest.replace(':', "/")));
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|it| it.to_string());
    let index: serde_json::Value = parse(read("index.json")?)?;
    let digest = index["manifests"][0]["digest"].as_str().unwrap_or_default();
    let manifest: serde_json::Value = parse(blob(digest)?)?;
    let layers = manifest["layers"].as_array().into_iter().flatten();
    layers
        .map(|it| Ok(archive::unpack(&blob(it["digest"].as_str().unwrap_or_default())?)))
        .collect()
}

/// Serves the package's archive where a GitLab would.
#[derive(Debug)]
pub(crate) struct PackageServer {
    service: Service,
    served: Arc<AtomicUsize>,
}

impl PackageServer {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let package = package();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let answer = move || async move {
            count.fetch_add(1, Ordering::SeqCst);
            package
        };
        let path = "/costrouc/python-package-template/repository/v1.1.0/archive.tar.gz";
        let router = Router::new().route(path, get(answer));
        let service = Service::start("127.0.0.1:0", router).expect("loopback has free ports");
        Self { service, served }
    }

    /// How many times the archive was fetched.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// The founding Dockerfile, with the package coming from here, in a context of its own.
    pub(crate) fn context(&self) -> Scratch {
        let context = Scratch::new();
        context.write("Dockerfile", self.dockerfile());
        context
    }

    /// The founding Dockerfile, with the package coming from here.
    pub(crate) fn dockerfile(&self) -> String {
        let text = std::fs::read_to_string(source("testdata/demo/Dockerfile"));
        let text = text.expect("the founding Dockerfile is in the repository");
        text.replace("@ARCHIVE_SERVER@", &self.service.address())
    }
}

/// The package, packed the same way each time.
fn package() -> Vec<u8> {
    let output = Command::new("tar")
        .args(["-c", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", "-C"])
        .arg(source("testdata/demo"))
        .arg("python-package-template")
        .output()
        .expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    archive::gzip(&output.stdout)
}

/// A path in the repository.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
