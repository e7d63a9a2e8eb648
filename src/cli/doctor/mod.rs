//! `coracle doctor`: what this place allows, what it lacks, and how to have it.

mod json;
mod registry;
mod text;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::doctor::registry::RegistryReport;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::oci::Reference;
use crate::sandbox;
use crate::sandbox::Choice;
use crate::sandbox::Judgement;
use crate::sandbox::NoIsolation;
use crate::sandbox::Probe;
use crate::sandbox::Rung;
use crate::store::FileSystem;

/// `coracle doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Also check whether this image could be pulled and pushed.
    pub(crate) reference: Option<Reference>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = DoctorFormat::Text)]
    pub(crate) format: DoctorFormat,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people.
    Text,
    /// With keys that stay what they are.
    Json,
}

/// All that was found.
#[derive(Debug)]
struct Report {
    probe: Probe,
    /// What a build would do; `None` with `--isolation none`.
    choice: Option<Result<Choice, NoIsolation>>,
    /// All rungs, whether or not anybody asks for them.
    judgements: Vec<Judgement>,
    store: PathBuf,
    file_system: FileSystem,
    registry: Option<RegistryReport>,
}

impl Report {
    /// The rung that commands will be on.
    fn rung(&self) -> Option<Rung> {
        self.choice.as_ref().and_then(|choice| choice.as_ref().ok()).map(|choice| choice.rung)
    }

    /// The rungs above the one that is taken; all of them if none is.
    fn better(&self) -> &[Judgement] {
        let taken =
            self.rung().and_then(|rung| self.judgements.iter().position(|j| j.rung == rung));
        &self.judgements[..taken.unwrap_or(self.judgements.len())]
    }
}

/// Examines this place, and prints what was found.
pub(crate) fn doctor(
    session: &Session<'_>,
    arguments: &DoctorArguments,
) -> Result<ExitCode, Failure> {
    let report = examine(session, arguments.reference.as_ref())?;
    let text = match arguments.format {
        DoctorFormat::Text => text::render(&report),
        DoctorFormat::Json => json::render(&report),
    };
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(if report.rung().is_none() {
        Exit::Machine.into()
    } else if report.registry.as_ref().is_some_and(|registry| !registry.is_well()) {
        Exit::Registry.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn examine(session: &Session<'_>, reference: Option<&Reference>) -> Result<Report, Failure> {
    let store = session.store()?;
    let place = store.temp_dir().map_err(|error| failure::store(&error))?;
    let machine = |title: &str, error: &std::io::Error| {
        Failure::new(Exit::Machine, Diagnostic::new(title).note("cause", error.to_string()))
    };
    // Before the first thread: what cannot be tried by a process with several is tried here.
    let probe = Probe::all(place.path())
        .map_err(|error| machine("cannot find out what this machine allows", &error))?;
    drop(place);
    let file_system = FileSystem::of(store.root())
        .map_err(|error| machine("cannot look at the store's file system", &error))?;
    let choice = session.global.isolation.wish().map(|wish| sandbox::choose(&probe, wish));
    let judgements = Rung::ALL.map(|rung| sandbox::judge(&probe, rung)).to_vec();
    let registry = match reference {
        Some(reference) => Some(registry::examine(session, reference)?),
        None => None,
    };
    let store = store.root().to_owned();
    Ok(Report { probe, choice, judgements, store, file_system, registry })
}
