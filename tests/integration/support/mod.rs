//! What the integration tests stand on: real registries, a proxy that breaks things, base images,
//! users, and the program.
//!
//! Everything started here ends with the value that holds it: processes are killed on drop, and die
//! with the thread that started them (`setpriv --pdeathsig`) if that is killed. Nothing is reached
//! but loopback.

pub(crate) mod archive;
pub(crate) mod base;
pub(crate) mod buildah;
pub(crate) mod client;
pub(crate) mod coracle;
pub(crate) mod debs;
pub(crate) mod docker_default;
pub(crate) mod files;
pub(crate) mod git;
pub(crate) mod image;
pub(crate) mod place;
pub(crate) mod pod;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod requirement;
pub(crate) mod scratch;
pub(crate) mod serve;
pub(crate) mod skopeo;
pub(crate) mod stand_in;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod wire;

pub(crate) use coracle::Coracle;
pub(crate) use image::Image;
pub(crate) use place::Place;
pub(crate) use proxy::Proxy;
pub(crate) use registry::Registry;
pub(crate) use scratch::Scratch;
pub(crate) use wire::Wire;

/// Shows what was measured to whoever runs a test by hand (`--no-capture`).
pub(crate) fn show(figure: &str) {
    use std::io::Write as _;

    let _ = writeln!(std::io::stderr(), "{figure}");
}
