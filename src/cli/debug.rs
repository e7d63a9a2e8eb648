//! `--debug` and `CORACLE_DEBUG`: what goes on, a line each, for whoever looks for a fault.

use std::borrow::Cow;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use crate::cli::args::GlobalArguments;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::registry::Log;

/// The name of standard error in the place of a file.
const STDERR: &str = "-";

/// Where the lines go: a file, or [`STDERR`]; `None` if nobody wants them.
fn place<'a>(global: &'a GlobalArguments, environment: &'a Environment) -> Option<Cow<'a, Path>> {
    if let Some(path) = &global.debug {
        return Some(Cow::Borrowed(path));
    }
    match environment.text("CORACLE_DEBUG")? {
        "0" => None,
        "1" => Some(Cow::Borrowed(Path::new(STDERR))),
        path => Some(Cow::Owned(path.into())),
    }
}

/// Whether the lines go where progress is shown too.
pub(crate) fn is_on_stderr(global: &GlobalArguments, environment: &Environment) -> bool {
    place(global, environment).is_some_and(|path| &*path == Path::new(STDERR))
}

/// Opens the place. Lines begin with the seconds since then.
pub(crate) fn open(global: &GlobalArguments, environment: &Environment) -> Result<Log, Failure> {
    let Some(path) = place(global, environment) else { return Ok(Log::default()) };
    let begun = Instant::now();
    let stamped = move |line: &str| format!("[{:9.3}] {line}\n", begun.elapsed().as_secs_f64());
    if &*path == Path::new(STDERR) {
        return Ok(Log::to(move |line| {
            // Nobody is left to tell when standard error is closed.
            let _ = std::io::stderr().lock().write_all(stamped(line).as_bytes());
        }));
    }
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(&path).map_err(|error| {
        let title = format!("cannot write `{}`", path.display());
        Failure::new(Exit::Usage, Diagnostic::new(title).note("cause", error.to_string()))
    })?;
    let file: Mutex<File> = Mutex::new(file);
    Ok(Log::to(move |line| {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not end what it tells of.
        let _ = file.write_all(stamped(line).as_bytes());
    }))
}

/// The last line: what the program took of the machine.
pub(crate) fn close(log: &Log) {
    log.tell(|| match peak_memory() {
        Some(kibibytes) => format!("ends; peak memory {kibibytes} KiB"),
        None => "ends".to_owned(),
    });
}

/// The most memory that this process has had, in KiB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
