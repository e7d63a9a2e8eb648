//! The plan: everything about a build that can be decided without running anything.
//!
//! [`plan`] takes the parsed Dockerfile, the options, and the configs of the base images, and gives
//! the graph of stages and steps together with every byte of the final image's config except the
//! layers' digests. What it needs to know of base images is asked for by [`missing_bases`] and
//! handed in; the plan never calls back. Nothing here does I/O or reads a clock.
//!
//! The story: `graph` finds out what each stage starts from and what its `--from`s mean; `reach`
//! walks from the target, takes in ONBUILD triggers, and names the images whose configs are missing;
//! `stage` then goes through the instructions of each stage that is needed, one after the other,
//! with the variables in force (`scope`), and folds them into a config (`config`), a history
//! (`history`) and steps (`run`, `copy`).
//!
//! What the config and the history say is BuildKit's, to the letter. Rules A019 to A131 of the
//! checklist that tests cite.

mod budget;
mod builtin;
mod check;
mod chmod;
mod config;
mod copy;
pub(crate) mod csv;
mod error;
mod expose;
mod git;
mod go_format;
mod graph;
mod history;
mod lint;
mod lint_from;
mod mount;
mod onbuild;
mod outline;
mod reach;
mod remote;
mod run;
mod run_mount;
mod run_step;
mod scope;
mod signal;
mod stage;
mod step;
mod targets;
#[cfg(test)]
mod testing;
mod unused;

use std::collections::BTreeMap;

use crate::dockerfile::{Dockerfile, Instruction};
use crate::plan::graph::Graph;
use crate::plan::stage::{StageState, finish_target};

pub use check::{Checked, ContextCopy, check};
pub use error::{PlanError, PlanErrorKind};
pub use expose::PortError;
pub use git::{GitSource, GitUrlError};
pub use mount::{MountError, parse_size};
pub use outline::{Outline, OutlineArg, OutlineMount, outline};
pub use remote::{ChecksumError, Remote, UrlSource};
pub use run_step::*;
pub use step::*;
pub use targets::{Target, targets};
pub use unused::UnusedArg;

/// The images whose configs the build of the target needs and that are not in `known` yet.
///
/// Only stages that the target needs count (rule A057). The ONBUILD triggers of a base may need
/// further images (rule A098), so ask again with the answers until nothing is missing.
///
/// # Errors
///
/// Everything that is wrong with stages, targets and references, each at its line; and whatever is
/// wrong with the target's instructions that no base image can change.
pub fn missing_bases(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    known: &Bases,
) -> Result<Vec<MissingBase>, Vec<PlanError>> {
    let (graph, errors) = Graph::examine(dockerfile, options);
    if !errors.is_empty() {
        return Err(check::with_others(&graph, known, errors));
    }
    let missing = reach::walk(&graph, known)?.missing;
    if missing.is_empty() {
        return Ok(missing);
    }
    let errors = check::sure_errors(&graph, known);
    if errors.is_empty() { Ok(missing) } else { Err(errors) }
}

/// Whether the build of the target runs a command, as far as the Dockerfile alone can tell: the
/// configs of base images may add to it (rule A096), or hold mistakes that end the build before.
pub fn runs_command(dockerfile: &Dockerfile, options: &PlanOptions) -> bool {
    let Ok(graph) = Graph::new(dockerfile, options) else { return false };
    let bases = Bases::new();
    let Ok(reached) = reach::walk(&graph, &bases) else { return false };
    let mut instructions = reached.stages.values().flatten().map(|planned| &planned.instruction);
    instructions.any(|instruction| matches!(**instruction, Instruction::Run(_)))
}

/// Plans the build of the target.
///
/// # Errors
///
/// Everything that is wrong, each at its line; and [`PlanErrorKind::MissingBase`] for an image that
/// [`missing_bases`] would have named.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    bases: &Bases,
) -> Result<Plan, Vec<PlanError>> {
    let graph = Graph::new(dockerfile, options)?;
    let reached = reach::walk(&graph, bases)?;
    if !reached.missing.is_empty() {
        let missing =
            |it: MissingBase| PlanErrorKind::MissingBase(it.base.reference.to_string()).at(it.span);
        return Err(reached.missing.into_iter().map(missing).collect());
    }

    let ids = reached.stages.keys().enumerate().map(|(id, index)| (*index, StageId(id))).collect();
    let mut states: BTreeMap<usize, StageState> = BTreeMap::new();
    let mut plan = Plan {
        stages: Vec::new(),
        warnings: lint_from::check(&graph),
        unused_args: unused::unused_args(&graph, &reached),
    };
    let mut errors = Vec::new();
    for (index, instructions) in &reached.stages {
        // Without a state, the stage that it starts from has errors of its own.
        let Some(start) = stage::start(&graph, *index, bases, &states) else { continue };
        let planned = stage::plan_stage(&graph, *index, &ids, start, instructions);
        plan.warnings.extend(planned.warnings);
        if planned.errors.is_empty() {
            plan.stages.push(planned.stage);
            states.insert(*index, planned.state);
        }
        errors.extend(planned.errors);
        if graph.budget.check().is_err() {
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if let Some(target) = plan.stages.last_mut() {
        finish_target(&mut target.config, options);
    }
    plan.warnings = lint::wanted(dockerfile, plan.warnings)?;
    Ok(plan)
}
