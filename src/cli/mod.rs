//! The command line: reads arguments and environment, calls the library, prints what it says.
//!
//! This is the only module that prints, exits or looks at the environment. A command is a file
//! with one function; [`run`] chooses it and turns what it returns into an exit code.

mod args;
mod build;
mod build_args;
mod builtin_args;
mod call;
mod context;
mod copy;
mod debug;
mod diagnostic;
mod dockerfile;
mod doctor;
mod environment;
mod exit;
mod failure;
mod foreign;
mod images;
mod index;
mod inspect;
mod isolation;
mod load;
mod login;
mod named_context;
mod network;
mod output_spec;
mod place;
mod progress;
mod prune;
mod pull;
mod push;
mod registry_args;
mod remote;
mod remote_args;
mod run;
mod save;
mod secrets;
mod session;
mod size;
mod step_args;
mod step_settings;
mod summary;
mod tag;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::args::Arguments;
use crate::cli::args::Command;
use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::session::Session;

/// Runs the program: reads its arguments, does what they say, reports how it ended.
pub fn run() -> ExitCode {
    // A step's first process is a fresh copy of this program. It must not see an argument parser,
    // a thread or a configuration file before it has left this world.
    if std::env::args_os().nth(1).is_some_and(|word| word == crate::sandbox::CHILD_ARGUMENT) {
        return crate::sandbox::child_main();
    }
    crate::sys::allocator::keep_buffers();
    let environment = Environment::read();
    let parsed = Arguments::try_parse();
    let done = match parsed {
        Ok(arguments) => dispatch(arguments, &environment),
        Err(error) => match foreign::explain(&error, std::env::args_os()) {
            Some(failure) => Err(failure),
            None => error.exit(),
        },
    };
    match done {
        Ok(status) => status,
        Err(failure) => {
            diagnostic::print(&failure.diagnostics, environment.colour);
            failure.exit.into()
        }
    }
}

fn dispatch(arguments: Arguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let Arguments { global, command } = arguments;
    let session = Session::new(global, environment, registry_args::named_hosts(&command))?;
    let result = perform(&session, command);
    debug::close(&session.log);
    result
}

fn perform(session: &Session<'_>, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Build(arguments) => build::build(session, &arguments)?,
        Command::Copy(arguments) => copy::copy(session, &arguments)?,
        Command::Index(command) => index::index(session, command)?,
        Command::Ls(arguments) => remote::list(session, &arguments.reference)?,
        Command::Manifest(arguments) => remote::manifest(session, &arguments.reference)?,
        Command::Rm(arguments) => remote::remove(session, &arguments.references)?,
        Command::Doctor(arguments) => return doctor::doctor(session, &arguments),
        Command::Images => images::images(session)?,
        Command::Inspect(arguments) => inspect::inspect(session, &arguments.reference)?,
        Command::Load(arguments) => load::load(session, &arguments)?,
        Command::Lint(arguments) => build::build(session, &arguments.into_build())?,
        Command::Login(arguments) => login::login(session, &arguments)?,
        Command::Logout(arguments) => login::logout(session, &arguments)?,
        Command::Prune(arguments) => prune::prune(session, &arguments)?,
        Command::Pull(arguments) => pull::pull(session, &arguments)?,
        Command::Push(arguments) => push::push(session, &arguments)?,
        Command::Rmi(arguments) => images::remove(session, &arguments.references)?,
        Command::Run(arguments) => return run::run(session, &arguments),
        Command::Save(arguments) => save::save(session, &arguments)?,
        Command::Tag(arguments) => tag::tag(session, &arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
