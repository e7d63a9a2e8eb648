//! The calls about files: each finds its file, asks whether the caller may, and does it.

pub(super) mod attributes;
pub(super) mod directory;
pub(super) mod names;
pub(super) mod open;
pub(super) mod stat;
pub(super) mod xattrs;
