//! What a test needs from the machine, and what happens when it is not there.
//!
//! At home the test is skipped and says why. With `CORACLE_MUST_WORK=1`, as CI sets it, it fails: a test that was never
//! run must not look like one that passed.

use std::io::Write;
use std::path::PathBuf;

/// Says that this test cannot run here, or fails if it has to.
///
/// What a passing test prints is not shown, so the reason also goes to `target/tmp/skipped`, which
/// `make test` shows at its end.
pub(crate) fn missing(what: &str) {
    let must_work = std::env::var_os("CORACLE_MUST_WORK").is_some_and(|value| value == "1");
    assert!(!must_work, "CORACLE_MUST_WORK=1, but {what}");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("skipped: {test}: {what}\n");
    let list = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped");
    // Somebody else may have built the tests: then there is only the test's own output.
    let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
    let _ = list.and_then(|mut file| file.write_all(line.as_bytes()));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Leaves the test when something is not there; otherwise gives the thing.
macro_rules! require {
    ($wanted:expr) => {
        match $wanted {
            Ok(value) => value,
            Err(reason) => return crate::support::requirement::missing(&reason),
        }
    };
}
pub(crate) use require;

/// Finds a program in `PATH` or in the administrator's directories, which a `PATH` may lack.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("the program {name} is not installed (scripts/setup installs it)"))
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `Ok` as root; some environments can only be made by root.
pub(crate) fn root() -> Result<(), String> {
    if is_root() { Ok(()) } else { Err("only root can set this test up".to_owned()) }
}
