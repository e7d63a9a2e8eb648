//! The parser: from a Dockerfile's text to its stages.
//!
//! It goes through the file once. `directive` reads the top; `line` joins the lines of each
//! instruction; `statement` takes it apart; the `parse_*` files understand it; and this file puts
//! it into its stage. A mistake never ends the parsing, so that all of them are found at once.
//!
//! Nothing is expanded here: the words keep their variables and quotes for `plan`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>; rules A001 to A018, A099.

use crate::dockerfile::check::Checks;
use crate::dockerfile::directive;
use crate::dockerfile::error::{Findings, ParseError, ParseErrorKind};
use crate::dockerfile::keyword::Keyword;
use crate::dockerfile::line::{LONGEST_LINE, Line, Lines};
use crate::dockerfile::lint;
use crate::dockerfile::statement::Statement;
use crate::dockerfile::{
    ArgInstruction, Dockerfile, Instruction, Source, Span, Spanned, Stage, parse_command,
    parse_copy, parse_from, parse_healthcheck, parse_pairs, parse_words,
};

/// Parses a Dockerfile.
///
/// # Errors
///
/// Every mistake in it, in the order of the text. There is a [`Dockerfile`] only if there is none.
pub fn parse(source: Source) -> Result<Dockerfile, Vec<ParseError>> {
    let mut findings = Findings::default();
    check_line_lengths(&source, &mut findings);
    let directives = directive::read(&source, &mut findings);
    let mut lines = Lines::new(source.text(), directives.end, directives.escape);
    let mut file = File { checks: directives.checks, ..File::default() };
    while let Some(line) = lines.next_logical() {
        file.add(&line, &mut lines, &source, &mut findings);
    }
    file.check(&source, &mut findings);
    let warnings = findings.finish()?;
    let wanted = |it: &crate::dockerfile::Warning| file.checks.wants(it.rule, it.span);
    Ok(Dockerfile {
        warnings: warnings.into_iter().filter(wanted).collect(),
        checks: file.checks,
        global_args: file.global_args,
        stages: file.stages,
        escape: directives.escape,
        source,
    })
}

/// Parses the trigger of an `ONBUILD`, which is exactly one instruction (rule A099).
///
/// # Errors
///
/// Every mistake in it; its spans are places in `source`.
pub fn parse_instruction(source: &Source) -> Result<Instruction, Vec<ParseError>> {
    let mut findings = Findings::default();
    check_line_lengths(source, &mut findings);
    let mut lines = Lines::new(source.text(), 0, '\\');
    let mut found = Vec::new();
    let mut count = 0;
    while let Some(line) = lines.next_logical() {
        count += 1;
        findings.enter(line.span);
        let Some(statement) = Statement::read(&line, &mut lines, &mut findings) else { continue };
        match parse_words::check_trigger(Some(statement.keyword)) {
            Ok(()) => found.extend(instruction(&statement, source, &mut findings)),
            Err(kind) => findings.error(kind, statement.name.span()),
        }
    }
    if count != 1 {
        let whole = Span::new(0..source.text().len());
        findings.enter(whole);
        findings.error(ParseErrorKind::TriggerNotSingle, whole);
    }
    match found.pop() {
        Some(instruction) => findings.finish().map(|_| instruction),
        // Where nothing was parsed, a mistake was found.
        None => Err(findings.finish().err().unwrap_or_default()),
    }
}

/// What has been parsed so far.
#[derive(Debug, Default)]
struct File {
    checks: Checks,
    global_args: Vec<ArgInstruction>,
    stages: Vec<Stage>,
    keywords: Vec<Spanned<String>>,
    position: Position,
    instructions: usize,
}

/// Where in the file the parser is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Only `ARG` may come here.
    #[default]
    BeforeFirstStage,
    /// The same, but something else came: it is enough to say so once.
    AfterStray,
    /// In a stage, though perhaps in one whose `FROM` has a mistake.
    InStage,
}

impl File {
    /// Parses one instruction and adds it to what there is.
    fn add(
        &mut self,
        line: &Line,
        lines: &mut Lines<'_>,
        source: &Source,
        findings: &mut Findings,
    ) {
        self.instructions += 1;
        findings.enter(line.span);
        for blank in &line.empty_continuations {
            findings.warn("NoEmptyContinuation", "Empty continuation line".to_owned(), *blank);
        }
        let Some(statement) = Statement::read(line, lines, findings) else { return };
        findings.enter(statement.span);
        self.checks.note_comments(statement.comments, statement.span);
        lint::check_description(&statement, findings);
        match (statement.keyword, self.position) {
            (Keyword::From, _) => {
                self.position = Position::InStage;
                self.keywords.push(statement.name.spanned());
                self.stages.extend(parse_from::parse(&statement, findings));
            }
            (Keyword::Arg, Position::BeforeFirstStage) => {
                self.global_args.extend(parse_pairs::parse_arg(&statement, findings));
            }
            (_, Position::InStage) => {
                self.keywords.push(statement.name.spanned());
                let instruction = instruction(&statement, source, findings);
                if let Some((stage, instruction)) = self.stages.last_mut().zip(instruction) {
                    stage.span = stage.span.to(instruction.span());
                    stage.instructions.push(instruction);
                }
            }
            (_, position) => {
                if position == Position::BeforeFirstStage {
                    let keyword = statement.name.text().to_owned();
                    findings.error(ParseErrorKind::NoStageYet { keyword }, statement.name.span());
                }
                self.position = Position::AfterStray;
                let _ = instruction(&statement, source, findings);
            }
        }
    }

    /// Looks at the file as a whole (rule A002).
    fn check(&self, source: &Source, findings: &mut Findings) {
        lint::check_stages(&self.stages, findings);
        lint::check_casing(&self.keywords, findings);
        if findings.has_errors() || !self.stages.is_empty() {
            return;
        }
        let end = Span::new(source.text().len()..source.text().len());
        findings.enter(end);
        let kind = match (source.text().is_empty(), self.instructions) {
            (true, _) => ParseErrorKind::EmptyFile,
            (_, 0) => ParseErrorKind::NoInstructions,
            _ => ParseErrorKind::NoStages,
        };
        findings.error(kind, end);
    }
}

/// Parses any instruction but `FROM`.
fn instruction(
    statement: &Statement<'_>,
    source: &Source,
    findings: &mut Findings,
) -> Option<Instruction> {
    Some(match statement.keyword {
        Keyword::From => return None,
        Keyword::Add => Instruction::Add(parse_copy::parse(statement, findings)?),
        Keyword::Arg => Instruction::Arg(parse_pairs::parse_arg(statement, findings)?),
        Keyword::Cmd => Instruction::Cmd(parse_command::parse_command(statement, findings)?),
        Keyword::Copy => Instruction::Copy(parse_copy::parse(statement, findings)?),
        Keyword::Entrypoint => {
            Instruction::Entrypoint(parse_command::parse_command(statement, findings)?)
        }
        Keyword::Env => Instruction::Env(parse_pairs::parse_pairs(statement, findings)?),
        Keyword::Expose => Instruction::Expose(parse_words::parse_expose(statement, findings)?),
        Keyword::Healthcheck => {
            Instruction::Healthcheck(parse_healthcheck::parse(statement, findings)?)
        }
        Keyword::Label => Instruction::Label(parse_pairs::parse_pairs(statement, findings)?),
        Keyword::Maintainer => {
            Instruction::Maintainer(parse_words::parse_maintainer(statement, findings)?)
        }
        Keyword::OnBuild => {
            Instruction::OnBuild(parse_words::parse_onbuild(statement, source, findings)?)
        }
        Keyword::Run => Instruction::Run(parse_command::parse_run(statement, findings)?),
        Keyword::Shell => Instruction::Shell(parse_command::parse_shell(statement, findings)?),
        Keyword::StopSignal => {
            Instruction::StopSignal(parse_words::parse_word(statement, findings)?)
        }
        Keyword::User => Instruction::User(parse_words::parse_word(statement, findings)?),
        Keyword::Volume => Instruction::Volume(parse_words::parse_volume(statement, findings)?),
        Keyword::Workdir => Instruction::Workdir(parse_words::parse_word(statement, findings)?),
    })
}

/// Refuses lines that are too long (rule A001), in heredocs too.
fn check_line_lengths(source: &Source, findings: &mut Findings) {
    let mut start = 0;
    for line in source.text().split('\n') {
        if line.len() > LONGEST_LINE {
            let span = Span::new(start..start + line.len());
            findings.enter(span);
            findings.error(ParseErrorKind::LineTooLong { limit: LONGEST_LINE }, span);
        }
        start += line.len() + 1;
    }
}
