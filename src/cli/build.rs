//! `coracle build`: from arguments to a request, and from the outcome to what a person reads.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::build;
use crate::build::BuildError;
use crate::build::CacheUse;
use crate::build::Outcome;
use crate::build::Output;
use crate::build::PullPolicy;
use crate::build::Request;
use crate::cli::args::BuildArguments;
use crate::cli::args::NetworkMode;
use crate::cli::args::ProgressMode;
use crate::cli::build_args;
use crate::cli::call;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::output_spec;
use crate::cli::secrets;
use crate::cli::session::Commands;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::cli::session::now;
use crate::cli::step_settings;
use crate::cli::summary;
use crate::context::BuildContext;
use crate::dockerfile::Checks;
use crate::dockerfile::Source;
use crate::oci::Platform;
use crate::oci::Timestamp;
use crate::plan::NamedContext;
use crate::plan::Network;
use crate::plan::PlanOptions;
use crate::progress::Event;

/// Dockerfiles beyond this size are a mistake.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// Builds the image and says what became of it.
pub(crate) fn build(session: &Session<'_>, arguments: &BuildArguments) -> Result<(), Failure> {
    let request = Arc::new(request(session, arguments)?);
    if let Some(call) = call::wanted(&arguments.call)? {
        return call::run(session, &request, call);
    }
    let runs = build::runs_command(&request);
    let commands = if runs { Commands::Prepared } else { Commands::NotExpected };
    let outcome = match attempt(session, &request, commands)? {
        // Only a base image's trigger runs a command. All threads have ended by now, and nothing has
        // been done, so this process can still enter a namespace and begin again.
        Attempt::NotPrepared => match attempt(session, &request, Commands::Prepared)? {
            Attempt::Done(outcome) => outcome,
            Attempt::NotPrepared => unreachable!("it was prepared"),
        },
        Attempt::Done(outcome) => outcome,
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

fn attempt(
    session: &Session<'_>,
    request: &Arc<Request>,
    commands: Commands,
) -> Result<Attempt, Failure> {
    let workshop = session.workshop(commands)?;
    block_on(&workshop.cancel, async {
        match build::build(request, &workshop).await {
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
        warnings.iter().for_each(|it| display.report(Event::Warning(it.clone())));
    } else {
        summary::print_warnings(warnings);
    }
}

/// Prints data on standard output.
fn print(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn request(session: &Session<'_>, arguments: &BuildArguments) -> Result<Request, Failure> {
    let (dockerfile, ignore_beside) = dockerfile(arguments)?;
    let environment = session.environment;
    let build_args =
        build_args::build_args(&arguments.build_arg_file, &arguments.build_arg, environment)?;
    let source_date_epoch = source_date_epoch(session, &build_args)?;
    let (named, files) = named_contexts(&arguments.build_context)?;
    let context = context(&arguments.context, ignore_beside.as_deref())?;
    let options = PlanOptions {
        build_args,
        target: arguments.target.clone(),
        platform: arguments.platform.clone(),
        build_platform: Platform::host(),
        labels: arguments.label.iter().map(|text| pair(text)).collect(),
        network: network(arguments.network),
        named_contexts: named,
        source_date_epoch,
        allowed: step_settings::allowed(&arguments.steps),
        run: step_settings::settings(&arguments.steps)?,
    };
    let outputs = outputs(arguments)?;
    Ok(Request {
        dockerfile,
        checks: checks(&options)?,
        options,
        context: Arc::new(context),
        named_contexts: files,
        tags: arguments.tag.clone(),
        outputs,
        cache: if arguments.no_cache { CacheUse::Ignore } else { CacheUse::Read },
        uncached_stages: arguments.no_cache_filter.clone(),
        secrets: secrets::secrets(&arguments.steps.secret, environment)?,
        agents: secrets::agents(&arguments.steps.ssh, environment)?,
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

/// The Dockerfile, and the name of the ignore file that would belong to it alone (rule A142).
fn dockerfile(arguments: &BuildArguments) -> Result<(Source, Option<std::path::PathBuf>), Failure> {
    let path = match &arguments.file {
        Some(path) if path == Path::new("-") => {
            let text = read_text(std::io::stdin().lock(), "standard input")?;
            return Ok((Source::new("Dockerfile", &text), None));
        }
        Some(path) => path.clone(),
        None => arguments.context.join("Dockerfile"),
    };
    let name = path.display().to_string();
    let file = std::fs::File::open(&path).map_err(|error| {
        let title = format!("cannot read the Dockerfile `{name}`");
        let hint = "name it with `--file`; it is looked for in the context as `Dockerfile`";
        let diagnostic = Diagnostic::new(title).note("cause", error.to_string());
        Failure::new(Exit::Usage, diagnostic.hinted(Some(hint.to_owned())))
    })?;
    let text = read_text(file, &name)?;
    // People look for `Dockerfile:12`, not for a path that they have just typed.
    let shown = path.strip_prefix(&arguments.context).unwrap_or(&path).display().to_string();
    let mut ignore = path.into_os_string();
    ignore.push(".dockerignore");
    Ok((Source::new(&shown, &text), Some(ignore.into())))
}

fn read_text(reader: impl std::io::Read, name: &str) -> Result<String, Failure> {
    let usage = |title: String| Failure::new(Exit::Usage, Diagnostic::new(title));
    let mut bytes = Vec::new();
    let read = reader.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| usage(format!("cannot read `{name}`: {error}")))?;
    if bytes.len() as u64 > DOCKERFILE_LIMIT {
        return Err(usage(format!("`{name}` is larger than 16 MiB, which no Dockerfile is")));
    }
    String::from_utf8(bytes).map_err(|_| usage(format!("`{name}` is not UTF-8 text")))
}

/// The directory, less what the ignore file excludes.
fn context(directory: &Path, beside: Option<&Path>) -> Result<BuildContext, Failure> {
    let own = directory.join(".dockerignore");
    let candidates = [beside, Some(&own)].into_iter().flatten();
    let found = candidates.map(|path| (path, std::fs::read(path))).find_map(|(path, read)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        read.ok().map(|bytes| (name, String::from_utf8_lossy(&bytes).into_owned()))
    });
    BuildContext::open(directory, found)
        .map_err(|error| Failure::from_error(Exit::Usage, &error, error.hint()))
}

/// `--build-arg BUILDKIT_DOCKERFILE_CHECK=skip=…` counts in place of the Dockerfile's own line.
fn checks(options: &PlanOptions) -> Result<Option<Checks>, Failure> {
    const NAME: &str = "BUILDKIT_DOCKERFILE_CHECK";
    let Some(text) = options.build_args.get(NAME) else { return Ok(None) };
    Checks::parse(text).map(Some).map_err(|error| {
        let diagnostic = Diagnostic::of(&error).prefixed(&format!("`--build-arg {NAME}`: "));
        Failure::new(Exit::Usage, diagnostic.hinted(error.hint()))
    })
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `--build-arg SOURCE_DATE_EPOCH=…`, or the variable of that name.
fn source_date_epoch(
    session: &Session<'_>,
    build_args: &BTreeMap<String, String>,
) -> Result<Option<Timestamp>, Failure> {
    let argument = build_args.get("SOURCE_DATE_EPOCH");
    let time = match argument {
        Some(text) => Some(text.parse().map(Timestamp::from_seconds).map_err(|_| text.clone())),
        None => session.environment.source_date_epoch(),
    };
    time.transpose().map_err(|text| {
        let title = format!("SOURCE_DATE_EPOCH is `{text}`, which is not a number of seconds");
        Failure::new(Exit::Usage, Diagnostic::new(title))
    })
}

type Contexts = (BTreeMap<String, NamedContext>, BTreeMap<String, Arc<BuildContext>>);

/// `--build-context name=dir` and `name=docker-image://ref`.
fn named_contexts(arguments: &[String]) -> Result<Contexts, Failure> {
    let usage = |title: String, hint: &str| {
        Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint.to_owned())))
    };
    let (mut named, mut files) = Contexts::default();
    for argument in arguments {
        let Some((name, place)) = argument.split_once('=') else {
            let hint = "write it as `name=directory` or `name=docker-image://reference`";
            return Err(usage(format!("`--build-context {argument}` has no `=`"), hint));
        };
        let name = name.to_ascii_lowercase();
        if let Some(reference) = place.strip_prefix("docker-image://") {
            let reference = reference
                .parse()
                .map_err(|error| Failure::from_error(Exit::Usage, &error, None))?;
            named.insert(name, NamedContext::Image(reference));
        } else if let Some((scheme, _)) = place.split_once("://") {
            let hint = "fetch it first and name the directory";
            return Err(usage(format!("`--build-context` cannot use `{scheme}://` yet"), hint));
        } else {
            files.insert(name.clone(), Arc::new(context(Path::new(place), None)?));
            named.insert(name, NamedContext::Files);
        }
    }
    Ok((named, files))
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
