//! Holds the shape of the crate: who may use whom, what is pure, how long a file may be.
//!
//! The tables below *are* the architecture. Changing a line is a decision that a reviewer sees.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may use. A module comes after all that it uses.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("http", &[]),
    ("oci", &[]),
    ("dockerfile", &[]),
    ("progress", &["oci"]),
    ("layer", &["oci", "sys"]),
    ("context", &["oci", "sys", "layer"]),
    ("plan", &["oci", "dockerfile"]),
    ("copy", &["oci", "dockerfile", "sys", "layer", "plan", "context"]),
    ("store", &["oci", "sys"]),
    ("sandbox", &["oci", "sys", "layer"]),
    ("registry", &["oci", "http"]),
    ("image", &["oci", "sys", "layer", "store"]),
    ("snapshot", &["oci", "sys", "layer", "store", "sandbox"]),
    ("cache", &["oci", "plan", "store"]),
    ("fetch", &["oci", "http", "progress", "layer", "context", "plan", "store"]),
    ("transfer", &["oci", "progress", "store", "registry"]),
    (
        "build",
        &[
            "oci",
            "dockerfile",
            "progress",
            "layer",
            "context",
            "plan",
            "copy",
            "store",
            "sandbox",
            "image",
            "snapshot",
            "cache",
            "fetch",
            "transfer",
            "registry",
        ],
    ),
    (
        "cli",
        &[
            "sys",
            "oci",
            "dockerfile",
            "progress",
            "layer",
            "context",
            "plan",
            "copy",
            "store",
            "sandbox",
            "image",
            "snapshot",
            "cache",
            "fetch",
            "transfer",
            "registry",
            "build",
        ],
    ),
];

/// Files and directories that do no I/O and read no clock and no environment.
const PURE: &[&str] = &[
    "src/oci",
    "src/dockerfile",
    "src/plan",
    "src/cache/key.rs",
    "src/context/ignore.rs",
    "src/context/glob.rs",
    "src/image/assemble.rs",
    "src/registry/challenge.rs",
    "src/sandbox/advice.rs",
    "src/sandbox/choice.rs",
    "src/sandbox/spec.rs",
    "src/sandbox/user.rs",
];

/// What a pure file must not mention.
const IMPURE: &[&str] = &[
    "std::fs",
    "env::var",
    "env::args",
    "env::current",
    "TcpStream",
    "UdpSocket",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "File::open",
    "rustix::",
    "tokio::",
    "reqwest::",
];

/// Lines before the tests.
const LONGEST_FILE: usize = 500;

fn sources(directory: &Path) -> Vec<PathBuf> {
    if directory.is_file() {
        return vec![directory.to_owned()];
    }
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !is_for_tests(path))
        .collect();
    files.sort();
    files
}

/// Whether a file of `src` is compiled for unit tests alone.
fn is_for_tests(path: &Path) -> bool {
    const NAMES: [&str; 5] = ["tests", "tests.rs", "testing.rs", "fixture.rs", "memory.rs"];
    path.components().any(|part| NAMES.iter().any(|name| part.as_os_str() == *name))
        && path.starts_with(root().join("src"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The part of a file that is not its unit tests.
fn product(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("sources are readable");
    let mut product = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_module = |next: &&str| next.contains("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(opens_module) {
            break;
        }
        product.push_str(line);
        product.push('\n');
    }
    product
}

/// The module of ours that a path such as `src/oci/digest.rs` belongs to.
fn module(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root().join("src")).ok()?;
    let first = relative.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "main" | "lib")).then(|| name.to_owned())
}

/// The modules of ours that `text` names.
fn used(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names =
        code.flat_map(|line| line.match_indices("crate::").map(move |(at, _)| &line[at + 7..]));
    names
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for path in sources(&root().join("src")) {
        let Some(module) = module(&path) else { continue };
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module);
        let Some((_, allowed)) = allowed else {
            wrong.push(format!("{}: `{module}` is not in the table", path.display()));
            continue;
        };
        for name in used(&product(&path)) {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: `{module}` may not use `{name}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    for (index, (name, allowed)) in MAY_USE.iter().enumerate() {
        let earlier: Vec<&str> = MAY_USE[..index].iter().map(|(name, _)| *name).collect();
        for used in *allowed {
            assert!(
                earlier.contains(used),
                "`{name}` uses `{used}`, which does not come before it"
            );
        }
    }
}

#[test]
fn imports_are_one_module_a_line() {
    let braces = |path: &PathBuf| {
        product(path).lines().any(|line| {
            let line = line.trim_start();
            line.starts_with("use super::") || line.starts_with("use crate::{")
        })
    };
    let wrong: Vec<PathBuf> = sources(&root().join("src")).into_iter().filter(braces).collect();
    assert!(wrong.is_empty(), "write `use crate::module::…` in {wrong:?}");
}

#[test]
fn pure_files_do_no_io() {
    let mut wrong = Vec::new();
    for path in PURE.iter().flat_map(|name| sources(&root().join(name))) {
        let text = product(&path);
        let code: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in IMPURE {
            if code.iter().any(|line| line.contains(word)) {
                wrong.push(format!("{} mentions {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_long() {
    let lines = |path: &PathBuf| product(path).lines().count();
    let long: Vec<_> = sources(&root().join("src"))
        .into_iter()
        .filter(|path| lines(path) > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "over {LONGEST_FILE} lines without their tests: {long:?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |path: &PathBuf| !product(path).starts_with("//! ");
    let silent: Vec<PathBuf> = sources(&root().join("src")).into_iter().filter(silent).collect();
    assert!(silent.is_empty(), "the first line is not `//! …` in {silent:?}");
}

#[test]
fn only_sys_has_unsafe_code_and_only_cli_reads_the_environment() {
    for path in sources(&root().join("src")) {
        let module = module(&path).unwrap_or_default();
        let text = product(&path);
        let code: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let mentions = |word: &str| code.iter().any(|line| line.contains(word));
        assert!(module == "sys" || !mentions("unsafe {"), "unsafe in {}", path.display());
        let reads = mentions("env::var") || mentions("env::vars");
        assert!(module == "cli" || !reads, "the environment is read in {}", path.display());
    }
}

#[test]
fn every_registry_rule_has_a_test_or_a_reason() {
    let table = fs::read_to_string(root().join("testdata/registry-rules.md")).expect("the table");
    let mut tests = String::new();
    // Files for tests alone too, which `sources` leaves out.
    let roots = ["src", "tests"].map(|name| walkdir::WalkDir::new(root().join(name)));
    for entry in roots.into_iter().flatten().flatten() {
        let is_source = entry.path().extension().is_some_and(|it| it == "rs");
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        if !is_source {
            continue;
        }
        let names = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
        tests.extend(names.map(|(_, name)| format!("_{}\n", name.split('(').next().unwrap_or(""))));
    }
    let missing: Vec<String> = (1..=116)
        .map(|number| format!("{number:03}"))
        .filter(|number| !tests.contains(&format!("_b{number}_")))
        .filter(|number| !table.contains(&format!("| B{number} |")))
        .collect();
    assert!(missing.is_empty(), "no test and no reason: {missing:?}");
}
