//! What can be built: the stages of a Dockerfile, as `--call=targets` lists them.
//!
//! Source: BuildKit's `frontend.targets`.

use crate::dockerfile::{Dockerfile, Span};
use crate::plan::graph::{Graph, Origin};
use crate::plan::{PlanError, PlanOptions};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name after `AS`; a stage without one cannot be asked for.
    pub name: Option<String>,
    /// What the comment above `FROM` says of it.
    pub description: Option<String>,
    /// What it starts from: a stage, an image, or `scratch`.
    pub base: String,
    /// `--platform` of its `FROM`, expanded.
    pub platform: Option<String>,
    /// Whether it is built when no target is asked for.
    pub is_default: bool,
    /// The `FROM`.
    pub span: Span,
}

/// All stages, in the order of the Dockerfile.
///
/// # Errors
///
/// Everything that is wrong with stages and references, each at its line.
pub fn targets(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> Result<Vec<Target>, Vec<PlanError>> {
    // Which target is asked for makes no difference to what there is.
    let options = PlanOptions { target: None, ..options.clone() };
    let graph = Graph::new(dockerfile, &options)?;
    let lookup = |name: &str| graph.globals.get(name).map(str::to_owned);
    let targets = graph.nodes.iter().enumerate().map(|(index, node)| {
        let from = &node.stage.from;
        let base = match &node.base {
            Origin::Stage(parent) => graph.nodes[*parent].name.clone(),
            _ => from.image.expand(&lookup).unwrap_or_default(),
        };
        Target {
            name: node.stage.name.as_ref().map(|name| name.value.clone()),
            description: node.stage.description.clone(),
            base,
            platform: from.platform.as_ref().and_then(|word| word.expand(&lookup).ok()),
            is_default: index == graph.target,
            span: from.span,
        }
    });
    Ok(targets.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Setup;

    #[test]
    fn stages_are_listed_with_their_bases_and_descriptions() {
        let text = "ARG V=1.2\n# build compiles it\nFROM --platform=$BUILDPLATFORM golang:$V AS Build\n\
            # other words\nFROM build AS test\nFROM scratch\n";
        let source = crate::dockerfile::Source::new("Dockerfile", text);
        let dockerfile = crate::dockerfile::parse(source).expect(text);
        let options = Setup::default().target("test").options;
        let targets = targets(&dockerfile, &options).expect("the graph is sound");
        let found: Vec<_> = targets
            .iter()
            .map(|it| (it.name.as_deref(), it.description.as_deref(), &*it.base, it.is_default))
            .collect();
        let expected = [
            (Some("build"), Some("compiles it"), "golang:1.2", false),
            (Some("test"), None, "build", false),
            (None, None, "scratch", true),
        ];
        assert_eq!(found, expected);
        assert_eq!(targets[0].platform.as_deref(), Some("linux/amd64"));
    }
}
