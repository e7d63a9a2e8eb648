//! Transfers with a real registry, and rules about whole images.

mod registry;
mod rules;
