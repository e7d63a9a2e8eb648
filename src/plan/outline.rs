//! What the build of a target takes: arguments, secrets, agents and caches, as `--call=outline`
//! lists them.
//!
//! As in BuildKit, an argument before the first `FROM` counts only if something uses it. The configs
//! of base images are not needed, nor is anything built.
//!
//! Source: BuildKit's `frontend.outline`.

use std::collections::BTreeSet;

use crate::dockerfile::{ArgDeclaration, Dockerfile, Instruction, Span, Word};
use crate::plan::check::{Surveyed, survey};
use crate::plan::graph::Graph;
use crate::plan::{Bases, PlanError, PlanOptions, csv};

/// What a target is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name after `AS`.
    pub name: Option<String>,
    /// What the comment above its `FROM` says of it.
    pub description: Option<String>,
    /// Arguments, in the order of the Dockerfile.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<OutlineMount>,
    /// SSH agents.
    pub ssh: Vec<OutlineMount>,
    /// Caches.
    pub caches: Vec<OutlineMount>,
}

/// An `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// The default as written, if there is one.
    pub default: Option<String>,
    /// The value that it would have in this build, if it has one.
    pub value: Option<String>,
    /// The `ARG`.
    pub span: Span,
}

/// A `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its `id`, or what stands for it.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The `--mount`.
    pub span: Span,
}

/// Outlines the target.
///
/// # Errors
///
/// Everything that is wrong with stages, targets and references, each at its line.
pub fn outline(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    bases: &Bases,
) -> Result<Outline, Vec<PlanError>> {
    let graph = Graph::new(dockerfile, options)?;
    let survey = survey(&graph, bases, vec![graph.target]);
    let target = graph.nodes[graph.target].stage;
    let mut outline = Outline {
        name: target.name.as_ref().map(|name| name.value.clone()),
        description: target.description.clone(),
        args: global_args(&graph, &survey.stages),
        ..Outline::default()
    };
    for stage in &survey.stages {
        outline.add_stage(&graph, stage);
    }
    outline.args.sort_by_key(|arg| arg.span);
    Ok(outline)
}

impl Outline {
    fn add_stage(&mut self, graph: &Graph<'_>, stage: &Surveyed) {
        let node = &graph.nodes[stage.index];
        let instructions = if node.replaced { &[][..] } else { &node.stage.instructions };
        for instruction in instructions {
            match instruction {
                Instruction::Arg(it) => {
                    // `ARG NAME` alone hands in a global argument, which is listed already.
                    let is_global = |arg: &ArgDeclaration| {
                        arg.default.is_none()
                            && graph.dockerfile.global_args.iter().any(|it| declares(&it.args, arg))
                    };
                    let own = it.args.iter().filter(|arg| !is_global(arg));
                    self.args.extend(own.map(|arg| {
                        let value = stage.state.args.find(&arg.name.value);
                        outlined(arg, value.cloned().flatten(), it.span)
                    }));
                }
                Instruction::Run(it) => {
                    for mount in &it.mounts {
                        self.add_mount(stage, mount);
                    }
                }
                _ => {}
            }
        }
    }

    fn add_mount(&mut self, stage: &Surveyed, mount: &Word) {
        let expand = |text: &str| {
            let word = Word { raw: text.to_owned(), ..mount.clone() };
            let value = word.expand(&|name| stage.state.scope.get(name).map(str::to_owned));
            value.unwrap_or_else(|_| text.to_owned())
        };
        let (mut kind, mut id, mut source, mut target) = Default::default();
        let mut required = false;
        for field in csv::fields(&mount.raw).unwrap_or_default() {
            let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
            let value = expand(value);
            match key.to_lowercase().as_str() {
                "type" => kind = value,
                "id" => id = value,
                "source" | "src" => source = value,
                "target" | "dst" | "destination" => target = value,
                "required" => required = value.eq_ignore_ascii_case("true") || value == "1",
                _ => {}
            }
        }
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let (list, stand_in): (_, String) = match &*kind {
            "secret" if source.is_empty() => (&mut self.secrets, base(&target)),
            "secret" => (&mut self.secrets, source),
            "ssh" => (&mut self.ssh, "default".to_owned()),
            "cache" => (&mut self.caches, target),
            _ => return,
        };
        let id: String = if id.is_empty() { stand_in } else { id };
        match list.iter_mut().find(|it| it.id == id) {
            Some(known) => known.required |= required,
            None => list.push(OutlineMount { id, required, span: mount.span }),
        }
    }
}

/// The arguments before the first `FROM` that the stages use, or that such arguments use.
fn global_args(graph: &Graph<'_>, stages: &[Surveyed]) -> Vec<OutlineArg> {
    let mut used = BTreeSet::new();
    for stage in stages {
        let stage = graph.nodes[stage.index].stage;
        used.extend(names_in(&stage.from.image));
        used.extend(stage.from.platform.iter().flat_map(names_in));
        for instruction in &stage.instructions {
            if let Instruction::Arg(it) = instruction {
                used.extend(it.args.iter().map(|arg| arg.name.value.clone()));
            }
        }
    }
    let mut outlined_args = Vec::new();
    for instruction in graph.dockerfile.global_args.iter().rev() {
        for arg in instruction.args.iter().rev() {
            if used.contains(&arg.name.value) {
                used.extend(arg.default.iter().flat_map(names_in));
                let value = graph.globals.get(&arg.name.value).map(str::to_owned);
                outlined_args.push(outlined(arg, value, instruction.span));
            }
        }
    }
    outlined_args.reverse();
    outlined_args
}

/// The variables that a word mentions.
fn names_in(word: &Word) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    // What cannot be expanded is an error elsewhere.
    let _ = word.expand(&|name| {
        names.borrow_mut().push(name.to_owned());
        Some("x".to_owned())
    });
    names.into_inner()
}

fn declares(args: &[ArgDeclaration], arg: &ArgDeclaration) -> bool {
    args.iter().any(|it| it.name.value == arg.name.value)
}

fn outlined(arg: &ArgDeclaration, value: Option<String>, span: Span) -> OutlineArg {
    OutlineArg {
        name: arg.name.value.clone(),
        description: arg.description.clone(),
        default: arg.default.as_ref().map(|word| word.raw.clone()),
        value,
        span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Setup;

    const TEXT: &str = "\
# inner is used by V
ARG inner=2
ARG V=1.$inner
ARG unused=x
# build compiles it
FROM golang:$V AS build
# FLAGS go to the compiler
ARG FLAGS=-v
RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=token,required=true x
FROM build AS other
ARG OTHER
FROM scratch AS out
ARG V
ARG NAME
RUN --mount=type=ssh --mount=type=secret,target=/a/$FLAGS/key x
COPY --from=build / /
";

    fn outline_of(setup: &Setup) -> Outline {
        let source = crate::dockerfile::Source::new("Dockerfile", TEXT);
        let dockerfile = crate::dockerfile::parse(source).expect(TEXT);
        super::outline(&dockerfile, &setup.options, &Bases::new()).expect("the graph is sound")
    }

    #[test]
    fn the_arguments_are_those_that_the_target_uses() {
        let setup = Setup::default().build_arg("inner", "3").build_arg("NAME", "n");
        let found: Vec<_> = outline_of(&setup)
            .args
            .into_iter()
            .map(|it| (it.name, it.default, it.value, it.description))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            ("inner".into(), some("2"), some("3"), some("is used by V")),
            ("V".into(), some("1.$inner"), some("1.3"), None),
            ("FLAGS".into(), some("-v"), some("-v"), some("go to the compiler")),
            ("NAME".into(), None, some("n"), None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_mounts_are_those_that_the_target_needs() {
        let outline = outline_of(&Setup::default());
        let names = |mounts: &[OutlineMount]| -> Vec<(String, bool)> {
            mounts.iter().map(|it| (it.id.clone(), it.required)).collect()
        };
        assert_eq!(names(&outline.secrets), [("token".into(), true), ("key".into(), false)]);
        assert_eq!(names(&outline.ssh), [("default".into(), false)]);
        assert_eq!(names(&outline.caches), [("/root/.cache".into(), false)]);
        let build = outline_of(&Setup::default().target("build"));
        assert_eq!(build.name.as_deref(), Some("build"));
        assert_eq!(build.description.as_deref(), Some("compiles it"));
        assert!(build.ssh.is_empty());
    }
}
