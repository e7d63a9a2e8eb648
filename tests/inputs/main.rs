//! Texts that come from outside: the tables in `testdata`, and texts that are made to do harm.
//!
//! The library is held to them by way of its public interface. Each table says at its top what its
//! columns are; `testdata/README.md` says how it was made.

mod checksums;
mod dockerfile;
mod hostile;
mod mutations;
mod notation;
mod patterns;
mod registry;
mod written;
