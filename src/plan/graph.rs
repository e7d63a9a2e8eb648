//! What the stages are called, what each starts from, and what every `--from` means.
//!
//! Nothing here needs the config of an image, so that mistakes in names are found before anything
//! is pulled. Stages that the target does not need are checked as well, as in BuildKit; only their
//! images are not asked for.

use std::collections::BTreeMap;

use crate::dockerfile::{
    ArgDeclaration, Dockerfile, FromInstruction, Instruction, Span, Spanned, Stage, Word, nearest,
};
use crate::oci::{ParseReferenceError, Platform, Reference};
use crate::plan::budget::Budget;
use crate::plan::scope::Scope;
use crate::plan::{
    BaseImage, CopyFrom, NamedContext, PlanError, PlanErrorKind, PlanOptions, StageBase, StageId,
    builtin, copy, lint, mount,
};

/// Where files come from: a stage, an image, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and boxes would hide what is in them"
)]
pub(crate) enum Origin {
    /// No files at all.
    Scratch,
    /// An image.
    Image(BaseImage),
    /// The stage with this number in the Dockerfile.
    Stage(usize),
    /// The files of the `--build-context` of this name.
    Files(String),
}

impl Origin {
    /// As steps have it. `id` gives the places of stages in the plan.
    pub(crate) fn to_copy_from(&self, id: impl Fn(usize) -> StageId) -> CopyFrom {
        match self {
            Self::Scratch => CopyFrom::Scratch,
            Self::Image(base) => CopyFrom::Image(base.clone()),
            Self::Stage(index) => CopyFrom::Stage(id(*index)),
            Self::Files(name) => CopyFrom::NamedContext(name.clone()),
        }
    }

    /// As a stage has it. One that starts from files copies them into nothing: see `of_files`.
    pub(crate) fn to_stage_base(&self, id: impl Fn(usize) -> StageId) -> StageBase {
        match self {
            Self::Scratch | Self::Files(_) => StageBase::Scratch,
            Self::Image(base) => StageBase::Image(base.clone()),
            Self::Stage(index) => StageBase::Stage(id(*index)),
        }
    }
}

/// One stage, resolved.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// As parsed.
    pub(crate) stage: &'a Stage,
    /// The name after `AS`, or the number in the Dockerfile.
    pub(crate) name: String,
    /// What it starts from.
    pub(crate) base: Origin,
    /// Whether a `--build-context` of its name stands in for it. Its instructions do not count.
    pub(crate) replaced: bool,
}

/// All stages, resolved.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    /// As parsed.
    pub(crate) dockerfile: &'a Dockerfile,
    /// What the command line says.
    pub(crate) options: &'a PlanOptions,
    /// Global and automatic arguments (rules A035, A045).
    pub(crate) globals: Scope,
    /// The platform that is built for.
    pub(crate) target_platform: Platform,
    /// The stages, in the order of the Dockerfile.
    pub(crate) nodes: Vec<Node<'a>>,
    /// The number of the stage to build.
    pub(crate) target: usize,
    /// What the plan may still hold.
    pub(crate) budget: Budget,
    /// The number of the last stage of each name.
    names: BTreeMap<&'a str, usize>,
}

impl<'a> Graph<'a> {
    /// Resolves every name in the Dockerfile.
    pub(crate) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a PlanOptions,
    ) -> Result<Self, Vec<PlanError>> {
        let (graph, errors) = Self::examine(dockerfile, options);
        if errors.is_empty() { Ok(graph) } else { Err(errors) }
    }

    /// The same, with as much of the graph as can be told in spite of errors.
    pub(crate) fn examine(
        dockerfile: &'a Dockerfile,
        options: &'a PlanOptions,
    ) -> (Self, Vec<PlanError>) {
        let target_platform =
            options.platform.as_ref().unwrap_or(&options.build_platform).normalised();
        let mut graph = Self {
            dockerfile,
            options,
            globals: Scope::default(),
            target_platform,
            nodes: Vec::new(),
            target: dockerfile.stages.len().saturating_sub(1),
            budget: Budget::default(),
            names: BTreeMap::new(),
        };
        match graph.global_scope(&options.build_args) {
            Ok(globals) => graph.globals = globals,
            Err(error) => return (graph, vec![error]),
        }
        let mut errors = Vec::new();
        for index in 0..dockerfile.stages.len() {
            if let Err(error) = graph.add_stage(index) {
                errors.push(error);
            }
        }
        if let Err(error) = graph.find_target() {
            errors.push(error);
        }
        errors.extend(graph.check_sources());
        if errors.is_empty() {
            errors.extend(graph.find_cycle());
        }
        (graph, errors)
    }

    /// The automatic arguments, then the ones before the first `FROM` (rule A038).
    pub(crate) fn global_scope(
        &self,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Scope, PlanError> {
        let last = self.dockerfile.stages.last().and_then(|stage| stage.name.as_ref());
        let target = match self.options.target.as_deref() {
            None | Some("") => last.map_or("", |name| name.value.as_str()),
            Some(name) => name,
        };
        let mut scope = builtin::platform_args(
            &self.options.build_platform.normalised(),
            &self.target_platform,
            target,
            &self.options.build_args,
        );
        if let Some(epoch) = self.options.source_date_epoch {
            scope.set("SOURCE_DATE_EPOCH", &epoch.seconds.to_string());
        }
        for instruction in &self.dockerfile.global_args {
            for arg in &instruction.args {
                let value = global_value(arg, build_args, &scope);
                if let Some(value) = value.map_err(|kind| kind.at(instruction.span))? {
                    scope.set(&arg.name.value, &value);
                }
            }
        }
        Ok(scope)
    }

    /// Adds the next stage, even if it has an error, so that later ones keep their numbers.
    fn add_stage(&mut self, index: usize) -> Result<(), PlanError> {
        let stage = &self.dockerfile.stages[index];
        let name = stage.name.as_ref().map(|name| name.value.as_str());
        let replacement = name.and_then(|name| self.named_context(name, &self.target_platform));
        let replaced = replacement.is_some();
        let base = match replacement {
            Some(origin) => Ok(origin),
            None => self.resolve_from(&stage.from),
        };
        let (base, result) = match base {
            Ok(base) => (base, Ok(())),
            Err(error) => (Origin::Scratch, Err(error)),
        };
        if let Some(name) = name {
            self.names.insert(name, index);
        }
        let name = name.map_or_else(|| index.to_string(), str::to_owned);
        self.nodes.push(Node { stage, name, base, replaced });
        result
    }

    /// `FROM`: an earlier stage by its exact name, `scratch`, or an image (rule A052).
    fn resolve_from(&self, from: &FromInstruction) -> Result<Origin, PlanError> {
        let lookup = |name: &str| self.globals.get(name).map(str::to_owned);
        let at = |word: &Word| self.dockerfile.source.place(from.span, word.span);
        let at_image = |kind: PlanErrorKind| kind.at(at(&from.image));
        let name = from.image.expand(&lookup).map_err(|error| at_image(error.into()))?;
        if name.is_empty() {
            let nearest = self.nearest_global(&from.image);
            return Err(at_image(PlanErrorKind::BlankBase {
                word: from.image.raw.clone(),
                nearest,
            }));
        }
        let platform = match &from.platform {
            None => self.target_platform.clone(),
            Some(word) => self.platform_of(word).map_err(|kind| kind.at(at(word)))?,
        };
        match self.stage_named(&name) {
            Some(index) => Ok(self.origin_of(index)),
            None => self.image(&name, &platform).map_err(|kind| match kind {
                PlanErrorKind::BadImageName { name, source, .. } => {
                    let word = Some(from.image.raw.clone()).filter(|raw| raw.contains('$'));
                    at_image(PlanErrorKind::BadImageName { name, source, word })
                }
                kind => at_image(kind),
            }),
        }
    }

    /// `FROM --platform` (rule A060).
    fn platform_of(&self, word: &Word) -> Result<Platform, PlanErrorKind> {
        let text = word.expand(&|name: &str| self.globals.get(name).map(str::to_owned))?;
        if text.is_empty() {
            let (word, nearest) = (word.raw.clone(), self.nearest_global(word));
            return Err(PlanErrorKind::EmptyPlatform { word, nearest });
        }
        let word = word.raw.clone();
        text.parse().map_err(|source| PlanErrorKind::BadPlatform { word, source })
    }

    /// The global arguments, those without a value too: as many as are worth a comparison.
    pub(crate) fn global_names(&self) -> Vec<&str> {
        let declared = self.dockerfile.global_args.iter().flat_map(|it| &it.args);
        let declared = declared.map(|arg| arg.name.value.as_str());
        self.globals.names().chain(declared).take(lint::MOST_NAMES).collect()
    }

    /// The global argument nearest to one that `word` asks for and that there is not.
    fn nearest_global(&self, word: &Word) -> Option<String> {
        let names = self.global_names();
        let near = std::cell::RefCell::new(None);
        // An error would have come up before.
        let _ = word.expand(&|name| {
            let value = self.globals.get(name).map(str::to_owned);
            if value.is_none() {
                *near.borrow_mut() = nearest(name, &names).map(str::to_owned);
            }
            value
        });
        near.into_inner()
    }

    /// What `--from=name` of a `COPY` means: numbers count stages (rules A053, A054).
    pub(crate) fn copy_source(&self, name: &str) -> Result<Origin, PlanErrorKind> {
        let Ok(number) = name.parse::<i64>() else { return self.mount_source(name) };
        let index = usize::try_from(number).ok().filter(|it| *it < self.dockerfile.stages.len());
        index.map(|it| self.origin_of(it)).ok_or(PlanErrorKind::BadStageIndex(number))
    }

    /// The stage, or what the command line has put in its place.
    fn origin_of(&self, index: usize) -> Origin {
        match self.nodes.get(index) {
            Some(node) if node.replaced => node.base.clone(),
            _ => Origin::Stage(index),
        }
    }

    /// What `from=name` of a mount means. Numbers are images there.
    pub(crate) fn mount_source(&self, name: &str) -> Result<Origin, PlanErrorKind> {
        match self.stage_named(&name.to_lowercase()) {
            Some(index) => Ok(self.origin_of(index)),
            None => self.image(name, &self.target_platform),
        }
    }

    /// The last stage of that name, among those that are known so far (rule A056).
    fn stage_named(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    fn image(&self, name: &str, platform: &Platform) -> Result<Origin, PlanErrorKind> {
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if let Some(origin) = self.named_context(name, platform) {
            return Ok(origin);
        }
        let reference = name.parse().map_err(|source| self.bad_name(name, source))?;
        Ok(Origin::Image(BaseImage { reference, platform: platform.clone() }))
    }

    fn bad_name(&self, name: &str, source: ParseReferenceError) -> PlanErrorKind {
        let name = name.to_owned();
        if !matches!(source, ParseReferenceError::UpperCase(_)) {
            return PlanErrorKind::BadImageName { name, source, word: None };
        }
        let repository = name.split(['@', ':']).next().unwrap_or_default();
        let prefix = if repository.contains('/') { "" } else { "library/" };
        let stage = Some(name.to_lowercase()).filter(|it| self.stage_named(it).is_some());
        PlanErrorKind::UpperCaseImageName {
            repository: format!("{prefix}{repository}"),
            name,
            stage,
        }
    }

    /// What the command line gives a name to. `scratch` and `context` cannot be renamed.
    fn named_context(&self, name: &str, platform: &Platform) -> Option<Origin> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let wanted = familiar(name);
        let (key, context) =
            self.options.named_contexts.iter().find(|(key, _)| familiar(key) == wanted)?;
        Some(match context {
            NamedContext::Files => Origin::Files(key.clone()),
            NamedContext::Scratch => Origin::Scratch,
            NamedContext::Image(reference) => Origin::Image(BaseImage {
                reference: reference.clone(),
                platform: platform.clone(),
            }),
        })
    }

    /// `--target` is a name, never a number (rule A058).
    fn find_target(&mut self) -> Result<(), PlanError> {
        let Some(target) = self.options.target.as_ref().filter(|it| !it.is_empty()) else {
            return Ok(());
        };
        if let Some(index) = self.stage_named(&target.to_lowercase()) {
            self.target = index;
            return Ok(());
        }
        let names = self.nodes.iter().filter(|node| node.stage.name.is_some());
        let names: Vec<String> = names.map(|node| node.name.clone()).collect();
        let options: Vec<&str> = names.iter().map(String::as_str).collect();
        let nearest = nearest(target, &options).map(str::to_owned);
        let kind = PlanErrorKind::UnknownTarget { target: target.clone(), nearest, names };
        Err(kind.at(self.dockerfile.stages.last().map_or(Span::default(), |it| it.from.span)))
    }

    /// What an instruction takes files from, and the words that say so.
    pub(crate) fn sources(
        &self,
        instruction: &Instruction,
    ) -> Vec<Result<(Origin, Span), PlanError>> {
        let found = |origin: Result<Option<Origin>, PlanErrorKind>, span: Span| match origin {
            Ok(origin) => origin.map(|origin| Ok((origin, span))),
            Err(kind) => Some(Err(kind.at(span))),
        };
        match instruction {
            Instruction::Copy(it) => {
                let source = |Spanned { value, span }: &Spanned<String>| {
                    found(self.copy_source(value).map(Some), *span)
                };
                copy::from_name(it).and_then(source).into_iter().collect()
            }
            Instruction::Run(it) => {
                let source = |word: &Word| {
                    let name = mount::from_name(word).map_err(PlanErrorKind::from);
                    let origin =
                        name.and_then(|it| it.map(|it| self.mount_source(&it)).transpose());
                    found(origin, word.span)
                };
                it.mounts.iter().filter_map(source).collect()
            }
            _ => Vec::new(),
        }
    }

    fn check_sources(&self) -> Vec<PlanError> {
        let stages = self.nodes.iter().filter(|node| !node.replaced).map(|node| node.stage);
        let errors = stages.flat_map(|stage| &stage.instructions).flat_map(|it| {
            let errors = self.sources(it).into_iter().filter_map(Result::err);
            let place = |span| self.dockerfile.source.place(it.span(), span);
            errors.map(move |error| PlanError { span: place(error.span), ..error })
        });
        errors.collect()
    }

    /// Stages that copy from each other, however far around (rule A055).
    ///
    /// Goes down into each stage once. The way down is a list, as it may be long.
    fn find_cycle(&self) -> Option<PlanError> {
        let mut seen = vec![Seen::No; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut way = vec![(start, self.uses(start, &mut seen))];
            // Where the first stage of the way goes down.
            let mut span = Span::default();
            while let Some((index, uses)) = way.last_mut() {
                let index = *index;
                let Some((next, used_at)) = uses.pop() else {
                    seen[index] = Seen::Done;
                    way.pop();
                    continue;
                };
                if way.len() == 1 {
                    span = used_at;
                }
                match seen[next] {
                    Seen::OnWay => {
                        return Some(
                            PlanErrorKind::Circular(self.nodes[start].name.clone()).at(span),
                        );
                    }
                    Seen::Done => {}
                    Seen::No => way.push((next, self.uses(next, &mut seen))),
                }
            }
        }
        None
    }

    /// The stages that a stage takes files from, the last one first. From now on it is on the way.
    fn uses(&self, index: usize, seen: &mut [Seen]) -> Vec<(usize, Span)> {
        if seen[index] == Seen::Done || self.nodes[index].replaced {
            return Vec::new();
        }
        seen[index] = Seen::OnWay;
        let mut uses = Vec::new();
        for instruction in &self.nodes[index].stage.instructions {
            for source in self.sources(instruction) {
                if let Ok((Origin::Stage(next), span)) = source {
                    uses.push((next, self.dockerfile.source.place(instruction.span(), span)));
                }
            }
        }
        uses.reverse();
        uses
    }
}

/// How far the search for cycles has come with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    OnWay,
    Done,
}

/// The command line's value, or the default.
fn global_value(
    arg: &ArgDeclaration,
    build_args: &BTreeMap<String, String>,
    scope: &Scope,
) -> Result<Option<String>, PlanErrorKind> {
    if let Some(value) = build_args.get(&arg.name.value) {
        return Ok(Some(value.clone()));
    }
    let lookup = |name: &str| scope.get(name).map(str::to_owned);
    Ok(arg.default.as_ref().map(|word| word.expand(&lookup)).transpose()?)
}

/// A context's name as BuildKit compares it: as people write an image, without `:latest`.
fn familiar(name: &str) -> String {
    let familiar = name.parse::<Reference>().map_or_else(|_| name.to_owned(), |it| it.familiar());
    familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::plan::testing::Setup;

    /// The names of the stages that are planned, the last one being the target.
    #[track_caller]
    fn check(setup: &Setup, text: &str, expected: &[&str]) {
        let stages = setup.plan(text).expect(text).stages;
        let names: Vec<_> = stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, expected, "{text}");
    }

    #[track_caller]
    fn check_errors(setup: &Setup, text: &str, expected: &[&str]) {
        assert_eq!(setup.errors(text), expected, "{text}");
    }

    #[track_caller]
    fn base(setup: &Setup, text: &str) -> StageBase {
        setup.target_of(text).base
    }

    fn image(name: &str, platform: &str) -> StageBase {
        let reference = name.parse().expect("a reference");
        let platform = platform.parse().expect("a platform");
        StageBase::Image(BaseImage { reference, platform })
    }

    #[test]
    fn a052_a_stage_wins_over_an_image_but_only_from_its_own_line_on() {
        let text = "FROM alpine AS first\nFROM busybox AS alpine\nFROM alpine\n";
        assert_eq!(base(&Setup::default(), text), StageBase::Stage(StageId(0)));
        let text = "FROM busybox AS busybox\n";
        assert_eq!(base(&Setup::default(), text), image("busybox", "linux/amd64"));
    }

    #[test]
    fn many_stages_are_resolved_at_once() {
        use std::fmt::Write as _;
        let count = 20_000;
        let text = |from: &dyn Fn(usize) -> String| {
            let mut text = String::new();
            for index in 0..count {
                let _ = writeln!(text, "FROM scratch AS s{index}\nCOPY --from={} / /", from(index));
            }
            text + "FROM scratch\n"
        };
        check(&Setup::default(), &text(&|_| "x/y".to_owned()), &["20000"]);
        let forward = text(&|index| format!("s{}", (index + 1) % count));
        check_errors(
            &Setup::default(),
            &forward,
            &["2: circular dependency detected on stage: s0"],
        );
    }

    #[test]
    fn a053_numbers_count_all_stages_and_names_ignore_case() {
        let setup = Setup::default();
        let text =
            "FROM a\nFROM b AS Bb\nFROM c\nFROM scratch\nCOPY --from=1 x y\nCOPY --from=bB x y\n";
        check(&setup, text, &["bb", "3"]);
    }

    #[test]
    fn a052_from_wants_the_lower_case_name() {
        check_errors(
            &Setup::default(),
            "FROM busybox AS Builder\nRUN x\nFROM BUILDER\n",
            &[
                "3: failed to parse stage name \"BUILDER\": invalid reference format: repository name (library/BUILDER) must be lowercase",
            ],
        );
    }

    #[test]
    fn a055_stages_that_need_each_other() {
        let text =
            "FROM busybox AS a\nCOPY --from=b /x /x\nFROM busybox AS b\nCOPY --from=a /x /x\n";
        check_errors(&Setup::default(), text, &["2: circular dependency detected on stage: a"]);
    }

    #[test]
    fn a056_of_two_stages_with_one_name_the_later_counts() {
        let text =
            "FROM a AS dup\nFROM dup AS next\nFROM b AS dup\nFROM scratch\nCOPY --from=dup x y\n";
        check(&Setup::default(), text, &["dup", "3"]);
        let warnings = Setup::default().plan(text).expect("valid").warnings;
        assert_eq!(warnings[0].rule, "DuplicateStageName");
    }

    #[test]
    fn a057_only_what_the_target_needs_is_planned() {
        let text =
            "FROM broken AS broken\nEXPOSE no\nFROM busybox AS one\nFROM one AS two\nFROM two\n";
        check(&Setup::default().target("TWO"), text, &["one", "two"]);
    }

    #[test]
    fn a058_an_unknown_target_suggests_one() {
        let text = "FROM scratch AS build\nFROM scratch\n";
        check_errors(
            &Setup::default().target("bulid"),
            text,
            &["2: target stage \"bulid\" could not be found (did you mean build?)"],
        );
        check_errors(
            &Setup::default().target("1"),
            text,
            &["2: target stage \"1\" could not be found"],
        );
    }

    #[test]
    fn a038_a059_global_arguments_choose_the_base() {
        let text =
            "ARG BASE=nowhere\nARG NEEDED=${M:?not needed}\nARG CHAIN=${BASE}:1\nFROM \"$CHAIN\"\n";
        let setup = Setup::default().build_arg("BASE", "busybox").build_arg("NEEDED", "x");
        assert_eq!(base(&setup, text), image("busybox:1", "linux/amd64"));
        check_errors(
            &Setup::default(),
            "ARG BASE\nFROM ${BASE}\nFROM busybox\nCOPY --from=9 a b\n",
            &["2: base name (${BASE}) should not be blank", "4: invalid stage index 9"],
        );
    }

    #[test]
    fn a060_the_platform_of_a_base() {
        let setup = Setup::default().platform("linux/arm64");
        assert_eq!(base(&setup, "FROM a\n"), image("a", "linux/arm64"));
        let text = "FROM --platform=$BUILDPLATFORM a\n";
        assert_eq!(base(&setup, text), image("a", "linux/amd64"));
        check_errors(
            &setup,
            "ARG P\nFROM --platform=$P scratch\nFROM --platform=linux/a/b/c scratch\n",
            &[
                "2: empty platform value from expression $P",
                "3: failed to parse platform linux/a/b/c",
            ],
        );
    }

    #[test]
    fn a_named_context_stands_in_for_a_stage_and_for_an_image() {
        let mut setup = Setup::default();
        let contexts = &mut setup.options.named_contexts;
        contexts.insert("gen".into(), NamedContext::Files);
        contexts.insert("alpine".into(), NamedContext::Image("mine:2".parse().expect("valid")));
        let text = "FROM no AS gen\nEXPOSE x\nFROM gen\n";
        assert_eq!(base(&setup, text), StageBase::Scratch);
        assert_eq!(setup.history(text), ["FROM gen"]);
        let text = "FROM no AS gen\nEXPOSE x\nFROM alpine:latest\nCOPY --from=gen a b\n";
        assert_eq!(base(&setup, text), image("mine:2", "linux/amd64"));
    }
}
