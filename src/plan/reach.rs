//! Which stages the target needs, with what instructions, and which images (rules A057, A096, A098).
//!
//! A stage's instructions are the ONBUILD triggers of what it starts from, and then its own. The
//! triggers of an image are known only with its config, and may need further stages and images.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::dockerfile::{Instruction, Span};
use crate::plan::graph::{Graph, Node, Origin};
use crate::plan::{Bases, MissingBase, PlanError, onbuild};

/// An instruction that a stage will carry out.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    /// What to do.
    pub(crate) instruction: Cow<'a, Instruction>,
    /// Where errors point to: for a trigger, at the `FROM` (rule A099).
    pub(crate) span: Span,
    /// Whether it comes from an `ONBUILD`.
    pub(crate) is_trigger: bool,
}

/// What the target needs.
#[derive(Debug, Default)]
pub(crate) struct Reached<'a> {
    /// The stages by their number in the Dockerfile, which is also an order in which they can be
    /// built: a stage can need only earlier ones.
    pub(crate) stages: BTreeMap<usize, Vec<Planned<'a>>>,
    /// Images whose configs are not known. If there are any, stages may be missing too.
    pub(crate) missing: Vec<MissingBase>,
}

/// Walks from the target to everything that it needs.
pub(crate) fn walk<'a>(graph: &Graph<'a>, known: &'a Bases) -> Result<Reached<'a>, Vec<PlanError>> {
    let (reached, mut errors) = walk_from(graph, known, vec![graph.target]);
    if errors.is_empty() {
        return Ok(reached);
    }
    errors.sort_by_key(|error| error.span);
    Err(errors)
}

/// The same from several stages, with what could be reached in spite of errors.
pub(crate) fn walk_from<'a>(
    graph: &Graph<'a>,
    known: &'a Bases,
    mut waiting: Vec<usize>,
) -> (Reached<'a>, Vec<PlanError>) {
    let mut reached = Reached::default();
    let mut errors = Vec::new();
    while let Some(index) = waiting.pop() {
        if graph.budget.check().is_err() {
            break;
        }
        if reached.stages.contains_key(&index) {
            continue;
        }
        let mut instructions = instructions(graph, &graph.nodes[index], known, &mut errors);
        let node = &graph.nodes[index];
        let (from, source) = (&node.stage.from, &graph.dockerfile.source);
        let mut needed = vec![(node.base.clone(), source.place(from.span, from.image.span))];
        // What takes files from nowhere is left out: whoever plans it would look for them.
        instructions.retain(|planned| {
            let before = errors.len();
            let place = |span| {
                if planned.is_trigger { planned.span } else { source.place(planned.span, span) }
            };
            for source in graph.sources(&planned.instruction) {
                match source {
                    Ok((origin, span)) => needed.push((origin, place(span))),
                    Err(PlanError { kind, span }) => errors.push(kind.at(place(span))),
                }
            }
            errors.len() == before
        });
        for (origin, span) in needed {
            match origin {
                Origin::Stage(next) => waiting.push(next),
                Origin::Image(base) if !known.contains_key(&base) => {
                    reached.missing.push(MissingBase { base, span });
                }
                Origin::Image(_) | Origin::Scratch | Origin::Files(_) => {}
            }
        }
        reached.stages.insert(index, instructions);
    }
    sort_and_deduplicate(&mut reached.missing);
    (reached, errors)
}

/// The triggers that run in a stage, and then its own instructions.
fn instructions<'a>(
    graph: &Graph<'a>,
    node: &Node<'a>,
    known: &'a Bases,
    errors: &mut Vec<PlanError>,
) -> Vec<Planned<'a>> {
    let span = node.stage.from.span;
    if node.replaced {
        return Vec::new();
    }
    let mut planned = Vec::new();
    for (trigger, line) in triggers(graph, node, known) {
        if let Err(kind) = graph.budget.spend(2 * trigger.len() + onbuild::INSTRUCTION) {
            errors.push(kind.at(span));
            return planned;
        }
        match onbuild::parse(trigger, line) {
            Ok(instruction) => planned.push(Planned {
                instruction: Cow::Owned(instruction),
                span,
                is_trigger: true,
            }),
            Err(kinds) => errors.extend(kinds.into_iter().map(|kind| kind.at(span))),
        }
    }
    planned.extend(node.stage.instructions.iter().map(|instruction| Planned {
        instruction: Cow::Borrowed(instruction),
        span: instruction.span(),
        is_trigger: false,
    }));
    planned
}

/// The triggers of what a stage starts from, and their lines if that is a stage. Those of a stage's
/// own parent are gone (rule A097).
fn triggers<'a>(
    graph: &Graph<'a>,
    node: &Node<'_>,
    known: &'a Bases,
) -> Vec<(&'a str, Option<usize>)> {
    match &node.base {
        Origin::Image(base) => {
            let config = known.get(base).map(|config| &config.config);
            let texts = config.map(|it| it.on_build.as_slice()).unwrap_or_default();
            texts.iter().map(|text| (text.as_str(), None)).collect()
        }
        Origin::Stage(parent) => {
            let source = &graph.dockerfile.source;
            let trigger = |instruction: &'a Instruction| match instruction {
                Instruction::OnBuild(it) => {
                    Some((it.text.as_str(), Some(source.line(it.span.start))))
                }
                _ => None,
            };
            graph.nodes[*parent].stage.instructions.iter().filter_map(trigger).collect()
        }
        Origin::Scratch | Origin::Files(_) => Vec::new(),
    }
}

fn sort_and_deduplicate(missing: &mut Vec<MissingBase>) {
    missing.sort_by(|a, b| a.span.cmp(&b.span).then_with(|| a.base.cmp(&b.base)));
    let mut seen = std::collections::BTreeSet::new();
    missing.retain(|it| seen.insert(it.base.clone()));
}

#[cfg(test)]
mod tests {

    use crate::plan::testing::Setup;
    use serde_json::json;

    #[test]
    fn a096_a097_triggers_run_first_and_once() {
        let setup = Setup::default().image("base", json!({"OnBuild": ["ENV A=1", "WORKDIR /w"]}));
        let text = "FROM base AS child\nENV B=$A\nFROM child\nENV C=$B\n";
        assert_eq!(setup.history(text), ["ENV A=1", "WORKDIR /w", "ENV B=1", "ENV C=1"]);
    }

    #[test]
    fn a096_triggers_of_a_stage_of_the_same_file_run_too() {
        let text = "FROM busybox AS p\nARG W=no\nONBUILD ARG W=yes\nONBUILD RUN $W\nFROM p AS c\n";
        let expected = ["ARG W=no", "ARG W=yes", "RUN |1 W=yes /bin/sh -c $W # buildkit"];
        assert_eq!(Setup::default().history(text), expected);
    }

    #[test]
    fn a098_triggers_may_need_further_stages_and_images() {
        let triggers = ["COPY --from=helper /a /a", "RUN --mount=from=alpine,target=/m x"];
        let setup = Setup::default().image("base", json!({"OnBuild": triggers}));
        let plan = setup.plan("FROM busybox AS helper\nRUN x\nFROM base\n").expect("valid");
        let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["helper", "1"]);
    }

    #[test]
    fn a099_errors_of_triggers_are_at_from() {
        let check = |trigger: &str, expected: &str| {
            let setup = Setup::default().image("base", json!({"OnBuild": [trigger]}));
            assert_eq!(setup.errors("FROM scratch AS x\nFROM base\n"), [expected], "{trigger}");
        };
        check("ENV a=1\nENV b=2", "2: onbuild trigger should be a single expression");
        check("NONSENSE x", "2: unknown instruction: NONSENSE");
        check("EXPOSE x", "2: invalid containerPort: x");
        check("COPY --from=9 a b", "2: invalid stage index 9");
    }
}
