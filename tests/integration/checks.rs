//! `coracle lint` and `coracle build --check`, `--call=outline` and `--call=targets`.
//!
//! The Dockerfiles are in `testdata/checks`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::Coracle;
use crate::support::Registry;
use crate::support::Scratch;
use crate::support::base;
use crate::support::coracle::Output;
use crate::support::requirement::require;

/// The Dockerfiles of one directory, by name.
fn dockerfiles(directory: &str) -> Vec<(String, PathBuf)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/checks").join(directory);
    let entries = fs::read_dir(directory).expect("testdata is there");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "Dockerfile"))
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    found.sort();
    found
}

fn lint(coracle: &Coracle, path: &Path, options: &[&str]) -> Output {
    let context = path.parent().expect("a directory").display().to_string();
    let file = path.display().to_string();
    coracle.run(&[&["lint", "--file", &file], options, &[&context]].concat())
}

/// Lints this text.
fn lint_text(coracle: &Coracle, text: &str, options: &[&str]) -> Output {
    let context = Scratch::new();
    let path = context.write("Dockerfile", text);
    lint(coracle, &path, options)
}

#[test]
fn a163_each_check_reports_a_dockerfile_that_breaks_it() {
    let coracle = require!(Coracle::new());
    let registry = require!(Registry::open());
    require!(base::push_busybox(&registry));
    let mirror = registry.as_docker_hub();
    let broken = dockerfiles("broken");
    assert_eq!(broken.len(), 22, "one for each check");
    for (rule, path) in broken {
        let platform = ["--pull", "--platform=linux/arm64", "--registry-mirror", &mirror];
        let options: &[&str] = match &*rule {
            "InvalidDefaultArgInFrom" => &["--build-arg=TAG=1"],
            "InvalidBaseImagePlatform" => &platform,
            _ => &[],
        };
        let expected = fs::read_to_string(path.with_extension("txt")).expect("the report");
        let found = lint(&coracle, &path, options).ok().stdout;
        assert_eq!(found, expected, "{rule}");
        let rules = found.lines().filter_map(|line| line.strip_prefix("warning: "));
        let rules: Vec<&str> = rules.filter_map(|it| Some(it.split_once(':')?.0)).collect();
        assert!(!rules.is_empty() && rules.iter().all(|it| *it == rule), "{rule}: {rules:?}");
    }
}

#[test]
fn a163_nothing_is_said_of_clean_dockerfiles() {
    let coracle = require!(Coracle::new());
    let clean = dockerfiles("clean");
    assert_eq!(clean.len(), 20);
    for (name, path) in clean {
        assert_eq!(lint(&coracle, &path, &[]).ok().stdout, "no warnings\n", "{name}");
    }
}

#[test]
fn a164_the_exit_code_is_that_of_a_wrong_dockerfile_only_if_it_says_so() {
    let coracle = require!(Coracle::new());
    let text = "FROM scratch as out\nMAINTAINER me\n";
    lint_text(&coracle, text, &[]).ok();
    let fatal = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true";
    let words = ["lint violation found for rules: FromAsCasing, MaintainerDeprecated"];
    lint_text(&coracle, text, &[fatal]).fails(2, &words);
    lint_text(&coracle, &format!("# check=error=true\n{text}"), &[]).fails(2, &words);
    let skip = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=all;error=true";
    lint_text(&coracle, &format!("# check=nonsense\n{text}"), &[skip]).ok();
    let wrong = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skp=all";
    lint_text(&coracle, text, &[wrong]).fails(2, &["invalid check option \"skp\""]);
}

#[test]
fn a163_mistakes_and_remarks_come_together() {
    let coracle = require!(Coracle::new());
    let text = "FROM scratch AS Out\nRUNN x\nCOPY --chwon=1 a b\nENV a\n";
    let words = [
        "StageNameCasing",
        "did you mean RUN?",
        "did you mean chown?",
        "ENV must have two arguments",
        "3 errors, 1 warning",
    ];
    lint_text(&coracle, text, &[]).fails(2, &words);
}

#[test]
fn a163_json_has_buildkits_keys() {
    let coracle = require!(Coracle::new());
    let text = "FROM scratch AS Out\nBADCMD\n";
    let output = lint_text(&coracle, text, &["--format=json"]).fails(2, &[]);
    let report: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let warning = &report["warnings"][0];
    assert_eq!(warning["ruleName"], "StageNameCasing");
    assert_eq!(warning["detail"], "Stage name 'Out' should be lowercase");
    assert_eq!(warning["location"]["ranges"][0]["start"]["line"], 1);
    let message = "dockerfile parse error on line 2: unknown instruction: BADCMD";
    assert_eq!(report["buildError"]["message"], message);
}

#[test]
fn a163_sarif_has_what_its_schema_requires() {
    let coracle = require!(Coracle::new());
    let text = "FROM scratch as out\nENV TOKEN $X\nEXPOSE x\n";
    let output = lint_text(&coracle, text, &["--format=sarif"]).fails(2, &[]);
    let report: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(report["version"], "2.1.0");
    let run = &report["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "coracle");
    let rules = driver["rules"].as_array().expect("rules");
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 5);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("fits");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(result["message"]["text"].as_str().is_some_and(|it| !it.is_empty()));
        assert!(["warning", "error"].contains(&result["level"].as_str().expect("a level")));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
        assert!(place["region"]["startLine"].as_u64().is_some_and(|it| it >= 1));
        assert!(place["region"]["startColumn"].as_u64().is_some_and(|it| it >= 1));
    }
}

#[test]
fn nothing_is_built_for_a_list_of_targets_or_an_outline() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    let text = "\
# build compiles it
FROM nowhere.example.org/golang AS build
# FLAGS go to the compiler
ARG FLAGS=-v
RUN --mount=type=secret,id=token,required=true x
FROM scratch
COPY --from=build / /
";
    context.write("Dockerfile", text);
    let directory = context.path().display().to_string();
    let run = |options: &[&str]| coracle.run(&[&["build"], options, &[&directory]].concat());
    let targets = run(&["--call=targets"]).ok().stdout;
    assert!(
        targets.contains("build                nowhere.example.org/golang  compiles it"),
        "{targets}"
    );
    assert!(targets.contains("(no name) (default)  scratch"), "{targets}");
    let outline = run(&["--call=outline,format=json"]).ok().stdout;
    let outline: Value = serde_json::from_str(&outline).expect("JSON");
    assert_eq!(outline["args"][0]["name"], "FLAGS");
    assert_eq!(outline["args"][0]["description"], "go to the compiler");
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(outline["secrets"][0]["required"], true);
    run(&["--call=targets", "--target=x"]).ok();
    run(&["--call=outline", "--target=biuld"]).fails(2, &["did you mean build?"]);
    run(&["--check", "--push"]).fails(2, &["--push"]);
    run(&["--format=json"]).fails(2, &["--check"]);
    run(&["--call=outline", "--format=sarif"]).fails(2, &["SARIF"]);
    coracle.assert_nothing_left();
}

#[test]
fn warnings_of_a_build_come_once_at_its_end_and_not_at_all_in_quiet() {
    let coracle = require!(Coracle::new());
    let context = Scratch::new();
    context.write("Dockerfile", "FROM scratch\nCMD run\nMAINTAINER me\nCOPY Dockerfile /\n");
    let directory = context.path().display().to_string();
    let output = coracle.run(&["build", &directory]).ok();
    let end = output.stderr.find("2 warnings in the Dockerfile").expect("a count");
    assert!(output.stderr.find("time ").is_some_and(|it| it < end), "{output}");
    assert_eq!(output.text().matches("MaintainerDeprecated").count(), 1, "{output}");
    assert!(output.stderr.contains("Dockerfile:2: JSONArgsRecommended"), "{output}");
    let output = coracle.run(&["build", "--progress=quiet", &directory]).ok();
    assert_eq!(output.stderr, "");
}
