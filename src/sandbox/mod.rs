//! The sandbox: runs one command with the image as its root and nothing of the builder in view.
//!
//! [`Spec`] says what to run and in which surroundings, as data. [`Probe`] finds out what this place
//! allows, [`choose`] decides by that, and [`enter`] puts this process into the namespaces that it
//! needs, while it still has one thread; [`Sandbox::run`] then runs a spec
//! in a child that starts afresh from a copy of this program, so that nothing of
//! the builder's memory, environment or descriptors is there to be found.
//!
//! `run` is the builder's side, `child` the sandbox's own process, which hands the order to one of
//! the backends: [`Isolation`] names them. In each, `step` becomes the command.

mod advice;
mod answering;
mod bpf;
mod cancel;
mod caps;
mod cgroup;
mod child;
mod choice;
mod chroot;
mod emulate;
mod enter;
mod error;
mod exit;
mod hidden;
mod identity;
mod idmap;
mod isolation;
mod limits;
mod mountpoint;
mod namespaces;
mod probe;
mod program;
mod protocol;
mod quota;
mod refusal;
mod run;
mod seccomp;
mod spec;
mod start;
mod step;
mod style;
mod syscalls;
mod user;

pub use advice::{At, Lack, Remedy};
pub use cancel::Cancel;
pub use child::{CHILD_ARGUMENT, child_main};
pub use choice::{Choice, Judgement, NoIsolation, Rung, Wish, choose, judge};
pub use enter::enter;
pub use error::SandboxError;
pub use exit::Exit;
pub use hidden::Hidden;
pub use identity::{Identity, MemoryHold, OneId, Sandbox};
pub use isolation::{Isolation, UnknownIsolation};
pub use limits::limit_names;
pub use probe::{Probe, Switches, Technique, Verdict, errno_name};
pub use refusal::{EnterError, Refusal};
pub use spec::{
    Bind, Limit, MemoryFile, OverlayDirs, RootFs, Spec, Stream, TreeBind, User, WholeTree,
};
pub use style::Style;
pub use user::{UserError, resolve_user};
