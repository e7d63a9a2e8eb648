//! A line for each event, in order: for logs of CI systems.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;

use crate::cli::progress::seconds;
use crate::progress::Event;
use crate::progress::Progress;
use crate::progress::TaskId;

/// Writes `#N` before each line that belongs to the N-th task.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Tasks by their name in events: number, whether it was cached, output without its newline.
    tasks: BTreeMap<TaskId, Shown>,
    started: usize,
}

#[derive(Debug, Default)]
struct Shown {
    number: usize,
    cached: bool,
    line: Vec<u8>,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Progress for Plain {
    fn report(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut lines = Vec::new();
        state.show(event, &mut lines);
        if !lines.is_empty() {
            // Nobody is left to tell when standard error is closed.
            let _ = std::io::stderr().lock().write_all(&lines);
        }
    }
}

impl State {
    /// Appends the text for `event` to `lines`.
    fn show(&mut self, event: Event, lines: &mut Vec<u8>) {
        match event {
            Event::Planned { .. } | Event::Transfer { .. } => {}
            Event::Started { task, title } => {
                self.started += 1;
                let number = self.started;
                lines.extend_from_slice(format!("#{number} {title}\n").as_bytes());
                self.tasks.insert(task, Shown { number, ..Shown::default() });
            }
            Event::Cached(task) => {
                if let Some(shown) = self.tasks.get_mut(&task) {
                    shown.cached = true;
                }
            }
            Event::Output { task, bytes } => {
                if let Some(shown) = self.tasks.get_mut(&task) {
                    shown.output(&bytes, lines);
                }
            }
            Event::Note { task, text } => self.line(task, &text, lines),
            Event::Finished { task, took } => {
                let cached = self.tasks.get(&task).is_some_and(|shown| shown.cached);
                let text =
                    if cached { "CACHED".to_owned() } else { format!("done {}", seconds(took)) };
                self.end(task, &text, lines);
            }
            Event::Failed(task) => self.end(task, "failed", lines),
            Event::Warning(text) => {
                lines.extend_from_slice(format!("warning: {text}\n").as_bytes())
            }
        }
    }

    fn line(&self, task: TaskId, text: &str, lines: &mut Vec<u8>) {
        if let Some(shown) = self.tasks.get(&task) {
            lines.extend_from_slice(format!("#{} {text}\n", shown.number).as_bytes());
        }
    }

    fn end(&mut self, task: TaskId, text: &str, lines: &mut Vec<u8>) {
        if let Some(shown) = self.tasks.get_mut(&task).filter(|shown| !shown.line.is_empty()) {
            shown.output(b"\n", lines);
        }
        self.line(task, text, lines);
        self.tasks.remove(&task);
    }
}

impl Shown {
    /// Passes on every finished line, and keeps the rest for later.
    fn output(&mut self, bytes: &[u8], lines: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            // A command that never ends its line must not fill the memory.
            if piece.ends_with(b"\n") || self.line.len() > 64 * 1024 {
                lines.extend_from_slice(format!("#{} ", self.number).as_bytes());
                lines.extend_from_slice(&self.line);
                if !self.line.ends_with(b"\n") {
                    lines.push(b'\n');
                }
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_line_names_its_task_and_half_lines_wait() {
        let mut state = State::default();
        let mut lines = Vec::new();
        let [a, b] = [TaskId(7), TaskId(8)];
        let output = |task, text: &str| Event::Output { task, bytes: text.into() };
        for event in [
            Event::Started { task: a, title: "RUN a".into() },
            Event::Started { task: b, title: "RUN b".into() },
            output(a, "one\ntw"),
            output(b, "x\n"),
            output(a, "o\nthree"),
            Event::Cached(b),
            Event::Finished { task: b, took: Duration::ZERO },
            Event::Finished { task: a, took: Duration::from_millis(1500) },
        ] {
            state.show(event, &mut lines);
        }
        let expected =
            "#1 RUN a\n#2 RUN b\n#1 one\n#2 x\n#1 two\n#2 CACHED\n#1 three\n#1 done 1.5s\n";
        assert_eq!(String::from_utf8_lossy(&lines), expected);
    }
}
