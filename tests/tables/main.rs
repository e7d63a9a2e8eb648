//! Reads the tables in `testdata` and holds the library to them, by way of its public interface.
//!
//! Each table says at its top what its columns are; `testdata/README.md` says how it was made.

mod dockerfile;
mod notation;
mod patterns;
mod registry;
mod written;
