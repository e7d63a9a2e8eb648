//! What the tests of this module share: from the text of a Dockerfile to its plan.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dockerfile::{Dockerfile, Source};
use crate::oci::ImageConfig;
use crate::plan::{
    Bases, Plan, PlanError, PlanOptions, PlannedStage, RunStep, StepKind, missing_bases, plan,
};

/// A command line, and a registry in which every image is known.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The command line.
    pub(crate) options: PlanOptions,
    /// The `config` of images, by their familiar names. Others have a `PATH` and a `CMD`.
    images: BTreeMap<String, Value>,
}

impl Default for Setup {
    fn default() -> Self {
        let options = PlanOptions {
            build_platform: "linux/amd64".parse().expect("a platform"),
            ..PlanOptions::default()
        };
        Self { options, images: BTreeMap::new() }
    }
}

impl Setup {
    /// With a build argument.
    pub(crate) fn build_arg(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a target.
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.options.target = Some(target.to_owned());
        self
    }

    /// With a platform.
    pub(crate) fn platform(mut self, platform: &str) -> Self {
        self.options.platform = Some(platform.parse().expect("a platform"));
        self
    }

    /// With an image whose config says `config`.
    pub(crate) fn image(mut self, name: &str, config: Value) -> Self {
        self.images.insert(format!("{name}:latest"), config);
        self
    }

    /// Plans, giving the configs that are asked for.
    pub(crate) fn plan(&self, text: &str) -> Result<Plan, Vec<PlanError>> {
        let dockerfile = parse(text);
        let mut bases = Bases::new();
        loop {
            let missing = missing_bases(&dockerfile, &self.options, &bases)?;
            if missing.is_empty() {
                return plan(&dockerfile, &self.options, &bases);
            }
            for it in missing {
                let config = self.images.get(&it.base.reference.familiar());
                let config = config.cloned().unwrap_or(json!({"Env": [PATH], "Cmd": ["sh"]}));
                let document = json!({
                    "os": it.base.platform.os,
                    "architecture": it.base.platform.architecture,
                    "variant": it.base.platform.variant,
                    "config": config,
                    "rootfs": {"type": "layers", "diff_ids": []},
                    "history": [{"created_by": "the base"}],
                });
                let config: ImageConfig = serde_json::from_value(document).expect("a config");
                bases.insert(it.base, config);
            }
        }
    }

    /// The target.
    #[track_caller]
    pub(crate) fn target_of(&self, text: &str) -> PlannedStage {
        self.plan(text).expect(text).stages.pop().expect("a target")
    }

    /// What the history of the target says after that of the base.
    #[track_caller]
    pub(crate) fn history(&self, text: &str) -> Vec<String> {
        let target = self.target_of(text);
        let own = target.config.history.into_iter().skip(target.inherited_history);
        own.map(|entry| entry.created_by.unwrap_or_default()).collect()
    }

    /// The `RUN`s of the target.
    #[track_caller]
    pub(crate) fn runs(&self, text: &str) -> Vec<RunStep> {
        let steps = self.target_of(text).steps.into_iter();
        let run = |kind| if let StepKind::Run(run) = kind { Some(run) } else { None };
        steps.filter_map(|step| run(step.kind)).collect()
    }

    /// `line: message` for each error.
    #[track_caller]
    pub(crate) fn errors(&self, text: &str) -> Vec<String> {
        let dockerfile = parse(text);
        let errors = self.plan(text).expect_err(text);
        let line = |error: &PlanError| dockerfile.source.line(error.span.start);
        errors.iter().map(|error| format!("{}: {error}", line(error))).collect()
    }
}

/// The usual `PATH`.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[track_caller]
fn parse(text: &str) -> Dockerfile {
    crate::dockerfile::parse(Source::new("Dockerfile", text)).expect(text)
}
