//! coracle builds OCI images from Dockerfiles: no daemon, no root.

pub mod cache;
pub mod dockerfile;
pub mod http;
pub mod image;
pub mod layer;
pub mod oci;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod sandbox;
pub mod store;
pub mod transfer;
