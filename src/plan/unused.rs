//! Build arguments that no `ARG` takes: most often a slip in a name.

use crate::dockerfile::{ArgInstruction, Instruction, nearest};
use crate::plan::graph::Graph;
use crate::plan::reach::Reached;
use crate::plan::{builtin, lint};

/// A build argument that nothing takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedArg {
    /// Its name.
    pub name: String,
    /// The argument that was perhaps meant.
    pub nearest: Option<String>,
}

/// All of them, in the order of their names. Stages that are not built declare arguments too.
pub(crate) fn unused_args(graph: &Graph<'_>, reached: &Reached<'_>) -> Vec<UnusedArg> {
    let dockerfile = graph.dockerfile;
    let own = dockerfile.stages.iter().flat_map(|stage| &stage.instructions).filter_map(arg);
    let planned = reached.stages.values().flatten().map(|planned| &*planned.instruction);
    let declared = dockerfile.global_args.iter().chain(own).chain(planned.filter_map(arg));
    let names = declared.flat_map(|it: &ArgInstruction| &it.args).map(|it| it.name.value.as_str());
    let names: Vec<&str> = names.chain(graph.globals.names()).collect();
    let is_taken = |name: &str| names.contains(&name) || builtin::counts_undeclared(name);
    let unused = graph.options.build_args.keys().filter(|name| !is_taken(name));
    let known = &names[..names.len().min(lint::MOST_NAMES)];
    let unused = unused.map(|name| UnusedArg {
        name: name.clone(),
        nearest: nearest(name, known).map(str::to_owned),
    });
    unused.collect()
}

fn arg(instruction: &Instruction) -> Option<&ArgInstruction> {
    match instruction {
        Instruction::Arg(it) => Some(it),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::plan::testing::Setup;

    #[test]
    fn an_argument_that_nothing_takes_is_found() {
        let check = |name: &str, text: &str, expected: Option<Option<&str>>| {
            let triggers = json!({"OnBuild": ["ARG TRIGGER"]});
            let setup = Setup::default().image("base", triggers).build_arg(name, "x");
            let unused = setup.plan(text).expect("valid").unused_args;
            let found = unused.first().map(|it| it.nearest.as_deref());
            assert_eq!(found, expected, "{name}");
        };
        let text = "ARG GLOBAL\nFROM base AS other\nARG VERSION=1\nFROM base\nARG NAME\n";
        check("GLOBAL", text, None);
        check("VERSION", text, None);
        check("NAME", text, None);
        check("TRIGGER", text, None);
        check("TARGETARCH", text, None);
        check("https_proxy", text, None);
        check("SOURCE_DATE_EPOCH", text, None);
        check("BUILDKIT_SYNTAX", text, None);
        check("VERSOIN", text, Some(Some("VERSION")));
        check("SOMETHING_ELSE", text, Some(None));
        check("BUILDKIT_INLINE_CACHE", text, Some(None));
    }
}
