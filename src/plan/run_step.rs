//! What belongs to a `RUN` alone: its mounts, and what the command line says about all commands.

use crate::dockerfile::Span;
use crate::oci::ImagePath;
use crate::plan::CopyFrom;

/// `--allow`: what a `RUN` gets only if the user has said so (rule A160).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// `network.host`
    pub network_host: bool,
    /// `security.insecure`
    pub insecure: bool,
}

/// What the command line says about the surroundings of every command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// `--add-host`: names and their addresses, for `/etc/hosts`.
    pub hosts: Vec<(String, String)>,
    /// `--shm-size`: how large `/dev/shm` may grow, in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--build-arg BUILDKIT_SANDBOX_HOSTNAME`, where it is given.
    pub hostname: Option<String>,
}

/// One `--ulimit`. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// As `ulimit` of the Docker tools calls it: `nofile`.
    pub name: String,
    /// What holds.
    pub soft: Option<u64>,
    /// How far the command may raise that.
    pub hard: Option<u64>,
}

/// One `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// Where it was written.
    pub span: Span,
    /// `type`: `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
    pub kind: MountKind,
    /// `target`, absolute.
    pub target: ImagePath,
}

/// The kinds of `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`
    Bind {
        /// Where from.
        from: CopyFrom,
        /// Which path there.
        source: ImagePath,
        /// Whether writes work (they are discarded).
        writable: bool,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// Size limit in bytes; 0 is none.
        size: u64,
    },
    /// `type=cache`
    Cache(CacheMount),
    /// `type=secret`
    Secret(SecretMount),
    /// `type=ssh`
    Ssh(SshMount),
}

/// A directory that outlives the build and is in no layer (rule A157).
///
/// What it starts as, and whose it is, are part of its name: one `id` with another `uid` is another
/// cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// `id`, or the target as written.
    pub id: String,
    /// Who else may use it meanwhile.
    pub sharing: Sharing,
    /// What a new one has in it: `from` and `source`.
    pub seed: Option<(CopyFrom, ImagePath)>,
    /// Mode and owner of a new one; they are the seed's where it has a `source`.
    pub access: Access,
    /// Whether writes work.
    pub writable: bool,
}

/// Who else may use a cache while a command uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Nobody: whoever comes meanwhile gets another one.
    Private,
    /// Nobody: whoever comes meanwhile waits.
    Locked,
}

/// Something that the command sees and that is in no layer, config or cache key (rule A158).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Which of the command line's secrets.
    pub id: String,
    /// Whether it is a file at the mount's target.
    pub file: bool,
    /// The variable that has its value.
    pub env: Option<String>,
    /// Whether the command must not run without it.
    pub required: bool,
    /// Mode and owner of the file.
    pub access: Access,
}

/// The socket of a forwarded SSH agent (rule A159).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// Which of the command line's agents, as written: empty is `default`.
    pub id: String,
    /// Whether the command must not run without it.
    pub required: bool,
    /// Mode and owner of the socket.
    pub access: Access,
}

/// `mode`, `uid` and `gid`, where given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Permissions.
    pub mode: Option<u32>,
    /// The owner, as the image counts; 0 if it is not given.
    pub uid: Option<u32>,
    /// The group, likewise.
    pub gid: Option<u32>,
}

impl Access {
    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }
}
