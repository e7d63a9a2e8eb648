//! coracle builds OCI images from Dockerfiles: no daemon, no root.

pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod layer;
pub mod oci;
pub mod plan;
pub mod progress;
pub mod sandbox;
pub mod snapshot;
mod sys;
