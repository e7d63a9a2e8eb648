//! What build arguments say to the builder itself, and not to the Dockerfile.
//!
//! `plan` knows which there are, and reads the one that is about caches.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args>.

use std::collections::BTreeMap;

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::dockerfile::Checks;
use crate::dockerfile::ParseErrorKind;
use crate::dockerfile::check_frontend;
use crate::oci::Timestamp;

type BuildArgs = BTreeMap<String, String>;

/// Checks `BUILDKIT_SYNTAX`, which counts in place of the Dockerfile's `# syntax=`. One frontend is
/// built in, under several names.
pub(crate) fn check_syntax(build_args: &BuildArgs) -> Result<(), Failure> {
    const NAME: &str = "BUILDKIT_SYNTAX";
    let Some(frontend) = given(build_args, NAME) else { return Ok(()) };
    if frontend == "dockerfile.v0" {
        return Ok(());
    }
    check_frontend(frontend).map_err(|_| {
        let title = format!("`--build-arg {NAME}={frontend}`: unsupported frontend");
        let hint = "only Dockerfiles can be built: leave the argument out";
        Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint.to_owned())))
    })
}

/// `BUILDKIT_DOCKERFILE_CHECK`, which counts in place of the Dockerfile's `# check=` (rule A164).
pub(crate) fn checks(build_args: &BuildArgs) -> Result<Option<Checks>, Failure> {
    const NAME: &str = "BUILDKIT_DOCKERFILE_CHECK";
    let Some(text) = build_args.get(NAME) else { return Ok(None) };
    Checks::parse(text).map(Some).map_err(|error: ParseErrorKind| {
        let diagnostic = Diagnostic::of(&error).prefixed(&format!("`--build-arg {NAME}`: "));
        Failure::new(Exit::Usage, diagnostic.hinted(error.hint()))
    })
}

/// `BUILDKIT_SANDBOX_HOSTNAME`: what a command finds as its host name.
pub(crate) fn hostname(build_args: &BuildArgs) -> Option<String> {
    given(build_args, "BUILDKIT_SANDBOX_HOSTNAME").cloned()
}

/// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`: whether a build context that is a repository has its `.git`.
pub(crate) fn keep_git_dir(build_args: &BuildArgs) -> Result<Option<bool>, Failure> {
    const NAME: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
    let Some(text) = given(build_args, NAME) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(Some(true)),
        "0" | "f" | "false" => Ok(Some(false)),
        _ => {
            let title = format!("`--build-arg {NAME}={text}` is neither true nor false");
            Err(Failure::new(Exit::Usage, Diagnostic::new(title)))
        }
    }
}

/// `SOURCE_DATE_EPOCH`, or the variable of that name.
pub(crate) fn source_date_epoch(
    build_args: &BuildArgs,
    environment: &Environment,
) -> Result<Option<Timestamp>, Failure> {
    let time = match build_args.get("SOURCE_DATE_EPOCH") {
        Some(text) => Some(text.parse().map(Timestamp::from_seconds).map_err(|_| text.clone())),
        None => environment.source_date_epoch(),
    };
    time.transpose().map_err(|text| {
        let title = format!("SOURCE_DATE_EPOCH is `{text}`, which is not a number of seconds");
        Failure::new(Exit::Usage, Diagnostic::new(title))
    })
}

/// An argument that is given, and not as nothing.
fn given<'a>(build_args: &'a BuildArgs, name: &str) -> Option<&'a String> {
    build_args.get(name).filter(|value| !value.is_empty())
}
