//! Runs skopeo: a client that nobody of coracle wrote, as the witness that others can read it.

use std::process::Command;

use crate::support::requirement;
use crate::support::scratch::Scratch;

/// Copies an image between two transports; gives what skopeo says against it.
pub(crate) fn copy(from: &str, to: &str, options: &[&str]) -> Result<(), String> {
    run(&[
        &["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"],
        options,
        &[from, to],
    ]
    .concat())
    .map(drop)
}

/// What skopeo knows of an image: name, digest, layers, environment.
pub(crate) fn inspect(image: &str) -> Result<serde_json::Value, String> {
    let text = run(&["inspect", "--tls-verify=false", image])?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// An image's config.
pub(crate) fn config(image: &str) -> Result<serde_json::Value, String> {
    let text = run(&["inspect", "--config", "--raw", "--tls-verify=false", image])?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn run(arguments: &[&str]) -> Result<String, String> {
    let program = requirement::program("skopeo")?;
    let home = Scratch::new();
    let output = Command::new(program)
        .arg("--insecure-policy")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .output()
        .expect("skopeo runs");
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
