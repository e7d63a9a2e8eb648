//! `coracle build`: from arguments to a request, and from the outcome to what a person reads.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::build;
use crate::build::BuildError;
use crate::build::CacheUse;
use crate::build::ContextOrigin;
use crate::build::Outcome;
use crate::build::Output;
use crate::build::PullPolicy;
use crate::build::Request;
use crate::build::Workshop;
use crate::cli::args::BuildArguments;
use crate::cli::args::NetworkMode;
use crate::cli::args::ProgressMode;
use crate::cli::build_args;
use crate::cli::builtin_args;
use crate::cli::call;
use crate::cli::context::Files;
use crate::cli::context::Place;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::dockerfile;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::named_context;
use crate::cli::named_context::NamedContexts;
use crate::cli::output_spec;
use crate::cli::secrets;
use crate::cli::session::Commands;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::cli::session::now;
use crate::cli::step_settings;
use crate::cli::summary;
use crate::context::BuildContext;
use crate::dockerfile::Source;
use crate::oci::Platform;
use crate::plan::Network;
use crate::plan::PlanOptions;
use crate::progress::Event;

/// Builds the image and says what became of it.
pub(crate) fn build(session: &Session<'_>, arguments: &BuildArguments) -> Result<(), Failure> {
    let (files, environment) = (&arguments.build_arg_file, session.environment);
    let build_args = build_args::build_args(files, &arguments.build_arg, environment)?;
    let mut place = Place::of(&arguments.context)?;
    if let Place::Git(source) = &mut place {
        let keep_git_dir = builtin_args::keep_git_dir(&build_args)?;
        source.keep_git_dir = source.keep_git_dir.or(keep_git_dir);
    }
    let is_here = place.is_directory() && named_context::are_directories(&arguments.build_context)?;
    // What is elsewhere needs a store to be kept in. All else is looked at before there is one.
    let workshop = if is_here { None } else { Some(session.workshop(Commands::NotExpected)?) };
    let inputs = inputs(session, arguments, place, workshop.as_ref())?;
    let request = Arc::new(request(session, arguments, inputs, build_args)?);
    if let Some(call) = call::wanted(&arguments.call)? {
        return call::run(session, &request, call);
    }
    let runs = build::runs_command(&request);
    let workshop = match &workshop {
        Some(workshop) if !runs => workshop.clone(),
        _ => session.workshop(if runs { Commands::Prepared } else { Commands::NotExpected })?,
    };
    let outcome = match attempt(&request, &workshop)? {
        Attempt::Done(outcome) => outcome,
        // Only a base image's trigger runs a command. All threads have ended by now, and nothing has
        // been done, so this process can still enter a namespace and begin again.
        Attempt::NotPrepared => match attempt(&request, &session.workshop(Commands::Prepared)?)? {
            Attempt::Done(outcome) => outcome,
            Attempt::NotPrepared => unreachable!("it was prepared"),
        },
    };
    write_files(arguments, &outcome)?;
    if session.global.progress == ProgressMode::Quiet {
        print(&format!("{}\n", outcome.image_id.0));
    } else {
        summary::build(&outcome, &request);
        show_warnings(session, &summary::warnings(&outcome.warnings, &request.dockerfile));
    }
    Ok(())
}

/// How an attempt ended.
enum Attempt {
    Done(Box<Outcome>),
    /// A command is to run that was not expected.
    NotPrepared,
}

fn attempt(request: &Arc<Request>, workshop: &Workshop) -> Result<Attempt, Failure> {
    block_on(&workshop.cancel, async {
        match build::build(request, workshop).await {
            Ok(outcome) => Ok(Attempt::Done(Box::new(outcome))),
            Err(errors) if errors.iter().any(BuildError::is_not_prepared) => {
                Ok(Attempt::NotPrepared)
            }
            Err(errors) => Err(failure::build(&errors, &request.dockerfile)),
        }
    })
}

fn show_warnings(session: &Session<'_>, warnings: &[String]) {
    if session.global.progress == ProgressMode::Json {
        let display = session.display();
        for warning in warnings {
            display.report(Event::Warning(warning.clone()));
        }
    } else {
        summary::print_warnings(warnings);
    }
}

/// Prints data on standard output.
fn print(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The files that a build reads.
struct Inputs {
    dockerfile: Source,
    context: BuildContext,
    named: NamedContexts,
    origin: Option<ContextOrigin>,
}

fn inputs(
    session: &Session<'_>,
    arguments: &BuildArguments,
    place: Place,
    workshop: Option<&Workshop>,
) -> Result<Inputs, Failure> {
    let named = named_context::read(&arguments.build_context, session, workshop)?;
    let files = match (place, workshop) {
        (Place::Directory(path), _) => Files::Directory(path),
        (place, Some(workshop)) => place.open(session, workshop)?,
        (_, None) => unreachable!("a workshop is made where not everything is here"),
    };
    let origin = if let Files::Tree(_, origin) = &files { origin.clone() } else { None };
    let (dockerfile, context) = dockerfile::read(arguments, files)?;
    Ok(Inputs { dockerfile, context, named, origin })
}

fn request(
    session: &Session<'_>,
    arguments: &BuildArguments,
    inputs: Inputs,
    build_args: BTreeMap<String, String>,
) -> Result<Request, Failure> {
    let Inputs { dockerfile, context, named, origin } = inputs;
    let environment = session.environment;
    builtin_args::check_syntax(&build_args)?;
    let checks = builtin_args::checks(&build_args)?;
    let hostname = builtin_args::hostname(&build_args);
    let options = PlanOptions {
        source_date_epoch: builtin_args::source_date_epoch(&build_args, environment)?,
        run: step_settings::settings(&arguments.steps, hostname)?,
        build_args,
        target: arguments.target.clone(),
        platform: arguments.platform.clone(),
        build_platform: Platform::host(),
        labels: arguments.label.iter().map(|text| pair(text)).collect(),
        network: network(arguments.network),
        named_contexts: named.names,
        allowed: step_settings::allowed(&arguments.steps),
    };
    let outputs = outputs(arguments)?;
    Ok(Request {
        dockerfile,
        checks,
        options,
        context: Arc::new(context),
        named_contexts: named.files,
        origin,
        tags: arguments.tag.clone(),
        outputs,
        cache: if arguments.no_cache { CacheUse::Ignore } else { CacheUse::Read },
        uncached_stages: arguments.no_cache_filter.clone(),
        secrets: secrets::secrets(&arguments.steps.secret, environment)?,
        agents: secrets::agents(&arguments.steps.ssh, environment)?,
        limits: step_settings::limits(&arguments.steps)?,
        pull: if arguments.pull { PullPolicy::Always } else { PullPolicy::Missing },
        now: now(),
    })
}

pub(crate) fn network(mode: NetworkMode) -> Network {
    match mode {
        NetworkMode::Default | NetworkMode::Host => Network::Host,
        NetworkMode::None => Network::None,
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

fn outputs(arguments: &BuildArguments) -> Result<Vec<Output>, Failure> {
    let mut outputs = Vec::new();
    for spec in &arguments.output {
        let output = output_spec::parse(spec).map_err(|error| {
            let title = format!("`--output {spec}`: {error}");
            let hint = "types are store, registry, oci, docker, tar and local";
            Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint.to_owned())))
        })?;
        outputs.push(output);
    }
    if arguments.push && !outputs.contains(&Output::Registry) {
        outputs.push(Output::Registry);
    }
    if outputs.is_empty() {
        outputs.push(Output::Store);
    }
    if arguments.tag.is_empty() && outputs.contains(&Output::Registry) {
        let title = "an image without a name cannot be pushed";
        let hint = Some("name it with `--tag`".to_owned());
        return Err(Failure::new(Exit::Usage, Diagnostic::new(title).hinted(hint)));
    }
    Ok(outputs)
}

/// `--iidfile` and `--metadata-file`.
fn write_files(arguments: &BuildArguments, outcome: &Outcome) -> Result<(), Failure> {
    if let Some(path) = &arguments.iidfile {
        write(path, outcome.image_id.0.to_string().as_bytes())?;
    }
    if let Some(path) = &arguments.metadata_file {
        let text = serde_json::to_string_pretty(&outcome.metadata(&arguments.tag));
        write(path, text.expect("the metadata has only string keys").as_bytes())?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let title = format!("cannot write `{}`", path.display());
        Failure::new(Exit::Machine, Diagnostic::new(title).note("cause", error.to_string()))
    })
}
