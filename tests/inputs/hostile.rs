//! Texts that would take forever or fill the memory, if nobody had thought of them.
//!
//! Nothing here measures time: a test that hangs is ended by the runner, and one that needs more
//! memory than there is does not pass. Many of these began as an input of a fuzz target.

use coracle::context::glob::Glob;
use coracle::context::ignore::Patterns;
use coracle::dockerfile::{Dockerfile, Source, parse};
use coracle::oci::{ImageConfig, ImagePath};
use coracle::plan::{Bases, Plan, PlanOptions, missing_bases, plan};

fn file(text: &str) -> Result<Dockerfile, Vec<String>> {
    parse(Source::new("Dockerfile", text))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The plan, where all base images are known and have one trigger.
fn planned(text: &str, trigger: Option<&str>) -> Result<Plan, Vec<String>> {
    let dockerfile = file(text)?;
    let options = PlanOptions {
        build_platform: "linux/amd64".parse().expect("a platform"),
        ..PlanOptions::default()
    };
    let mut bases = Bases::new();
    let result = loop {
        match missing_bases(&dockerfile, &options, &bases) {
            Ok(missing) if missing.is_empty() => break plan(&dockerfile, &options, &bases),
            Ok(missing) => bases.extend(missing.into_iter().map(|it| {
                let mut config = ImageConfig::default();
                config.config.on_build.extend(trigger.map(str::to_owned));
                (it.base, config)
            })),
            Err(errors) => break Err(errors),
        }
    };
    result.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    match planned(text, None) {
        Ok(_) => panic!("it can be planned"),
        Err(errors) => {
            let fits = errors[0].ends_with(expected);
            assert!(fits, "{}", &errors[0][errors[0].len().saturating_sub(200)..]);
        }
    }
}

#[test]
fn a001_a_line_of_64_kib_is_one_too_long() {
    check(
        &format!("FROM scratch\nRUN {}\n", "x".repeat(65_536)),
        "dockerfile line greater than max allowed size of 65535",
    );
    // Lines that go on may be longer together.
    let long = format!("FROM scratch\nRUN {}x\n", "x\\\n".repeat(100_000));
    assert_eq!(file(&long).expect("valid").stages[0].instructions.len(), 1);
}

#[test]
fn ten_thousand_substitutions_within_each_other_are_refused() {
    let limit = "substitutions are nested more than 100 levels deep";
    for open in ["${A:-", "${A+", "${A#", "${A/", "\"${A:-\""] {
        check(&format!("FROM scratch\nWORKDIR {}\n", open.repeat(60_000 / open.len())), limit);
    }
    check(&format!("FROM {}\n", "${A:-".repeat(10_000)), limit);
}

#[test]
fn an_env_that_doubles_itself_meets_its_limit() {
    let doubling = "ENV A=$A$A\n".repeat(60);
    let text = format!("FROM scratch\nENV A=x\n{doubling}");
    check(&text, "value is larger than 16777216 bytes");
}

#[test]
fn a_heredoc_of_a_megabyte_is_expanded_in_one_pass() {
    let line = "text $A ${A:-b} $UNSET ${U_X} \\$A 'quoted' \"$A\"\n";
    let body = line.repeat((1 << 20) / line.len());
    let text = format!("FROM scratch\nENV A=1\nCOPY <<E /a\n{body}E\nRUN <<E\n{body}E\n");
    assert_eq!(planned(&text, None).expect("valid").stages[0].steps.len(), 2);
    // Each of them unknown, and each another one.
    let names: String = (0..100_000).map(|index| format!("$n{index}\n")).collect();
    let text = format!("FROM scratch\nCOPY <<E /a\n{names}E\n");
    let warnings = planned(&text, None).expect("valid").warnings;
    assert_eq!(warnings.len(), 100_000);
}

#[test]
fn a095_triggers_within_triggers_are_refused() {
    let chained = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
    let onbuild = "ONBUILD ".repeat(8_000);
    check(&format!("FROM scratch\n{onbuild}RUN <<E\na\nE\n"), chained);
    let plan = |trigger: &str| planned("FROM base\n", Some(trigger)).map(|it| it.stages.len());
    assert_eq!(plan("ONBUILD RUN <<E\na\nE"), Err(vec![chained.to_owned()]));
    assert_eq!(plan(&format!("{onbuild}RUN a")), Err(vec![chained.to_owned()]));
    assert_eq!(plan("RUN <<E\nONBUILD RUN <<F\nF\nE"), Ok(1));
    assert_eq!(plan("RUN <<E\na"), Err(vec!["unterminated heredoc".to_owned()]));
    let inner = "ONBUILD COPY <<E /a\nRUN <<F\nF\nE\n".repeat(1_000);
    let text = format!("FROM scratch AS p\n{inner}FROM p\n");
    assert_eq!(planned(&text, None).expect("valid").stages[1].steps.len(), 1_000);
}

#[test]
fn many_of_anything_are_found_at_once() {
    let many = |line: &dyn Fn(usize) -> String| (0..5_000).map(line).collect::<String>();
    let check = |text: &str| {
        let _ = planned(text, None);
    };
    check(&("FROM scratch\n".to_owned() + &many(&|i| format!("ENV A{i}=$A{}\n", i.max(1) - 1))));
    check(&(many(&|i| format!("ARG A{i}\n")) + &many(&|i| format!("FROM x:$B{i}\n"))));
    check(&many(&|i| format!("FROM x{i} AS s{i}\nCOPY --from=s{} a b\n", i + 1)));
    check(&many(&|i| format!("FROM x{i} AS s{i}\nCOPY --from={} a b\n", i + 1)));
    check(&("FROM scratch\n".to_owned() + &many(&|_| "# check=skip=A\nMAINTAINER a\n".to_owned())));
    check(&("FROM scratch\n".to_owned() + &many(&|_| "RUN <<E\nE\n".to_owned())));
    let mistakes = file(&many(&|_| "QUUX\n".to_owned())).expect_err("all of it");
    assert_eq!(mistakes.len(), 5_000);
}

#[test]
fn a147_deep_patterns_are_matched_without_going_back() {
    let deep = "a/".repeat(1_000);
    for pattern in ["**/", "**/a/", "*/", "a/**/", "**/*a*/"] {
        let pattern = format!("{}b", pattern.repeat(200));
        let glob = Glob::with_double_stars(&pattern).expect("well formed");
        assert!(!glob.matches(deep.as_bytes()), "{pattern:.20}");
        let patterns = Patterns::parse(&pattern).expect("well formed");
        assert!(!patterns.of(&ImagePath::new(&deep[..200])).excluded(), "{pattern:.20}");
    }
    let stars = "*a".repeat(500) + "b";
    assert!(!Glob::new(&stars).expect("well formed").matches("a".repeat(2_000).as_bytes()));
}
