//! The options of `coracle build` that say what commands see and may do.

use clap::{Args, ValueEnum};

/// What commands see and may do.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StepArguments {
    /// A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=VARIABLE]`; repeatable.
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,
    /// An SSH agent for `RUN --mount=type=ssh`: `default`, or `ID=SOCKET`; repeatable.
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Let the Dockerfile use `RUN --network=host` or `RUN --security=insecure`; repeatable.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) allow: Vec<Allow>,
    /// Add a line to `/etc/hosts` of every command; repeatable.
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// How large `/dev/shm` may grow, such as `1g` [default: 64m].
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// How much memory a command may use with all that it starts, such as `2g`. Where no control
    /// group is delegated to you, it holds for each process by itself, and a note says so.
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// How long a command may take, such as `90s` or `1h30m`; then it is ended and the build fails.
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Set a resource limit of every command, such as `nofile=1024:4096`; repeatable.
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
}

/// `--allow`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allow {
    /// `RUN --network=host`
    #[value(name = "network.host")]
    NetworkHost,
    /// `RUN --security=insecure`
    #[value(name = "security.insecure")]
    SecurityInsecure,
}
