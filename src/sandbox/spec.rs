//! What to run, as data.
//!
//! The caller decides everything here: which host files are shown (also `/etc/resolv.conf` and
//! `/etc/hosts`, as [`Bind`]s), who runs the command ([`resolve_user`](crate::sandbox::resolve_user)),
//! with which variables. The sandbox adds `/proc`, `/sys`, `/dev`, and `HOME` if `env` lacks it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::oci::ImagePath;
use crate::sandbox::Hidden;

/// What Docker gives.
const SHM_SIZE: u64 = 64 << 20;

/// A command and its surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The root file system.
    pub root: RootFs,
    /// Program (looked up in `PATH` of `env` where it has no slash) and arguments.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// The working directory; it is made if it is missing.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// Whether the command sees the builder's network, or only loopback.
    pub host_network: bool,
    /// The host name.
    pub hostname: String,
    /// Host files and directories shown inside, each at its target, made if missing and removed
    /// again so that they are not in the layer.
    pub binds: Vec<Bind>,
    /// Stacked layers shown inside as one directory or file each, likewise.
    pub trees: Vec<TreeBind>,
    /// Temporary file systems: target and size limit in bytes (0 is none).
    pub tmpfs: Vec<(PathBuf, u64)>,
    /// Files that are only in memory, shown read-only.
    pub memory_files: Vec<MemoryFile>,
    /// Variables with secret values, in place of those of the same name in `env`.
    pub secret_env: Vec<(String, Hidden)>,
    /// Resource limits other than the usual ones.
    pub limits: Vec<Limit>,
    /// How much memory the command may use, in bytes, with all that it starts, or else each of its
    /// processes by itself: see [`Sandbox::memory_hold`](crate::sandbox::Sandbox::memory_hold).
    pub memory: Option<u64>,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// How large `/dev/shm` may grow, in bytes.
    pub shm_size: u64,
    /// All capabilities of the namespace, every system call, and `/proc` and `/sys` as they are
    /// (rule A160).
    pub insecure: bool,
    /// What the command reads: empty input, or what `coracle run` was given.
    pub interactive: bool,
}

/// Where a root file system is, and where changes to it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// In layers that overlayfs stacks.
    Overlay(OverlayDirs),
    /// In one directory, which holds the whole tree and receives the changes.
    Directory(WholeTree),
}

impl RootFs {
    /// Where the changes go.
    pub fn upper(&self) -> &Path {
        match self {
            Self::Overlay(dirs) => &dirs.upper,
            Self::Directory(tree) => &tree.directory,
        }
    }
}

/// A directory with a whole root file system that nobody else uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeTree {
    /// The tree itself.
    pub directory: PathBuf,
    /// Where owners are recorded, a file with those of links and pipes, which cannot carry records
    /// themselves; missing if there are none. Whoever changes owners in the tree keeps it true.
    pub records: PathBuf,
}

/// The layers that make a root file system, and where changes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayDirs {
    /// Directories with one layer each, bottom first, in overlayfs format. May be empty.
    pub lower: Vec<PathBuf>,
    /// Receives the changes.
    pub upper: PathBuf,
    /// Overlayfs's scratch directory, empty, on the same file system as `upper`.
    pub work: PathBuf,
}

/// Who runs the command, as the image counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, for `HOME`.
    pub home: String,
}

/// A host path shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the image.
    pub target: PathBuf,
    /// Whether writes go through.
    pub writable: bool,
    /// Whether it is on the file system of the root, and the caller's alone as long as the command
    /// runs: then it may be moved into the root and back, where nothing can be mounted.
    pub movable: bool,
}

/// A file that never touches a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// In the image.
    pub target: PathBuf,
    /// What is in it.
    pub content: Hidden,
    /// Permissions.
    pub mode: u32,
    /// The owner, as the image counts. With one id, everything is that one's.
    pub uid: u32,
    /// The group, likewise.
    pub gid: u32,
}

/// A resource limit. `None` is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// One of [`limit_names`](crate::sandbox::limit_names).
    pub name: String,
    /// What holds.
    pub soft: Option<u64>,
    /// How far the command may raise that.
    pub hard: Option<u64>,
}

/// Layers shown inside as one tree: `RUN --mount=from=…`, or a directory whose changes are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeBind {
    /// Directories with one layer each, bottom first, as in [`RootFs`]. An ordinary directory is
    /// one such layer.
    pub lower: Vec<PathBuf>,
    /// What to show of the tree: a path in it, links resolved inside it.
    pub path: PathBuf,
    /// In the image.
    pub target: PathBuf,
    /// Without it the tree is read-only. With it writes go to the first of two empty directories
    /// on one file system; the second is overlayfs's scratch directory. The caller removes both.
    pub scratch: Option<(PathBuf, PathBuf)>,
}

/// Which of a command's two outputs some bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Spec {
    /// A command as root in `root`, without network, with an empty environment.
    pub fn new(root: RootFs, args: Vec<String>) -> Self {
        Self {
            root,
            args,
            env: Vec::new(),
            cwd: ImagePath::root().to_string(),
            user: User { home: "/root".to_owned(), ..User::default() },
            host_network: false,
            hostname: "buildkitsandbox".to_owned(),
            binds: Vec::new(),
            trees: Vec::new(),
            tmpfs: Vec::new(),
            memory_files: Vec::new(),
            secret_env: Vec::new(),
            limits: Vec::new(),
            memory: None,
            timeout: None,
            shm_size: SHM_SIZE,
            insecure: false,
            interactive: false,
        }
    }
}
