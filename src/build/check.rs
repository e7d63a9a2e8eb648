//! `--check`: the Dockerfile and what it copies are looked at, and nothing is built or run.
//!
//! Rules A163 and A164.

use crate::build::BuildError;
use crate::build::BuildErrorKind;
use crate::build::Request;
use crate::context::BuildContext;
use crate::context::glob::Glob;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::Warning;
use crate::layer::Tree as _;
use crate::oci::ImageConfig;
use crate::oci::ImagePath;
use crate::plan::BaseImage;
use crate::plan::Bases;
use crate::plan::Checked;
use crate::plan::ContextCopy;
use crate::plan::Plan;
use crate::plan::PlanErrorKind;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Remarks, in the order of the lines.
    pub warnings: Vec<Warning>,
    /// What keeps the Dockerfile from being built, in the order of the lines.
    pub errors: Vec<BuildError>,
    /// Whether the Dockerfile says that a remark is as bad as an error.
    pub fatal: bool,
    /// Images whose configs nobody knew. What depends on them was not checked.
    pub unknown: Vec<BaseImage>,
    /// Names in `# check=` lines that are no checks, with what was perhaps meant.
    pub unknown_rules: Vec<(String, Option<&'static str>)>,
}

impl Report {
    /// Whether there is something that a script should stop for.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty() || (self.fatal && !self.warnings.is_empty())
    }
}

/// Checks what `request` would build. `find` gives the configs of images, as far as they are known.
pub fn check(request: &Request, find: &dyn Fn(&BaseImage) -> Option<ImageConfig>) -> Report {
    let parsed = crate::dockerfile::parse_with(request.dockerfile.clone(), request.checks.as_ref());
    let dockerfile = match parsed {
        Ok(dockerfile) => dockerfile,
        Err(rejected) => {
            let errors = rejected.errors.into_iter().map(BuildError::from).collect();
            return Report { warnings: rejected.warnings, errors, ..Report::default() };
        }
    };
    let checked = with_known_bases(&dockerfile, request, find);
    let ignored = ignored(&checked.copies, &request.context);
    let mut warnings = checked.warnings;
    warnings.extend(ignored.into_iter().filter(|it| dockerfile.checks.wants(it.rule, it.span)));
    warnings.sort_by_key(|warning| warning.span.start);
    let unknown_rules = dockerfile.checks.unknown();
    Report {
        warnings,
        errors: checked.errors.into_iter().map(BuildError::from).collect(),
        fatal: dockerfile.checks.fatal,
        unknown: checked.unknown,
        unknown_rules: unknown_rules.into_iter().map(|(name, it)| (name.to_owned(), it)).collect(),
    }
}

/// Repeats the check while there are bases to be found: their triggers may need further ones.
fn with_known_bases(
    dockerfile: &Dockerfile,
    request: &Request,
    find: &dyn Fn(&BaseImage) -> Option<ImageConfig>,
) -> Checked {
    let mut bases = Bases::new();
    loop {
        let checked = crate::plan::check(dockerfile, &request.options, &bases);
        let found: Bases =
            checked.unknown.iter().filter_map(|base| Some((base.clone(), find(base)?))).collect();
        if found.is_empty() {
            return checked;
        }
        bases.extend(found);
    }
}

/// What a build says of sources that the ignore file excludes (rule A163).
///
/// # Errors
///
/// With `# check=error=true`, each of them.
pub(crate) fn ignored_in(
    plan: &Plan,
    dockerfile: &Dockerfile,
    context: &BuildContext,
) -> Result<Vec<Warning>, Vec<BuildError>> {
    let copies: Vec<ContextCopy> = plan.context_copies();
    let mut warnings = ignored(&copies, context);
    warnings.retain(|it| dockerfile.checks.wants(it.rule, it.span));
    if warnings.is_empty() || !dockerfile.checks.fatal {
        return Ok(warnings);
    }
    let violation = |it: Warning| {
        let kind = PlanErrorKind::Violation { rule: it.rule, message: it.message };
        BuildErrorKind::from(kind).at(it.span)
    };
    Err(warnings.into_iter().map(violation).collect())
}

/// `CopyIgnoredFile`
fn ignored(copies: &[ContextCopy], context: &BuildContext) -> Vec<Warning> {
    let ignored = copies.iter().filter(|copy| is_ignored(&copy.source, context));
    let warning = |copy: &ContextCopy| Warning {
        rule: "CopyIgnoredFile",
        message: format!(
            "Attempting to {} file {:?} that is excluded by .dockerignore",
            if copy.is_add { "Add" } else { "Copy" },
            copy.source,
        ),
        span: copy.span,
    };
    ignored.map(warning).collect()
}

/// Whether the ignore file leaves nothing of `source`.
fn is_ignored(source: &str, context: &BuildContext) -> bool {
    let path = ImagePath::new(source);
    if path.is_root() || context.ignored_by(&path).is_none() {
        return false;
    }
    if !source.contains(['*', '?', '[']) {
        return matches!(context.lookup(&path), Ok(None));
    }
    // The pattern itself is excluded, as text; a name that it finds may have been taken back.
    let (Some(directory), Some(name)) = (path.parent(), path.components().next_back()) else {
        return false;
    };
    let Ok(glob) = Glob::new(&String::from_utf8_lossy(name)) else { return false };
    let names = context.read_dir(&directory).unwrap_or_default();
    !names.iter().any(|name| glob.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a163_a_source_is_ignored_if_nothing_is_left_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["a.txt", "b.txt", "keep.md", "secret.md"] {
            std::fs::write(directory.path().join(name), "").expect("a file");
        }
        std::fs::create_dir(directory.path().join("d")).expect("a directory");
        std::fs::write(directory.path().join("d/kept"), "").expect("a file");
        let ignore = "*.txt\n*.md\n!keep.md\nd\n!d/kept\nnowhere\n";
        let ignore = Some((".dockerignore".to_owned(), ignore.to_owned()));
        let context = BuildContext::open(directory.path(), ignore).expect("a context");
        let check = |source: &str, expected| {
            assert_eq!(is_ignored(source, &context), expected, "{source}");
        };
        check("a.txt", true);
        check("/b.txt", true);
        check("*.txt", true);
        check("*.md", false);
        check("keep.md", false);
        check("secret.md", true);
        check("d", false);
        check("nowhere", true);
        check("elsewhere", false);
        check(".", false);
    }
}
