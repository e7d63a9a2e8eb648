//! A Dockerfile: parsed, then planned, with no base image known and then with all of them.
//!
//! What follows a line `%%` is an ONBUILD trigger of every base image.

#![no_main]

use coracle::dockerfile::{Dockerfile, Source, Span, parse, parse_instruction};
use coracle::oci::ImageConfig;
use coracle::plan::{Bases, PlanError, PlanOptions, missing_bases, plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split("\n%%\n");
    let source = Source::new("Dockerfile", parts.next().unwrap_or_default());
    let triggers: Vec<String> = parts.map(str::to_owned).collect();
    for trigger in &triggers {
        let source = Source::new("ONBUILD", trigger);
        for error in parse_instruction(&source).err().unwrap_or_default() {
            check(&source, error.span);
        }
    }
    let dockerfile = match parse(source.clone()) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal without a reason");
            for error in errors {
                check(&source, error.span);
                check(&source, error.instruction);
                let _ = (error.to_string(), error.hint());
            }
            return;
        }
    };
    for warning in &dockerfile.warnings {
        check(&source, warning.span);
    }
    for stage in &dockerfile.stages {
        check(&source, stage.span);
        for instruction in &stage.instructions {
            check(&source, instruction.span());
        }
    }
    let options = PlanOptions {
        build_platform: "linux/amd64".parse().expect("a platform"),
        ..PlanOptions::default()
    };
    complain(&source, plan(&dockerfile, &options, &Bases::new()).err().unwrap_or_default());
    plan_with_bases(&dockerfile, &options, &triggers);
});

fn plan_with_bases(dockerfile: &Dockerfile, options: &PlanOptions, triggers: &[String]) {
    let mut bases = Bases::new();
    // Triggers may name further images, but each of them only once.
    loop {
        match missing_bases(dockerfile, options, &bases) {
            Err(errors) => return complain(&dockerfile.source, errors),
            Ok(missing) if missing.is_empty() => break,
            Ok(missing) => {
                for it in missing {
                    check(&dockerfile.source, it.span);
                    let mut config =
                        ImageConfig { platform: it.base.platform.clone(), ..Default::default() };
                    config.config.env = vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()];
                    config.config.on_build = triggers.to_vec();
                    assert!(bases.insert(it.base, config).is_none(), "asked for twice");
                }
            }
        }
    }
    match plan(dockerfile, options, &bases) {
        Err(errors) => complain(&dockerfile.source, errors),
        Ok(plan) => {
            assert!(!plan.stages.is_empty(), "a plan has a target");
            for warning in &plan.warnings {
                check(&dockerfile.source, warning.span);
            }
            for stage in &plan.stages {
                let layers = stage.config.history.iter().filter(|it| !it.empty_layer).count();
                assert!(layers >= stage.steps.len(), "a step without history");
                for step in &stage.steps {
                    check(&dockerfile.source, step.span);
                    assert!(!step.title.contains('\n'), "a title of several lines");
                }
            }
        }
    }
}

fn complain(source: &Source, errors: Vec<PlanError>) {
    for error in errors {
        check(source, error.span);
        let _ = (error.to_string(), error.hint());
    }
}

#[track_caller]
fn check(source: &Source, span: Span) {
    let text = source.text().get(span.start..span.end);
    assert!(text.is_some(), "{span:?} is not in a text of {} bytes", source.text().len());
}
