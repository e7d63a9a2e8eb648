//! Draws an error: what is wrong, the Dockerfile line with a caret, the causes, and what to do.
//!
//! Every error of the library ends here, and nowhere else is one printed.

use std::error::Error;
use std::io::IsTerminal as _;
use std::io::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::cli::exit::Exit;
use crate::dockerfile::Source;
use crate::dockerfile::Span;

/// A failed command: its exit code and what to print, in order.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For whoever called the program.
    pub(crate) exit: Exit,
    /// For the person in front of it. Empty when everything has been said already.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// A failure with one thing to say.
    pub(crate) fn new(exit: Exit, diagnostic: Diagnostic) -> Self {
        Self { exit, diagnostics: vec![diagnostic] }
    }

    /// The same failure, with more to say.
    pub(crate) fn map_diagnostic(self, more: impl Fn(Diagnostic) -> Diagnostic) -> Self {
        Self { diagnostics: self.diagnostics.into_iter().map(more).collect(), ..self }
    }

    /// A failure with an error that knows no Dockerfile line.
    pub(crate) fn from_error(exit: Exit, error: &dyn Error, hint: Option<String>) -> Self {
        Self::new(exit, Diagnostic::of(error).hinted(hint))
    }
}

/// One error, ready to be drawn.
#[derive(Debug, Default)]
pub(crate) struct Diagnostic {
    title: String,
    is_warning: bool,
    place: Option<(Source, Span)>,
    notes: Vec<(&'static str, String)>,
    hint: Option<String>,
}

impl Diagnostic {
    /// Something that is wrong, in the words of this program.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Something that works, but should not be so.
    pub(crate) fn warning(title: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::new(title) }
    }

    /// An error and its chain of causes.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let mut diagnostic = Self::new(error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            diagnostic.notes.push(("cause", error.to_string()));
            cause = error.source();
        }
        diagnostic
    }

    /// Puts `text` before what is wrong.
    pub(crate) fn prefixed(mut self, text: &str) -> Self {
        self.title.insert_str(0, text);
        self
    }

    /// Where in a Dockerfile.
    pub(crate) fn at(mut self, source: &Source, span: Span) -> Self {
        self.place = Some((source.clone(), span));
        self
    }

    /// What to do about it.
    pub(crate) fn hinted(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Evidence, such as the last lines of a command's output.
    pub(crate) fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((label, text.into()));
        self
    }

    /// The text, as lines without a newline at the end.
    pub(crate) fn render(&self, renderer: &Renderer) -> String {
        let level = if self.is_warning { Level::WARNING } else { Level::ERROR };
        let mut group: Group<'_> = Group::with_title(level.primary_title(&*self.title));
        if let Some((source, span)) = &self.place {
            let text = source.text();
            let start = span.start.min(text.len());
            let end = span.end.clamp(start, text.len());
            // A trailing newline would draw the line after the instruction as well.
            let end = start + text[start..end].trim_end().len();
            let annotation = AnnotationKind::Primary.span(start..end);
            group = group.element(Snippet::source(text).path(source.name()).annotation(annotation));
        }
        for (label, text) in &self.notes {
            group = group.element(Level::NOTE.with_name(*label).message(&**text));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(&**hint));
        }
        renderer.render(&[group])
    }
}

/// Prints `diagnostics` on standard error, with colour if it is a terminal that wants it.
pub(crate) fn print(diagnostics: &[Diagnostic], colour: bool) {
    let colour = colour && std::io::stderr().is_terminal();
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut stderr = std::io::stderr().lock();
    let texts: Vec<String> = diagnostics.iter().map(|it| it.render(&renderer)).collect();
    if !texts.is_empty() {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(stderr, "{}", texts.join("\n\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_its_evidence_and_the_way_out() {
        let source = Source::new("Dockerfile", "FROM busybox\nRUN aptget update\nRUN true\n");
        let diagnostic = Diagnostic::new("step 1 of 2 failed: command exited with status 127")
            .at(&source, Span::new(13..30))
            .note("output", "/bin/sh: aptget: not found")
            .hinted(Some("did you mean `apt-get`?".to_owned()));
        let expected = "\
error: step 1 of 2 failed: command exited with status 127
 --> Dockerfile:2:1
  |
2 | RUN aptget update
  | ^^^^^^^^^^^^^^^^^
  |
  = output: /bin/sh: aptget: not found
  = hint: did you mean `apt-get`?";
        assert_eq!(diagnostic.render(&Renderer::plain()), expected);
    }
}
