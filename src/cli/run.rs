//! `coracle run`: an image's entrypoint in the sandbox, to try an image before it is pushed.

use std::io::Write as _;
use std::process::ExitCode;

use crate::build;
use crate::build::PullPolicy;
use crate::cli::args::RunArguments;
use crate::cli::build::network;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Commands;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::oci::ContainerConfig;
use crate::oci::Platform;
use crate::plan::BaseImage;
use crate::sandbox::Stream;

/// Runs the image and ends with the status of its command.
pub(crate) fn run(session: &Session<'_>, arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let workshop = session.workshop(Commands::Prepared)?;
    let reference = arguments.reference.clone();
    let base = BaseImage { reference: reference.clone(), platform: Platform::host() };
    let failed = |kind| failure::build_kind(&kind);
    let exit = block_on(&workshop.cancel, async {
        let image = build::find_image(&base, PullPolicy::Missing, &workshop);
        let image = image.await.map_err(failed)?;
        let config = config(image.config.value().config.clone(), arguments)?;
        let (workshop, layers) = (workshop.clone(), image.layers());
        let network = network(arguments.network);
        let task = tokio::task::spawn_blocking(move || {
            build::run_image(&workshop, &layers, &config, network, &mut pass_on)
        });
        task.await.expect("nobody aborts the task, and a panic ends the program").map_err(failed)
    })?;
    if let Some(reason) = exit.reason() {
        let title = format!("the image's command could not be started: {reason}");
        let status = u8::try_from(exit.code()).unwrap_or(u8::MAX);
        return Err(Failure::new(Exit::Command(status), Diagnostic::new(title)));
    }
    let status = u8::try_from(exit.code()).unwrap_or(u8::MAX);
    Ok(if status == 0 { ExitCode::SUCCESS } else { Exit::Command(status).into() })
}

fn pass_on(stream: Stream, bytes: &[u8]) {
    // Nobody is left to tell when an output is closed.
    let _ = match stream {
        Stream::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
}

/// The image's config with what the command line says instead.
fn config(
    mut config: ContainerConfig,
    arguments: &RunArguments,
) -> Result<ContainerConfig, Failure> {
    if let Some(entrypoint) = &arguments.entrypoint {
        config.entrypoint = Some(vec![entrypoint.clone()]);
        config.cmd = None;
    }
    if !arguments.arguments.is_empty() {
        config.cmd = Some(arguments.arguments.clone());
    }
    if let Some(user) = &arguments.user {
        config.user.clone_from(user);
    }
    for variable in &arguments.env {
        let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
        let is_same = |other: &String| other.split_once('=').is_some_and(|(key, _)| key == name);
        config.env.retain(|other| !is_same(other));
        config.env.push(variable.clone());
    }
    let words = [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().count();
    if words == 0 {
        let title = "the image has neither an entrypoint nor a command";
        let hint = Some("say what to run after the image's name".to_owned());
        return Err(Failure::new(Exit::Usage, Diagnostic::new(title).hinted(hint)));
    }
    Ok(config)
}
