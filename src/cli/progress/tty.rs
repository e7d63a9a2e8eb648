//! Redraws what is running, on a terminal; what has ended scrolls away above it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::progress::seconds;
use crate::oci::Digest;
use crate::progress::Event;
use crate::progress::Progress;
use crate::progress::TaskId;

/// One line for each running task, with the last thing that it said.
#[derive(Debug)]
pub(crate) struct Tty {
    screen: MultiProgress,
    tasks: Mutex<BTreeMap<TaskId, Shown>>,
}

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    title: String,
    cached: bool,
    blobs: BTreeMap<Digest, (u64, u64)>,
}

impl Tty {
    pub(crate) fn new() -> Self {
        Self { screen: MultiProgress::new(), tasks: Mutex::default() }
    }

    fn start(&self, title: String) -> Shown {
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg:.dim}")
            .expect("the template is a constant");
        let bar = self.screen.add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(title.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        Shown { bar, title, cached: false, blobs: BTreeMap::new() }
    }

    fn print(&self, line: String) {
        // Nobody is left to tell when the terminal is gone.
        let _ = self.screen.println(line);
    }
}

impl Progress for Tty {
    fn report(&self, event: Event) {
        let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Planned { .. } => {}
            Event::Started { task, title } => {
                tasks.insert(task, self.start(title));
            }
            Event::Cached(task) => {
                if let Some(shown) = tasks.get_mut(&task) {
                    shown.cached = true;
                }
            }
            Event::Output { task, bytes } => {
                let text = String::from_utf8_lossy(&bytes);
                let last = text.lines().rev().find(|line| !line.trim().is_empty());
                if let (Some(shown), Some(line)) = (tasks.get(&task), last) {
                    shown.bar.set_message(printable(line));
                }
            }
            Event::Transfer { task, blob, done, total } => {
                if let Some(shown) = tasks.get_mut(&task) {
                    shown.blobs.insert(blob, (done, total));
                    shown.bar.set_message(shown.transferred());
                }
            }
            Event::Note { task, text } => {
                if let Some(shown) = tasks.get(&task) {
                    shown.bar.set_message(printable(&text));
                }
            }
            Event::Finished { task, took } => {
                if let Some(shown) = tasks.remove(&task) {
                    shown.bar.finish_and_clear();
                    let end = if shown.cached { "CACHED".to_owned() } else { seconds(took) };
                    self.print(format!("✓ {}  {end}", shown.title));
                }
            }
            Event::Failed(task) => {
                if let Some(shown) = tasks.remove(&task) {
                    shown.bar.finish_and_clear();
                    self.print(format!("✗ {}", shown.title));
                }
            }
            Event::Warning(text) => self.print(format!("warning: {text}")),
        }
    }
}

impl Shown {
    fn transferred(&self) -> String {
        let done = self.blobs.values().map(|(done, _)| done).sum();
        let total = self.blobs.values().map(|(_, total)| total).sum();
        format!("{} of {}", HumanBytes(done), HumanBytes(total))
    }
}

/// `line` without control characters: a step's output must not steer the terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
