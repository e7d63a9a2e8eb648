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
    ArgInstruction, Dockerfile, Instruction, Source, Span, Spanned, Stage, Warning, nearest,
    parse_command, parse_copy, parse_from, parse_healthcheck, parse_pairs, parse_words, split,
};

/// Parses a Dockerfile.
///
/// # Errors
///
/// Every mistake in it, in the order of the text. There is a [`Dockerfile`] only if there is none.
pub fn parse(source: Source) -> Result<Dockerfile, Vec<ParseError>> {
    parse_with(source, None).map_err(|rejected| rejected.errors)
}

/// A Dockerfile with mistakes.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The mistakes, in the order of the text. Never empty.
    pub errors: Vec<ParseError>,
    /// What works but should not be written, in order; what the file skips is left out.
    pub warnings: Vec<Warning>,
}

/// Parses a Dockerfile; `checks` takes the place of its `# check=` line (rule A164).
///
/// # Errors
///
/// As [`parse`], with the warnings that there are all the same.
pub fn parse_with(source: Source, checks: Option<&Checks>) -> Result<Dockerfile, Rejected> {
    let mut findings = Findings::default();
    check_line_lengths(&source, &mut findings);
    let directives = directive::read(&source, checks, &mut findings);
    let mut lines = Lines::new(source.text(), directives.end, directives.escape);
    let mut file = File { checks: directives.checks, ..File::default() };
    while let Some(line) = lines.next_logical() {
        file.add(&line, &mut lines, &source, &mut findings);
    }
    file.check(&source, &mut findings);
    let (errors, mut warnings) = findings.all();
    warnings.retain(|it| file.checks.wants(it.rule, it.span));
    if !errors.is_empty() {
        return Err(Rejected { errors, warnings });
    }
    Ok(Dockerfile {
        warnings,
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
        findings.enter(line.span);
        if let Some(blank) = line.empty_continuations.first() {
            findings.warn("NoEmptyContinuation", "Empty continuation line".to_owned(), *blank);
        }
        let Some(statement) = Statement::read(line, lines, findings) else {
            // Behind a misspelled `FROM` a stage has begun: that is one mistake, and not many.
            let (word, _) = line.fragment().split_first(split::is_blank);
            if nearest(word.text(), &Keyword::names()) == Some("FROM") {
                self.position = Position::InStage;
            }
            return;
        };
        findings.enter(statement.span);
        if let Some((span, byte)) = source.undecoded(statement.span) {
            findings.error(ParseErrorKind::NotUtf8 { byte }, span);
        }
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
        let (kind, span) = match self.global_args.last() {
            Some(last) => (ParseErrorKind::NoStages, last.span),
            None if source.text().is_empty() => (ParseErrorKind::EmptyFile, Span::default()),
            None => (ParseErrorKind::NoInstructions, Span::default()),
        };
        findings.enter(span);
        findings.error(kind, span);
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

/// What the tests of the `parse_*` files share.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Parses one instruction of a stage.
    pub(crate) fn instruction(text: &str) -> Instruction {
        let text = format!("FROM scratch\n{text}");
        let mut file = parse(Source::new("Dockerfile", &text)).expect("the text has no mistake");
        let instructions = &mut file.stages[0].instructions;
        assert_eq!(instructions.len(), 1, "{text}");
        instructions.remove(0)
    }

    /// The mistakes in the instructions of a stage, each as `message @ the word that is wrong`.
    pub(crate) fn mistakes(text: &str) -> Vec<String> {
        mistakes_in_file(&format!("FROM scratch\n{text}"))
    }

    /// The mistakes in a whole Dockerfile, in the same form.
    pub(crate) fn mistakes_in_file(text: &str) -> Vec<String> {
        let source = Source::new("Dockerfile", text);
        let errors = parse(source.clone()).err().unwrap_or_default();
        errors.iter().map(|it| format!("{it} @ {}", source.slice(it.span))).collect()
    }

    /// Words as they are written.
    pub(crate) fn raw<'a>(
        words: impl IntoIterator<Item = &'a crate::dockerfile::Word>,
    ) -> Vec<&'a str> {
        words.into_iter().map(|word| word.raw.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::mistakes_in_file;
    use super::*;
    use crate::dockerfile::{CommandForm, CopySource};

    fn file(text: &str) -> Dockerfile {
        parse(Source::new("Dockerfile", text)).expect("the text has no mistake")
    }

    #[test]
    fn a002_a_file_needs_a_stage() {
        let check = |text: &str, expected: &str| {
            assert_eq!(mistakes_in_file(text), [expected], "{text:?}");
        };
        check("", "the Dockerfile cannot be empty @ ");
        check("# only a comment\n\n", "file with no instructions @ ");
        check("\u{feff}", "file with no instructions @ ");
        check("ARG A=1\nARG B\n\n", "dockerfile contains no stages to build @ ARG B");
    }

    #[test]
    fn a002_only_arg_may_come_before_from() {
        assert_eq!(
            mistakes_in_file("ARG A\nRUN a\nENV\nRUN b\nFROM x\n"),
            ["no build stage in current context @ RUN", "ENV requires at least one argument @ ENV"],
        );
    }

    #[test]
    fn a001_a_line_has_a_largest_length() {
        let check = |length: usize, fine: bool| {
            let text = format!("FROM x\nRUN {}\n", "x".repeat(length - 4));
            assert_eq!(parse(Source::new("Dockerfile", &text)).is_ok(), fine, "{length}");
        };
        check(LONGEST_LINE, true);
        check(LONGEST_LINE + 1, false);
    }

    #[test]
    fn bytes_that_are_no_text_matter_only_in_instructions() {
        let errors = |bytes: &[u8]| {
            let source = Source::decode("Dockerfile", bytes);
            let errors = parse(source.clone()).err().unwrap_or_default();
            let place = |it: &ParseError| source.position(it.span.start);
            errors.iter().map(|it| (it.to_string(), place(it))).collect::<Vec<_>>()
        };
        assert_eq!(errors(b"# caf\xe9\nFROM x\n# \xff\xfe\nRUN y\n"), []);
        let expected = "invalid UTF-8: byte 0xE9";
        assert_eq!(errors(b"FROM x\nRUN a\xe9b\xe9\n"), [(expected.to_owned(), (2, 6))]);
        let heredoc = b"FROM x\nCOPY <<E /e\n# \xe9\nE\nRUN y\n";
        assert_eq!(errors(heredoc), [(expected.to_owned(), (3, 3))]);
    }

    #[test]
    fn a012_unknown_instructions_are_named() {
        assert_eq!(
            mistakes_in_file("FROM x\nRUNN a\nCOMPLETELY b"),
            [
                "unknown instruction: RUNN (did you mean RUN?) @ RUNN",
                "unknown instruction: COMPLETELY @ COMPLETELY"
            ]
        );
    }

    #[test]
    fn a012_a_misspelled_from_begins_a_stage_all_the_same() {
        assert_eq!(
            mistakes_in_file("FORM x\nRUN a\nCOPPY b c\n"),
            [
                "unknown instruction: FORM (did you mean FROM?) @ FORM",
                "unknown instruction: COPPY (did you mean COPY?) @ COPPY"
            ]
        );
    }

    #[test]
    fn every_mistake_is_found() {
        let text =
            "# escape=x\nFROM a b\nCOPY --cown=1 --link=maybe x\nENV a=1 \\\n  junk\nCMD [1]\n";
        assert_eq!(
            mistakes_in_file(text),
            [
                "invalid escape token 'x' does not match ` or \\ @ x",
                "FROM requires either one or three arguments @ a b",
                concat!(
                    "COPY requires at least two arguments, but only one was provided. ",
                    "Destination could not be determined @ COPY"
                ),
                "unknown flag: --cown (did you mean chown?) @ --cown=1",
                "expecting boolean value for flag --link, not: maybe @ --link=maybe",
                "Syntax error - can't find = in \"junk\". Must be of the form: name=value @ junk",
                "when using JSON array syntax, arrays must be comprised of strings only @ 1",
            ]
        );
    }

    #[test]
    fn a161_a_162_an_error_knows_its_instruction_and_its_word() {
        let source = Source::new("Dockerfile", "FROM x\n\nENV a=1 \\\n  # comment\n  junk\n");
        let errors = parse(source.clone()).expect_err("there is a mistake");
        assert_eq!(source.line(errors[0].instruction.start), 3);
        assert_eq!(source.line(errors[0].span.start), 5);
        assert_eq!(source.slice(errors[0].span), "junk");
    }

    #[test]
    fn stages_hold_their_instructions() {
        let file = file("ARG V=1\nFROM a AS One\nRUN x\n\nFROM one\nCOPY <<E /e\ntext\nE\nCMD y\n");
        assert_eq!(file.global_args.len(), 1);
        assert_eq!(file.stages.len(), 2);
        assert_eq!(file.stages[0].name.as_ref().map(|it| it.value.as_str()), Some("one"));
        assert_eq!(file.stages[0].instructions.len(), 1);
        assert_eq!(file.source.slice(file.stages[0].span), "FROM a AS One\nRUN x");
        let copy = file.stages[1].instructions[0].span();
        assert_eq!(file.source.slice(copy), "COPY <<E /e\ntext\nE");
    }

    #[test]
    fn a005_a_backtick_continues_lines() {
        let file = file("# escape=`\nFROM x\nRUN a \\ `\n  b\nWORKDIR C:\\x\\\n");
        let [Instruction::Run(run), Instruction::Workdir(workdir)] =
            &file.stages[0].instructions[..]
        else {
            panic!("there are two instructions");
        };
        assert_eq!(run.command, CommandForm::Shell("a \\   b".to_owned()));
        assert_eq!((workdir.word.raw.as_str(), workdir.word.escape), ("C:\\x\\", '`'));
    }

    #[test]
    fn a099_a_trigger_is_a_single_instruction() {
        let check = |text: &str, expected: Result<(), &[&str]>| {
            let source = Source::new("trigger", text);
            let found = parse_instruction(&source)
                .map(|_| ())
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected =
                expected.map_err(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, expected, "{text:?}");
        };
        check("RUN echo x", Ok(()));
        check("COPY <<E /e\ntext\nE", Ok(()));
        check("ENV a=1\nENV b=2", Err(&["onbuild trigger should be a single expression"]));
        check("", Err(&["onbuild trigger should be a single expression"]));
        check("# nothing", Err(&["onbuild trigger should be a single expression"]));
        check("NONSENSE arg", Err(&["unknown instruction: NONSENSE"]));
        check("FROM x", Err(&["FROM isn't allowed as an ONBUILD trigger"]));
        check("ENV", Err(&["ENV requires at least one argument"]));
    }

    #[test]
    fn a163_warnings_name_their_line() {
        let check = |text: &str, expected: &[(&str, usize)]| {
            let file = file(text);
            let found: Vec<_> =
                file.warnings.iter().map(|it| (it.rule, file.source.line(it.span.start))).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("FROM x\nRUN a \\\n\n\n b", &[("NoEmptyContinuation", 3)]);
        check("FROM x as y", &[("FromAsCasing", 1)]);
        check("from x as y", &[]);
        check("FROM x AS Y", &[("StageNameCasing", 1)]);
        check("FROM x AS scratch", &[("ReservedStageName", 1)]);
        check("FROM x AS a\nFROM x AS A", &[("StageNameCasing", 2), ("DuplicateStageName", 2)]);
        check("FROM x\nrun a", &[("ConsistentInstructionCasing", 2)]);
        check("from x\nRUN a\nrun b", &[("ConsistentInstructionCasing", 2)]);
        check("FROM x\nRun a", &[("ConsistentInstructionCasing", 2)]);
        check("FROM x\nCMD a\nCMD b", &[("MultipleInstructionsDisallowed", 2)]);
        check("FROM x\nMAINTAINER m", &[("MaintainerDeprecated", 2)]);
        check("FROM x\nENV a b\nLABEL c=d", &[("LegacyKeyValueFormat", 2)]);
    }

    #[test]
    fn a164_warnings_can_be_skipped() {
        let check = |text: &str, expected: &[&str]| {
            let rules: Vec<_> = file(text).warnings.iter().map(|it| it.rule).collect();
            assert_eq!(rules, expected, "{text}");
        };
        check("# check=skip=all\nFROM x as Y\nENV a b", &[]);
        check("# check=skip=FromAsCasing\nFROM x as Y", &["StageNameCasing"]);
        check("FROM x\n# check=skip=LegacyKeyValueFormat\nENV a b", &[]);
        check(
            "FROM x\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV a b",
            &["LegacyKeyValueFormat"],
        );
        check("# other words\nFROM x AS y", &[]);
        let on = "# check=experimental=all\n";
        check(&format!("{on}# other words\nFROM x AS y"), &["InvalidDefinitionDescription"]);
        check(&format!("{on}# y is good\nFROM x AS y\n# A a\nARG A=1"), &[]);
        check(&format!("{on}# words\n\nFROM x AS y"), &[]);
    }

    /// Pieces of Dockerfiles, good and bad, from which to make hostile ones.
    const PIECES: [&str; 38] = [
        "FROM x\n",
        "FROM a AS b",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "VOLUME ",
        "SHELL ",
        "CMD ",
        "--from=",
        "--mount=",
        "--",
        " <<E",
        "<<-'E'",
        "E\n",
        "\n",
        "\r\n",
        "\\\n",
        "\\",
        "`",
        "\"",
        "'",
        "${",
        "}",
        "$A",
        ":-",
        "/",
        "[\"a\"",
        "]",
        "=",
        " ",
        "\t",
        "#",
        "é\u{a0}\u{2028}🦀",
    ];

    fn assert_spans_fit(text: &str) {
        let source = Source::new("Dockerfile", text);
        match parse(source.clone()) {
            Ok(file) => {
                for instruction in file.stages.iter().flat_map(|it| &it.instructions) {
                    let span = instruction.span();
                    assert!(text.get(span.start..span.end).is_some_and(|it| !it.is_empty()));
                    let words = match instruction {
                        Instruction::Copy(it) | Instruction::Add(it) => it
                            .sources
                            .iter()
                            .filter_map(|it| match it {
                                CopySource::Path(word) => Some(word),
                                CopySource::Heredoc(_) => None,
                            })
                            .chain([&it.destination])
                            .collect(),
                        Instruction::Env(it) => it.pairs.iter().map(|(_, value)| value).collect(),
                        Instruction::Expose(it) => it.words.iter().collect(),
                        _ => Vec::new(),
                    };
                    for word in words {
                        assert!(text.get(word.span.start..word.span.end).is_some());
                        let _ = word.expand(&|name| Some(name.to_owned()));
                        let _ = word.expand_and_split(&|_| None);
                        let _ = word.expand_body(&|name| Some(name.to_owned()));
                    }
                }
            }
            Err(errors) => {
                assert!(!errors.is_empty());
                for error in errors {
                    assert!(text.get(error.span.start..error.span.end).is_some());
                    let place = error.instruction;
                    assert!(text.get(place.start..place.end).is_some());
                    let _ = (error.to_string(), error.hint());
                }
            }
        }
        let _ = parse_instruction(&source).map_err(|errors| assert!(!errors.is_empty()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            assert_spans_fit(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn pieces_of_dockerfiles_never_panic_the_parser(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60),
        ) {
            assert_spans_fit(&pieces.concat());
            assert_spans_fit(&format!("FROM x\n{}", pieces.concat()));
        }
    }
}
