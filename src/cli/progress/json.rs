//! A JSON object a line: for programs that show the progress themselves.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::progress::Event;
use crate::progress::Progress;

/// Writes every event as one object on one line of standard error.
#[derive(Debug)]
pub(crate) struct Json;

impl Progress for Json {
    fn report(&self, event: Event) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{}", object(event));
    }
}

/// The event as an object: `event` names it, `task` is the number of the task it belongs to.
fn object(event: Event) -> Value {
    match event {
        Event::Planned { steps } => json!({"event": "planned", "steps": steps}),
        Event::Started { task, title } => {
            json!({"event": "started", "task": task.0, "title": title})
        }
        Event::Cached(task) => json!({"event": "cached", "task": task.0}),
        Event::Output { task, bytes } => {
            json!({"event": "output", "task": task.0, "text": String::from_utf8_lossy(&bytes)})
        }
        Event::Transfer { task, blob, done, total } => json!({
            "event": "transfer", "task": task.0, "blob": blob.to_string(),
            "done": done, "total": total,
        }),
        Event::Note { task, text } => json!({"event": "note", "task": task.0, "text": text}),
        Event::Finished { task, took } => {
            json!({"event": "finished", "task": task.0, "seconds": took.as_secs_f64()})
        }
        Event::Failed(task) => json!({"event": "failed", "task": task.0}),
        Event::Warning(text) => json!({"event": "warning", "text": text}),
    }
}
