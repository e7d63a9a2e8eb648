//! The plan: everything about a build that can be decided without running anything.
//!
//! [`plan`] takes the parsed Dockerfile, the options, and the configs of the base images, and gives
//! the graph of stages and steps together with every byte of the final image's config except the
//! layers' digests. What it needs to know of base images is asked for by [`missing_bases`] and
//! handed in; the plan never calls back. Nothing here does I/O or reads a clock.

mod step;

pub use step::*;
