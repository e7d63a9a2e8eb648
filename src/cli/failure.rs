//! Which error is which failure: the exit code, and what is drawn.

use crate::build::BuildError;
use crate::build::BuildErrorKind;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::dockerfile::Source;
use crate::fetch::FetchError;
use crate::fetch::GitError;
use crate::image::ImageError;
use crate::oci::Reference;
use crate::registry::CredentialError;
use crate::registry::RegistryError;
use crate::store::StoreError;
use crate::transfer::TransferError;

/// More than this nobody reads; the rest is counted.
const MOST_ERRORS: usize = 50;

/// A build's errors, under the lines of its Dockerfile.
pub(crate) fn build(errors: &[BuildError], source: &Source) -> Failure {
    let exit = errors.first().map_or(Exit::Bug, |error| exit_of(&error.kind));
    let mut diagnostics: Vec<Diagnostic> =
        errors.iter().take(MOST_ERRORS).map(|error| diagnostic(error, source)).collect();
    if let Some(more) = errors.len().checked_sub(MOST_ERRORS).filter(|more| *more > 0) {
        diagnostics.push(Diagnostic::new(format!("{more} more mistakes are not shown")));
    }
    Failure { exit, diagnostics }
}

fn diagnostic(error: &BuildError, source: &Source) -> Diagnostic {
    let kind = &error.kind;
    let mut diagnostic = Diagnostic::of(kind).prefixed(&prefix(error, source));
    if let Some((step, steps)) = error.step {
        diagnostic = diagnostic.prefixed(&format!("step {step} of {steps} failed: "));
    }
    if let Some(span) = error.span {
        diagnostic = diagnostic.at(source, span);
    }
    match kind {
        BuildErrorKind::Exit { output, .. } => {
            for line in output.lines() {
                diagnostic = diagnostic.note("output", line);
            }
        }
        BuildErrorKind::NoSandbox { reason, .. } => diagnostic = diagnostic.note("cause", reason),
        _ => {}
    }
    diagnostic.hinted(kind.hint())
}

/// What BuildKit puts before a mistake in the text.
fn prefix(error: &BuildError, source: &Source) -> String {
    let BuildErrorKind::Parse(error) = &error.kind else { return String::new() };
    format!("dockerfile parse error on line {}: ", source.line(error.instruction.start))
}

/// A build's error in one line, with what BuildKit puts before it.
pub(crate) fn message(error: &BuildError, source: &Source) -> String {
    format!("{}{error}", prefix(error, source))
}

/// An error of a build that belongs to no Dockerfile.
pub(crate) fn build_kind(kind: &BuildErrorKind) -> Failure {
    let mut diagnostic = Diagnostic::of(kind);
    if let BuildErrorKind::NoSandbox { reason, .. } = kind {
        diagnostic = diagnostic.note("cause", reason);
    }
    Failure::new(exit_of(kind), diagnostic.hinted(kind.hint()))
}

fn exit_of(kind: &BuildErrorKind) -> Exit {
    match kind {
        BuildErrorKind::Parse(_)
        | BuildErrorKind::Plan(_)
        | BuildErrorKind::Copy(_)
        | BuildErrorKind::Context(_)
        | BuildErrorKind::MissingSecret { .. }
        | BuildErrorKind::BinarySecret { .. }
        | BuildErrorKind::MissingAgent { .. } => Exit::Usage,
        BuildErrorKind::Exit { .. } | BuildErrorKind::User(_) => Exit::StepFailed,
        BuildErrorKind::Transfer(error) => transfer_exit(error),
        BuildErrorKind::Fetch(error) => fetch_exit(error),
        BuildErrorKind::LikeStage(it) => transfer_exit(&it.error),
        BuildErrorKind::Interrupted => Exit::Interrupted,
        BuildErrorKind::Sandbox(_)
        | BuildErrorKind::NotPrepared
        | BuildErrorKind::NoSandbox { .. }
        | BuildErrorKind::Scratch { .. }
        | BuildErrorKind::Tree(_)
        | BuildErrorKind::Layer(_)
        | BuildErrorKind::Snapshot(_)
        | BuildErrorKind::Store(_)
        | BuildErrorKind::Image(_) => Exit::Machine,
    }
}

/// A failure of a transfer: the registry's, or the store's at this end.
pub(crate) fn transfer(error: &TransferError) -> Failure {
    Failure::from_error(transfer_exit(error), error, error.hint())
}

/// A failure to fetch something that is in no registry.
pub(crate) fn fetch(error: &FetchError) -> Failure {
    Failure::from_error(fetch_exit(error), error, error.hint())
}

fn fetch_exit(error: &FetchError) -> Exit {
    match error {
        FetchError::BadUrl { .. } => Exit::Usage,
        FetchError::Git(GitError::Interrupted) => Exit::Interrupted,
        FetchError::Store(_)
        | FetchError::Git(
            GitError::NoGit { .. }
            | GitError::Run { .. }
            | GitError::Read { .. }
            | GitError::Store(_),
        ) => Exit::Machine,
        FetchError::Status { .. }
        | FetchError::Mismatch { .. }
        | FetchError::Http { .. }
        | FetchError::Encoding { .. }
        | FetchError::Git(_) => Exit::Registry,
    }
}

fn transfer_exit(error: &TransferError) -> Exit {
    if matches!(error, TransferError::Store(_)) { Exit::Machine } else { Exit::Registry }
}

/// A registry's refusal.
pub(crate) fn registry(error: &RegistryError) -> Failure {
    Failure::from_error(Exit::Registry, error, error.hint())
}

/// A registry's refusal to remove something.
pub(crate) fn removal(error: &RegistryError, reference: &Reference) -> Failure {
    let by_tag = reference.digest().is_none() && matches!(error, RegistryError::Rejected { .. });
    let advice = "this registry removes by digest only, all tags of it at once: `coracle manifest` \
                  prints what a tag means, and `coracle rm NAME@sha256:…` removes it";
    let hint = if by_tag { Some(advice.to_owned()) } else { error.hint() };
    Failure::from_error(Exit::Registry, error, hint)
}

/// Credentials that could not be kept, or forgotten.
pub(crate) fn credential(error: &CredentialError) -> Failure {
    Failure::from_error(Exit::Machine, error, error.hint())
}

/// A failure of the store.
pub(crate) fn store(error: &StoreError) -> Failure {
    Failure::from_error(Exit::Machine, error, error.hint())
}

/// An image that cannot be read or written.
pub(crate) fn image(error: &ImageError) -> Failure {
    Failure::from_error(Exit::Machine, error, error.hint())
}
