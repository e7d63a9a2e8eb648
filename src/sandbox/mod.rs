//! The sandbox: runs one command with the image as its root and nothing of the builder in view.
//!
//! [`Spec`] says what to run and in which surroundings, as data. [`enter`] puts this process into
//! the namespaces that it needs, while it still has one thread; [`Sandbox::run`] then runs a spec
//! in a child that starts as a fresh copy of this program (`/proc/self/exe`), so that nothing of
//! the builder's memory, environment or descriptors is there to be found.

mod spec;

pub use spec::{Bind, RootFs, Spec, Stream, User};
