//! `--check` and `--call`: tells about a Dockerfile, and builds nothing.
//!
//! The answer goes to standard output, whatever its form; what could not be looked at, to standard
//! error. Remarks alone leave the exit code at 0. Mistakes, and remarks under `# check=error=true`,
//! make it that of a wrong Dockerfile.

mod bases;
mod json;
mod outline;
mod sarif;
mod targets;
mod text;

use std::io::Write as _;

use crate::build;
use crate::build::BuildError;
use crate::build::Report;
use crate::build::Request;
use crate::cli::args::CallArguments;
use crate::cli::args::CallFormat;
use crate::cli::args::CallMethod;
use crate::cli::args::ProgressMode;
use crate::cli::call::bases::KnownBases;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::dockerfile::Dockerfile;
use crate::plan;
use crate::plan::Bases;

/// What is asked for, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    method: CallMethod,
    format: CallFormat,
}

/// What the arguments ask for; `None` is an image.
pub(crate) fn wanted(arguments: &CallArguments) -> Result<Option<Wanted>, Failure> {
    let usage = |title: &str, hint: &str| {
        let diagnostic = Diagnostic::new(title).hinted(Some(hint.to_owned()));
        Failure::new(Exit::Usage, diagnostic)
    };
    let call = arguments.call;
    let method = match call {
        _ if arguments.check => CallMethod::Check,
        Some(call) => call.method,
        None => CallMethod::Build,
    };
    let format = arguments.format.or(call.and_then(|call| call.format));
    if method == CallMethod::Build {
        let hint = "add `--check`, `--call=outline` or `--call=targets`; an image has its form \
                    from `--output`";
        return match format {
            Some(_) => Err(usage("a build has no `--format`", hint)),
            None => Ok(None),
        };
    }
    let format = format.unwrap_or_default();
    if format == CallFormat::Sarif && method != CallMethod::Check {
        return Err(usage("only checks can be told as SARIF", "take text or json"));
    }
    Ok(Some(Wanted { method, format }))
}

/// Tells it.
pub(crate) fn run(session: &Session<'_>, request: &Request, wanted: Wanted) -> Result<(), Failure> {
    match wanted.method {
        CallMethod::Build => Ok(()),
        CallMethod::Check => check(session, request, wanted.format),
        CallMethod::Outline => {
            let outline = plan::outline(&parse(request)?, &request.options, &Bases::new())
                .map_err(|errors| rejected(errors, request))?;
            say(&if wanted.format == CallFormat::Json {
                json::outline(&outline, &request.dockerfile)
            } else {
                outline::table(&outline)
            });
            Ok(())
        }
        CallMethod::Targets => {
            let targets = plan::targets(&parse(request)?, &request.options)
                .map_err(|errors| rejected(errors, request))?;
            say(&if wanted.format == CallFormat::Json {
                json::targets(&targets, &request.dockerfile)
            } else {
                targets::table(&targets)
            });
            Ok(())
        }
    }
}

fn parse(request: &Request) -> Result<Dockerfile, Failure> {
    crate::dockerfile::parse(request.dockerfile.clone()).map_err(|errors| rejected(errors, request))
}

fn rejected<E>(errors: Vec<E>, request: &Request) -> Failure
where
    BuildError: From<E>,
{
    let errors: Vec<BuildError> = errors.into_iter().map(BuildError::from).collect();
    failure::build(&errors, &request.dockerfile)
}

fn check(session: &Session<'_>, request: &Request, format: CallFormat) -> Result<(), Failure> {
    let bases = KnownBases::new(session, request.pull)?;
    let report = build::check(request, &|base| bases.find(base));
    bases.finish()?;
    say(&match format {
        CallFormat::Text => text::report(&report, &request.dockerfile, session.environment.colour),
        CallFormat::Json => json::report(&report, &request.dockerfile),
        CallFormat::Sarif => sarif::report(&report, &request.dockerfile),
    });
    if session.global.progress != ProgressMode::Quiet {
        say_what_is_missing(&report);
    }
    if report.failed() {
        // The report has said all there is to say.
        return Err(Failure { exit: Exit::Usage, diagnostics: Vec::new() });
    }
    Ok(())
}

fn say_what_is_missing(report: &Report) {
    let mut notes = Vec::new();
    for (name, nearest) in &report.unknown_rules {
        let suggestion = nearest.map(|it| format!(" (did you mean {it}?)")).unwrap_or_default();
        notes.push(format!("note: `# check=` names no check: {name}{suggestion}\n"));
    }
    let mut images: Vec<String> =
        report.unknown.iter().map(|base| base.reference.familiar()).collect();
    images.dedup();
    if !images.is_empty() {
        notes.push(format!(
            "note: not in the store: {}; what depends on their variables, platforms and ONBUILD \
             triggers was not checked, and `--pull` asks the registry\n",
            images.join(", "),
        ));
    }
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().lock().write_all(notes.concat().as_bytes());
}

fn say(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Call;

    #[test]
    fn an_image_has_no_format_and_a_list_is_no_sarif() {
        let check = |call: Option<CallMethod>, check: bool, format, expected: Option<bool>| {
            let call = call.map(|method| Call { method, format });
            let arguments = CallArguments { check, call, format };
            let found = wanted(&arguments).ok().map(|wanted| wanted.is_some());
            assert_eq!(found, expected, "{arguments:?}");
        };
        check(None, false, None, Some(false));
        check(None, false, Some(CallFormat::Json), None);
        check(None, true, Some(CallFormat::Sarif), Some(true));
        check(Some(CallMethod::Build), false, None, Some(false));
        check(Some(CallMethod::Targets), false, Some(CallFormat::Json), Some(true));
        check(Some(CallMethod::Targets), false, Some(CallFormat::Sarif), None);
    }
}
