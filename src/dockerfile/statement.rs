//! Statements: an instruction taken apart, but not yet understood.
//!
//! Every instruction has the same outer form: keyword, flags, operands, and perhaps heredocs whose
//! bodies follow. What the operands mean is the business of `parse_*`.

use std::ops::Range;

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::flag::{self, Flag, Flags, Known};
use crate::dockerfile::heredoc;
use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::line::{Fragment, Line, Lines};
use crate::dockerfile::split::{self, Json};
use crate::dockerfile::{CommandForm, Heredoc, Span};

/// An instruction's parts.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    /// What it is.
    pub(crate) keyword: Keyword,
    /// The keyword as written.
    pub(crate) name: Fragment<'a>,
    /// Everything behind the flags, without white space around it.
    pub(crate) operands: Fragment<'a>,
    /// Its heredocs, and the bytes of the line where each is announced.
    pub(crate) heredocs: Vec<(Range<usize>, Heredoc)>,
    /// All of it, heredocs included.
    pub(crate) span: Span,
    /// Comments directly above.
    pub(crate) comments: &'a [String],
    /// Everything behind the keyword.
    pub(crate) rest: Fragment<'a>,
    flags: Vec<Flag>,
}

impl<'a> Statement<'a> {
    /// Takes a line apart, and reads the bodies of its heredocs from `lines`.
    pub(crate) fn read(
        line: &'a Line,
        lines: &mut Lines<'_>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let (name, rest) = line.fragment().split_first(split::is_blank);
        let Some(keyword) = Keyword::parse(name.text()) else {
            findings.unknown_instruction(name.text(), name.span());
            return None;
        };
        let (flags, operands) = flag::split(rest);
        let mut statement = Self {
            keyword,
            name,
            operands,
            heredocs: Vec::new(),
            span: line.span,
            comments: &line.comments,
            rest,
            flags,
        };
        let may_have_heredocs = statement.may_have_heredocs();
        let is_stray = !may_have_heredocs && !heredoc::find(line.fragment()).is_empty();
        findings.note_heredoc(is_stray.then(|| keyword.name()));
        if may_have_heredocs {
            statement.read_heredocs(line, lines, findings)?;
        }
        Some(statement)
    }

    /// Whether this is an instruction, in a form, that has heredocs (rule A015).
    fn may_have_heredocs(&self) -> bool {
        let (keyword, operands) = match self.keyword {
            Keyword::OnBuild => {
                let (inner, rest) = self.operands.split_first(split::is_blank);
                (Keyword::parse(inner.text()), flag::split(rest).1)
            }
            keyword => (Some(keyword), self.operands),
        };
        keyword.is_some_and(Keyword::takes_heredocs) && split::json(operands) == Json::No
    }

    fn read_heredocs(
        &mut self,
        line: &'a Line,
        lines: &mut Lines<'_>,
        findings: &mut Findings,
    ) -> Option<()> {
        for word in heredoc::find(line.fragment()) {
            let Some(heredoc) = heredoc::read_body(&word, lines) else {
                let span = line.fragment().of_line(word.range).span();
                findings.error(ParseErrorKind::UnterminatedHeredoc { name: word.name }, span);
                return None;
            };
            self.span.end = lines.end_of_last_line();
            self.heredocs.push((word.range, heredoc));
        }
        Some(())
    }

    /// Its flags, of which it knows these.
    pub(crate) fn flags(&self, known: &[Known], findings: &mut Findings) -> Flags {
        Flags::check(&self.flags, known, findings)
    }

    /// What a comment directly above says of `name`: `# name what it is for`.
    pub(crate) fn description(&self, name: &str) -> Option<&'a str> {
        let mut comments = self.comments.iter();
        comments.find_map(|it| it.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
    }

    /// Its operands as one text; an error if there are none.
    pub(crate) fn one_operand(&self, findings: &mut Findings) -> Option<Fragment<'a>> {
        if self.operands.is_empty() {
            let kind = ParseErrorKind::NeedsOneArgument { keyword: self.keyword.name() };
            findings.error(kind, self.name.span());
            return None;
        }
        Some(self.operands)
    }

    /// Reports that there are no operands.
    pub(crate) fn needs_an_argument(&self, findings: &mut Findings) {
        let kind = ParseErrorKind::NeedsAnArgument { keyword: self.keyword.name() };
        findings.error(kind, self.name.span());
    }
}

/// Reads a command in either form (rule A014).
pub(crate) fn command(operands: Fragment<'_>, findings: &mut Findings) -> Option<CommandForm> {
    match split::json(operands) {
        Json::Strings(strings) => {
            Some(CommandForm::Exec(strings.into_iter().map(|it| it.value).collect()))
        }
        Json::NotAString(span) => {
            findings.error(ParseErrorKind::JsonNotStrings, span);
            None
        }
        Json::No => Some(CommandForm::Shell(operands.text().to_owned())),
    }
}
