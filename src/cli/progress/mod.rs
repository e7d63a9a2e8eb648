//! Shows a build's events to a person, a log, or another program.

mod json;
mod plain;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;

use crate::cli::args::ProgressMode;
use crate::progress::Progress;
use crate::progress::Silent;

/// The display that `mode` asks for. Everything goes to standard error: standard output is data.
pub(crate) fn display(mode: ProgressMode) -> Arc<dyn Progress> {
    match mode {
        ProgressMode::Auto if std::io::stderr().is_terminal() => Arc::new(tty::Tty::new()),
        ProgressMode::Tty => Arc::new(tty::Tty::new()),
        ProgressMode::Auto | ProgressMode::Plain => Arc::new(plain::Plain::new()),
        ProgressMode::Json => Arc::new(json::Json),
        ProgressMode::Quiet => Arc::new(Silent),
    }
}

/// A duration as people read it.
fn seconds(duration: std::time::Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
