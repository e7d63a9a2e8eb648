//! coracle builds OCI images from Dockerfiles: no daemon, no root.

pub mod build;
pub mod cache;
pub mod cli;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod fetch;
pub mod http;
pub mod image;
pub mod layer;
pub mod oci;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod sandbox;
pub mod snapshot;
pub mod store;
mod sys;
pub mod transfer;
