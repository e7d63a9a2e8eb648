//! One stage: its instructions, one after the other, folded into a config, a history and steps.
//!
//! The instructions themselves are in `config`, `run` and `copy`. Here is what they have in common:
//! where a stage starts, how words are expanded, where an error is, and how history grows.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

use crate::dockerfile::{ExpandError, Instruction, Span, Warning, Word};
use crate::oci::{ContainerConfig, ImageConfig, Platform};
use crate::plan::graph::{Graph, Origin};
use crate::plan::history::{self, MakesLayer, entry};
use crate::plan::reach::Planned;
use crate::plan::scope::{Declared, InOrder, Places, Scope, split_pair};
use crate::plan::{
    Bases, PlanError, PlanErrorKind, PlanOptions, PlannedStage, StageId, Step, StepKind, StepWords,
    config, lint,
};

/// What Linux programs are found in unless somebody says otherwise (rule A048).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an instruction finds and changes, and what a child stage inherits.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageState {
    /// The image as it is so far.
    pub(crate) config: ImageConfig,
    /// `ENV` and `ARG` in force.
    pub(crate) scope: Scope,
    /// Every `ARG` so far, with its value.
    pub(crate) args: Declared,
    /// Where the variables of the config's `Env` are.
    pub(crate) env: Places,
    /// How many entries of the history come from a base image.
    pub(crate) inherited_history: usize,
    /// Whether this Dockerfile has set a working directory.
    pub(crate) workdir_set: bool,
    /// Whether the stage has a `CMD` of its own (rule A084).
    pub(crate) has_own_cmd: bool,
    /// Whether the config of the image at the bottom is not known, but made up for a check.
    pub(crate) base_is_unknown: bool,
}

impl StageState {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        let config = &self.config.config;
        let history = self.config.history.iter();
        let history = history.map(|it| it.created_by.as_ref().map_or(0, String::len));
        let variables = self.scope.iter().map(|(name, value)| name.len() + value.len());
        let labels = config.labels.iter().map(|(name, value)| name.len() + value.len());
        let lists = [&config.env, &config.on_build].into_iter().flatten().map(String::len);
        let sets = config.exposed_ports.keys().chain(config.volumes.keys()).map(String::len);
        history.chain(variables).chain(labels).chain(lists).chain(sets).map(|it| it + 64).sum()
    }
}

/// The state in which a stage starts; `None` if its parent is not among `states`.
pub(crate) fn start(
    graph: &Graph<'_>,
    index: usize,
    bases: &Bases,
    states: &BTreeMap<usize, StageState>,
) -> Option<StageState> {
    let mut state = match &graph.nodes[index].base {
        Origin::Scratch | Origin::Files(_) => scratch(&graph.target_platform),
        Origin::Image(base) => of_image(bases.get(base)?),
        Origin::Stage(parent) => {
            let parent = states.get(parent)?;
            // The state of this stage, and the config in the plan.
            graph.budget.note(2 * parent.size());
            parent.clone()
        }
    };
    state.has_own_cmd = false;
    let container = &mut state.config.config;
    // Triggers have become instructions of this stage (rules A063, A097).
    container.on_build.clear();
    state.env = Places::of(&container.env);
    if !state.env.contains("PATH") {
        state.env.set(&mut container.env, "PATH", DEFAULT_PATH);
    }
    // On top of the parent's scope: an ARG that hid an ENV there does so no longer (rule A044).
    for variable in &container.env {
        let (name, value) = split_pair(variable);
        state.scope.set(name, value);
    }
    if !container.working_dir.is_empty() {
        container.working_dir = config::join_workdir("/", &container.working_dir);
    }
    Some(state)
}

/// `FROM scratch` (rule A061).
fn scratch(platform: &Platform) -> StageState {
    let config = ContainerConfig { working_dir: "/".to_owned(), ..ContainerConfig::default() };
    let config = ImageConfig { platform: platform.clone(), config, ..ImageConfig::default() };
    StageState { config, ..StageState::default() }
}

/// The config of an image, without what belongs to that image alone (rule A063).
fn of_image(base: &ImageConfig) -> StageState {
    let mut config = base.clone();
    config.created = None;
    config.rootfs.diff_ids.clear();
    StageState { inherited_history: config.history.len(), config, ..StageState::default() }
}

/// What the command line adds to the image that is built (rules A065, A092).
pub(crate) fn finish_target(config: &mut ImageConfig, options: &PlanOptions) {
    let labels = options.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    config.config.labels.extend(labels);
    if let Some(asked) = &options.platform {
        let asked = asked.normalised();
        let platform = &mut config.platform;
        let same = asked.os == platform.os && asked.architecture == platform.architecture;
        if asked.variant.is_some() || !same {
            platform.variant = asked.variant;
        }
        if asked.os_version.is_some() || !same {
            platform.os_version = asked.os_version;
        }
        if asked.os_features.is_some() {
            platform.os_features = asked.os_features;
        }
        (platform.os, platform.architecture) = (asked.os, asked.architecture);
    }
    config.platform = config.platform.normalised();
}

/// A planned stage, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The stage; incomplete if there are errors.
    pub(crate) stage: PlannedStage,
    /// For the stages that start from it.
    pub(crate) state: StageState,
    /// Remarks.
    pub(crate) warnings: Vec<Warning>,
    /// What is wrong.
    pub(crate) errors: Vec<PlanError>,
}

/// Goes through the instructions of a stage.
pub(crate) fn plan_stage(
    graph: &Graph<'_>,
    index: usize,
    ids: &BTreeMap<usize, StageId>,
    start: StageState,
    instructions: &[Planned<'_>],
) -> Outcome {
    let node = &graph.nodes[index];
    let mut planner = StagePlanner::new(graph, index, ids, start);
    planner.span = node.stage.from.span;
    planner.warnings.extend(lint::of_base(graph, node, &planner.state.config.platform));
    if let Origin::Files(context) = &node.base {
        planner.of_files(context);
    }
    let mut errors = Vec::new();
    for planned in instructions {
        (planner.span, planner.is_trigger) = (planned.span, planned.is_trigger);
        if let Err(error) = planner.instruction(&planned.instruction) {
            errors.push(PlanError { span: planner.error_place(error.span), ..error });
            // What follows would fail for want of the variable, and not for a reason of its own.
            if matches!(*planned.instruction, Instruction::Arg(_) | Instruction::Env(_)) {
                break;
            }
        }
        if graph.budget.check().is_err() {
            break;
        }
        planner.warn_of_undefined();
    }
    if let Err(kind) = graph.budget.check() {
        // Other errors are but consequences.
        errors = vec![kind.at(planner.span)];
    }
    let StagePlanner { state, steps, warnings, .. } = planner;
    let stage = PlannedStage {
        name: node.name.clone(),
        span: node.stage.from.span,
        base: node.base.to_stage_base(|index| id_of(ids, index)),
        steps,
        config: state.config.clone(),
        inherited_history: state.inherited_history,
    };
    Outcome { stage, state, warnings, errors }
}

/// The place of a stage in the plan.
pub(crate) fn id_of(ids: &BTreeMap<usize, StageId>, index: usize) -> StageId {
    *ids.get(&index).expect("`reach` finds every stage that another one needs")
}

/// Where the planning of a stage stands.
#[derive(Debug)]
pub(crate) struct StagePlanner<'a> {
    /// All stages.
    pub(crate) graph: &'a Graph<'a>,
    /// The number of this one.
    pub(crate) index: usize,
    /// The places of stages in the plan.
    pub(crate) ids: &'a BTreeMap<usize, StageId>,
    /// What the instructions so far have made.
    pub(crate) state: StageState,
    /// Remarks so far.
    pub(crate) warnings: Vec<Warning>,
    /// The instruction at hand.
    pub(crate) span: Span,
    is_trigger: bool,
    steps: Vec<Step>,
    undefined: RefCell<InOrder<Span>>,
}

impl<'a> StagePlanner<'a> {
    fn new(
        graph: &'a Graph<'a>,
        index: usize,
        ids: &'a BTreeMap<usize, StageId>,
        state: StageState,
    ) -> Self {
        Self {
            graph,
            index,
            ids,
            state,
            warnings: Vec::new(),
            span: Span::default(),
            is_trigger: false,
            steps: Vec::new(),
            undefined: RefCell::default(),
        }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), PlanError> {
        match instruction {
            Instruction::Add(it) => self.add(it)?,
            Instruction::Arg(it) => self.arg(it)?,
            Instruction::Cmd(it) => self.cmd(it),
            Instruction::Copy(it) => self.copy(it)?,
            Instruction::Entrypoint(it) => self.entrypoint(it),
            Instruction::Env(it) => self.env(it)?,
            Instruction::Expose(it) => self.expose(it)?,
            Instruction::Healthcheck(it) => self.healthcheck(it),
            Instruction::Label(it) => self.label(it)?,
            Instruction::Maintainer(it) => self.maintainer(it),
            Instruction::OnBuild(it) => self.on_build(it),
            Instruction::Run(it) => self.run(it)?,
            Instruction::Shell(it) => self.shell(it),
            Instruction::StopSignal(it) => self.stop_signal(it)?,
            Instruction::User(it) => self.user(it)?,
            Instruction::Volume(it) => self.volume(it)?,
            Instruction::Workdir(it) => self.workdir(it)?,
        }
        Ok(())
    }

    /// Expands a word with the variables in force.
    pub(crate) fn expand(&self, word: &Word) -> Result<String, PlanError> {
        self.expand_word(word).map_err(|error| PlanErrorKind::from(error).at(word.span))
    }

    /// The same, for those who know better where an error is.
    pub(crate) fn expand_word(&self, word: &Word) -> Result<String, ExpandError> {
        word.expand(&self.lookup(word))
    }

    /// The values of the variables that `word` mentions.
    pub(crate) fn lookup<'w>(&'w self, word: &'w Word) -> impl Fn(&str) -> Option<String> + 'w {
        let uses = OnceCell::new();
        move |name| {
            let Some(value) = self.state.scope.get(name) else {
                let uses = uses.get_or_init(|| lint::Uses::of(word, &self.graph.dockerfile.source));
                let mut undefined = self.undefined.borrow_mut();
                if let Some(place) = uses.place(name).filter(|_| !undefined.contains(name)) {
                    undefined.insert(name.to_owned(), place);
                }
                return None;
            };
            // Beyond the limit nothing grows any more; `plan_stage` sees it.
            let affordable = self.graph.budget.spend(value.len()).is_ok();
            Some(if affordable { value.to_owned() } else { String::new() })
        }
    }

    /// Where a part of the instruction is. The parts of a trigger stand in no file.
    pub(crate) fn place(&self, span: Span) -> Span {
        if self.is_trigger { self.span } else { span }
    }

    /// Where an error about a part of the instruction is.
    pub(crate) fn error_place(&self, span: Span) -> Span {
        self.graph.dockerfile.source.place(self.span, self.place(span))
    }

    /// An error at the instruction at hand.
    pub(crate) fn error(&self, kind: impl Into<PlanErrorKind>) -> PlanError {
        kind.into().at(self.span)
    }

    /// Adds an entry to the history for an instruction that changes the config alone.
    pub(crate) fn record(&mut self, created_by: String) {
        self.graph.budget.note(created_by.len() + history::ENTRY);
        self.state.config.history.push(entry(created_by, MakesLayer::No));
    }

    /// Adds a step, and the entry in the history that its layer has.
    pub(crate) fn step(
        &mut self,
        created_by: String,
        title: &str,
        kind: StepKind,
        words: StepWords,
    ) {
        if let StepKind::Run(run) = &kind {
            self.graph.budget.note(run.env.iter().map(String::len).sum());
        }
        self.graph.budget.note(2 * created_by.len() + history::ENTRY);
        self.state.config.history.push(entry(created_by, MakesLayer::Yes));
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        self.steps.push(Step { span: self.span, title, kind, words });
    }

    /// Adds a remark about the instruction at hand.
    pub(crate) fn warn(&mut self, rule: &'static str, message: String) {
        self.warn_at(self.span, rule, message);
    }

    /// Adds a remark about a part of it.
    pub(crate) fn warn_at(&mut self, span: Span, rule: &'static str, message: String) {
        let span = if self.is_inside(span) { span } else { self.span };
        self.warnings.push(Warning { rule, message, span });
    }

    /// Whether a span is a place in the instruction at hand, as it stands in the file.
    fn is_inside(&self, span: Span) -> bool {
        !self.is_trigger && span.start >= self.span.start && span.end <= self.span.end
    }

    fn warn_of_undefined(&mut self) {
        let undefined = std::mem::take(self.undefined.get_mut());
        if undefined.is_empty() {
            return;
        }
        let declared = self.state.args.iter().map(|(declared, _)| declared);
        let known = self.state.scope.names().chain(declared).chain(self.graph.globals.names());
        let known: Vec<String> = known.take(lint::MOST_NAMES).map(str::to_owned).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for (name, span) in undefined.iter() {
            let is_of_image = self.state.base_is_unknown && lint::may_be_of_image(name, &known);
            if is_of_image || self.state.args.contains(name) {
                continue;
            }
            let message = lint::undefined(name, &known);
            self.warn_at(*span, "UndefinedVar", message);
        }
    }
}

#[cfg(test)]
mod tests {

    use crate::plan::testing::Setup;

    #[test]
    fn a043_a044_a_child_inherits_args_but_env_comes_back() {
        let text = "FROM busybox AS parent\nENV M=env\nARG M=arg C=red\nRUN x\nFROM parent\nLABEL m=$M c=$C\nRUN y\n";
        let history = Setup::default().history(text);
        let run = "RUN |2 M=arg C=red /bin/sh -c x # buildkit";
        assert_eq!(
            history[2..],
            [run, "LABEL m=env c=red", "RUN |2 M=env C=red /bin/sh -c y # buildkit"]
        );
    }

    #[test]
    fn a061_scratch_has_the_targets_platform_and_a_path() {
        let target = Setup::default().platform("linux/arm").target_of("FROM scratch\n");
        assert_eq!(target.config.platform.to_string(), "linux/arm/v7");
        assert_eq!(target.config.config.working_dir, "/");
        assert_eq!(target.base, crate::plan::StageBase::Scratch);
    }

    #[test]
    fn a064_history_is_that_of_the_chain_alone() {
        let text = "FROM busybox AS other\nRUN o\nFROM busybox AS base\nRUN b\nFROM base\nCOPY --from=other a b\n";
        let target = Setup::default().target_of(text);
        assert_eq!((target.inherited_history, target.steps.len()), (1, 1));
        let history: Vec<_> =
            target.config.history.iter().filter_map(|it| it.created_by.as_deref()).collect();
        assert_eq!(history, ["the base", "RUN /bin/sh -c b # buildkit", "COPY a b # buildkit"]);
    }

    #[test]
    fn a065_the_bases_platform_counts_unless_one_is_asked_for() {
        let check = |setup: &Setup, expected: &str| {
            let target = setup.target_of("FROM --platform=linux/arm64/v8 a\n");
            assert_eq!(target.config.platform.to_string(), expected);
        };
        check(&Setup::default(), "linux/arm64");
        check(&Setup::default().platform("linux/arm/v7"), "linux/arm/v7");
    }

    #[test]
    fn a161_errors_are_on_the_first_line_of_their_instruction() {
        let errors = Setup::default().errors("FROM scratch\nLABEL a=1 \\\n b=${}\nEXPOSE x\n");
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("2: failed to process"), "{errors:?}");
        assert_eq!(errors[1], "4: invalid containerPort: x");
    }

    #[test]
    fn what_people_see_of_a_step_is_one_line() {
        let text = "FROM busybox\nRUN a \\\n    && b\nRUN <<EOF\none\ntwo\nEOF\nWORKDIR /w\n";
        let titles: Vec<_> =
            Setup::default().target_of(text).steps.into_iter().map(|it| it.title).collect();
        assert_eq!(titles, ["RUN a && b", "RUN <<EOF (one...)", "WORKDIR /w"]);
    }
}
