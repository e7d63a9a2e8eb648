//! The options about registries that all commands take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::args::Command;
use crate::cli::place::Place;
use crate::cli::remote_args::IndexCommand;
use crate::dockerfile::{GoDuration, parse_duration};
use crate::oci::Reference;

/// How registries are spoken to, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryArguments {
    /// Pull what PREFIX names from LOCATION, and from nowhere else, as in
    /// `docker.io/library=mirror.example/hub`; repeatable.
    #[arg(long, global = true, value_name = "PREFIX=LOCATION", help_heading = HEADING)]
    pub(crate) registry_map: Vec<String>,
    /// Ask for certificates that are trusted; `--tls-verify=false` takes any, and plain HTTP.
    #[arg(long, global = true, value_name = "BOOL", help_heading = HEADING)]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) tls_verify: bool,
    /// A directory with `*.crt`, `*.cert` and `*.key` for all registries, in place of `certs.d`.
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING)]
    pub(crate) cert_dir: Option<PathBuf>,
    /// The file with credentials, in place of Docker's and Podman's.
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    pub(crate) authfile: Option<PathBuf>,
    /// Credentials for the registry that the command names, or for HOST; repeatable. Other users
    /// of this machine can see them: prefer `login`.
    #[arg(long, global = true, value_name = "[HOST=]USER:PASSWORD", help_heading = HEADING)]
    pub(crate) creds: Vec<String>,
    /// Give up when registries have kept the command waiting for so long in all, as in `90s` or
    /// `1h30m`; what commands of the Dockerfile take does not count [default: no limit].
    #[arg(long, global = true, value_name = "DURATION", help_heading = HEADING)]
    #[arg(value_parser = parse_time_limit)]
    pub(crate) registry_timeout: Option<Duration>,
}

/// Reads a duration as Go and Docker write it.
fn parse_time_limit(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(GoDuration::Positive(duration)) if !duration.is_zero() => Ok(duration),
        Some(_) => Err("it must be longer than nothing".to_owned()),
        None => Err("write a number and a unit, as in `90s`, `10m` or `1h30m`".to_owned()),
    }
}

const HEADING: &str = "Registries";

/// The registries that a command's own references name, each once: whom `--creds` without a host is
/// for.
pub(crate) fn named_hosts(command: &Command) -> Vec<String> {
    let references: Vec<&Reference> = match command {
        Command::Build(arguments) => arguments.tag.iter().collect(),
        Command::Pull(arguments) => vec![&arguments.reference],
        Command::Push(arguments) => arguments.references.iter().collect(),
        Command::Run(arguments) => vec![&arguments.reference],
        Command::Doctor(arguments) => arguments.reference.iter().collect(),
        Command::Copy(arguments) => {
            let places = [&arguments.target, &arguments.source];
            places.into_iter().find_map(Place::registry).into_iter().collect()
        }
        Command::Ls(arguments) | Command::Manifest(arguments) => vec![&arguments.reference],
        Command::Rm(arguments) => arguments.references.iter().collect(),
        Command::Index(IndexCommand::Push { index }) => vec![index],
        Command::Index(IndexCommand::Create(arguments) | IndexCommand::Add(arguments)) => {
            arguments.images.iter().collect()
        }
        _ => Vec::new(),
    };
    let mut hosts: Vec<String> = Vec::new();
    for reference in references {
        if !hosts.iter().any(|known| known == reference.registry()) {
            hosts.push(reference.registry().to_owned());
        }
    }
    hosts
}
