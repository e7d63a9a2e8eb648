//! The check of a whole Dockerfile: all remarks and all errors, with nothing built.
//!
//! Unlike a plan it takes in every stage, unless a target is asked for, and it goes on behind an
//! error. Base images need not be known: what depends on them is then not remarked upon, and
//! [`Checked::unknown`] names them.
//!
//! Rules A163 and A164.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Dockerfile, Span, Warning};
use crate::oci::ImageConfig;
use crate::plan::graph::{Graph, Origin};
use crate::plan::stage::StageState;
use crate::plan::{
    BaseImage, Bases, CopyFrom, CopyStep, Plan, PlanError, PlanOptions, Source, StageId, Step,
    StepKind, lint, lint_from, reach, stage,
};

/// What a check finds.
#[derive(Debug, Default)]
pub struct Checked {
    /// The remarks that the Dockerfile wants to hear, in the order of its lines.
    pub warnings: Vec<Warning>,
    /// What keeps it from being built, in the order of its lines.
    pub errors: Vec<PlanError>,
    /// Images whose configs were not known.
    pub unknown: Vec<BaseImage>,
    /// What is copied from the build context. Whether it is there, nobody has looked.
    pub copies: Vec<ContextCopy>,
}

/// One source of a `COPY` or an `ADD` in the build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextCopy {
    /// The instruction.
    pub span: Span,
    /// Whether it is an `ADD`.
    pub is_add: bool,
    /// The source, expanded; perhaps a pattern.
    pub source: String,
}

/// A stage as far as it can be told.
#[derive(Debug)]
pub(crate) struct Surveyed {
    /// Its number in the Dockerfile.
    pub(crate) index: usize,
    /// The variables after its last instruction.
    pub(crate) state: StageState,
    /// What it does.
    steps: Vec<Step>,
}

/// Stages, one after the other, with whatever is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) stages: Vec<Surveyed>,
    warnings: Vec<Warning>,
    pub(crate) errors: Vec<PlanError>,
    unknown: Vec<BaseImage>,
}

/// Checks the target and what it needs, or every stage if no target is asked for.
pub fn check(dockerfile: &Dockerfile, options: &PlanOptions, bases: &Bases) -> Checked {
    let (graph, mut errors) = Graph::examine(dockerfile, options);
    let mut warnings = lint_from::check(&graph);
    let mut survey = Survey::default();
    if errors.is_empty() {
        let everything = options.target.as_ref().is_none_or(String::is_empty);
        let roots = if everything { (0..graph.nodes.len()).collect() } else { vec![graph.target] };
        survey = self::survey(&graph, bases, roots);
    } else {
        errors = with_others(&graph, bases, errors);
    }
    warnings.append(&mut survey.warnings);
    errors.append(&mut survey.errors);
    errors.sort_by_key(|error| error.span);
    errors.dedup();
    Checked {
        warnings: lint::sorted(dockerfile, warnings),
        errors,
        unknown: survey.unknown,
        copies: survey.stages.iter().flat_map(|it| &it.steps).flat_map(context_copies).collect(),
    }
}

/// Goes through `roots` and all that they need.
pub(crate) fn survey(graph: &Graph<'_>, known: &Bases, roots: Vec<usize>) -> Survey {
    let mut bases = known.clone();
    let (mut reached, mut errors) = reach::walk_from(graph, known, roots.clone());
    let unknown: BTreeSet<BaseImage> =
        std::mem::take(&mut reached.missing).into_iter().map(|it| it.base).collect();
    if !unknown.is_empty() {
        let nothing = |base: &BaseImage| ImageConfig {
            platform: base.platform.clone(),
            ..ImageConfig::default()
        };
        bases.extend(unknown.iter().map(|base| (base.clone(), nothing(base))));
        (reached, errors) = reach::walk_from(graph, &bases, roots);
    }
    let mut survey = Survey { errors, unknown: unknown.into_iter().collect(), ..Survey::default() };
    let ids = reached.stages.keys().enumerate().map(|(id, index)| (*index, StageId(id))).collect();
    let mut states: BTreeMap<usize, StageState> = BTreeMap::new();
    for (index, instructions) in &reached.stages {
        let Some(mut start) = stage::start(graph, *index, &bases, &states) else { continue };
        if let Origin::Image(base) = &graph.nodes[*index].base {
            start.base_is_unknown = survey.unknown.contains(base);
        }
        let outcome = stage::plan_stage(graph, *index, &ids, start, instructions);
        survey.warnings.extend(outcome.warnings);
        survey.errors.extend(outcome.errors);
        if graph.budget.check().is_err() {
            break;
        }
        states.insert(*index, outcome.state.clone());
        let (index, state) = (*index, outcome.state);
        survey.stages.push(Surveyed { index, state, steps: outcome.stage.steps });
    }
    survey
}

/// What is wrong with names of stages and images, and whatever else is wrong all the same.
pub(crate) fn with_others(
    graph: &Graph<'_>,
    known: &Bases,
    mut errors: Vec<PlanError>,
) -> Vec<PlanError> {
    if graph.target < graph.nodes.len() {
        errors.extend(sure_errors(graph, known));
    }
    errors.sort_by_key(|error| error.span);
    // A second error in one place is but a consequence.
    errors.dedup_by_key(|error| error.span);
    errors
}

/// What is wrong with the target whatever the images are that are not known yet: told before
/// anybody waits for a registry.
pub(crate) fn sure_errors(graph: &Graph<'_>, known: &Bases) -> Vec<PlanError> {
    let mut errors = survey(graph, known, vec![graph.target]).errors;
    let source = &graph.dockerfile.source;
    errors.retain(|it| !it.kind.may_depend_on_base() && !source.slice(it.span).contains('$'));
    errors
}

impl Plan {
    /// What the steps copy from the build context.
    pub fn context_copies(&self) -> Vec<ContextCopy> {
        self.stages.iter().flat_map(|stage| &stage.steps).flat_map(context_copies).collect()
    }
}

fn context_copies(step: &Step) -> Vec<ContextCopy> {
    let (copy, is_add): (&CopyStep, bool) = match &step.kind {
        StepKind::Copy(copy) => (copy, false),
        StepKind::Add(add) => (&add.copy, true),
        StepKind::Run(_) | StepKind::Workdir(_) => return Vec::new(),
    };
    if copy.from != CopyFrom::Context {
        return Vec::new();
    }
    let source = |it: &Source| match it {
        Source::Path(path) => Some(ContextCopy { span: step.span, is_add, source: path.clone() }),
        _ => None,
    };
    copy.sources.iter().filter_map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Setup;

    /// `line rule` for each remark.
    #[track_caller]
    fn check(setup: &Setup, text: &str, expected: &[&str]) -> Checked {
        let source = crate::dockerfile::Source::new("Dockerfile", text);
        let dockerfile = crate::dockerfile::parse(source.clone()).expect(text);
        let checked = super::check(&dockerfile, &setup.options, &Bases::new());
        let line = |it: &Warning| format!("{} {}", source.line(it.span.start), it.rule);
        let found: Vec<_> = checked.warnings.iter().map(line).collect();
        assert_eq!(found, expected, "{text}");
        checked
    }

    #[test]
    fn a163_every_stage_is_checked_unless_there_is_a_target() {
        let text = "FROM scratch AS a\nCOPY $foo .\nFROM scratch AS b\nCOPY $bar .\n";
        check(&Setup::default(), text, &["2 UndefinedVar", "4 UndefinedVar"]);
        check(&Setup::default().target("a"), text, &["2 UndefinedVar"]);
    }

    #[test]
    fn a163_variables_of_an_unknown_base_are_not_called_undefined() {
        let text = "FROM golang\nARG NAME\nWORKDIR $GOPATH/src\nCOPY $NAMES $PAHT $goal /x/\n";
        let checked =
            check(&Setup::default(), text, &["4 UndefinedVar", "4 UndefinedVar", "4 UndefinedVar"]);
        assert_eq!(checked.unknown.len(), 1);
        let text = "FROM golang AS a\nFROM a\nWORKDIR $GOPATH/src\n";
        check(&Setup::default(), text, &[]);
        check(&Setup::default(), "FROM scratch\nUSER $APP_UID\n", &["2 UndefinedVar"]);
    }

    #[test]
    fn a163_errors_do_not_hide_remarks() {
        let text = "FROM --platform=$BULIDPLATFORM scratch\nFROM scratch\nEXPOSE x\n";
        let checked = check(&Setup::default(), text, &["1 UndefinedArgInFrom"]);
        let messages: Vec<_> = checked.errors.iter().map(ToString::to_string).collect();
        let platform =
            "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)";
        assert_eq!(messages, [platform, "invalid containerPort: x"]);
        let text = "FROM scratch AS a\nEXPOSE x\nFROM scratch\nEXPOSE y 80/TCP\nSTOPSIGNAL Z\n";
        let checked = check(&Setup::default(), text, &[]);
        assert_eq!(checked.errors.len(), 3);
    }

    #[test]
    fn a163_sources_in_the_context_are_told() {
        let text = "FROM scratch AS a\nCOPY x *.y /d/\nADD z /\nFROM a\nCOPY --from=a x /\n";
        let copies = check(&Setup::default(), text, &[]).copies;
        let found: Vec<_> = copies.iter().map(|it| (it.is_add, it.source.as_str())).collect();
        assert_eq!(found, [(false, "x"), (false, "*.y"), (true, "z")]);
    }
}
