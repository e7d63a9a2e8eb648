//! `RUN`, `CMD`, `ENTRYPOINT` and `SHELL`: instructions that hold a command.
//!
//! Their text is never expanded (rule A019). `--mount` stays as written, as some of its fields are
//! expanded and others are not; `plan` takes it apart.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#run>; rules A014, A090, A153 to A160.

use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::flag::Known;
use crate::dockerfile::split::{self, Json};
use crate::dockerfile::statement::{Statement, command};
use crate::dockerfile::{
    CommandForm, CommandInstruction, RunInstruction, ShellInstruction, Spanned,
};

const RUN_FLAGS: &[Known] =
    &[Known::list("mount"), Known::text("network"), Known::text("security"), Known::list("device")];

/// Reads a `RUN`.
pub(crate) fn parse_run(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<RunInstruction> {
    let flags = statement.flags(RUN_FLAGS, findings);
    let network = flags.text("network").filter(|it| {
        let is_known = |it: &Spanned<String>| ["default", "none", "host"].contains(&&*it.value);
        let invalid = |mode| ParseErrorKind::InvalidNetwork { mode };
        check_mode(it, is_known, invalid, findings)
    });
    let security = flags.text("security").filter(|it| {
        let is_known = |it: &Spanned<String>| ["sandbox", "insecure"].contains(&&*it.value);
        let invalid = |mode| ParseErrorKind::InvalidSecurity { mode };
        check_mode(it, is_known, invalid, findings)
    });
    let command = if statement.heredocs.is_empty() {
        command(statement.operands, findings)?
    } else {
        CommandForm::Shell(statement.operands.text().to_owned())
    };
    Some(RunInstruction {
        span: statement.span,
        command,
        heredocs: statement.heredocs.iter().map(|(_, heredoc)| heredoc.clone()).collect(),
        mounts: flags.list("mount"),
        network,
        security,
        devices: flags.list("device"),
    })
}

fn check_mode(
    mode: &Spanned<String>,
    is_known: impl Fn(&Spanned<String>) -> bool,
    invalid: impl Fn(String) -> ParseErrorKind,
    findings: &mut Findings,
) -> bool {
    let known = is_known(mode);
    if !known {
        findings.error(invalid(mode.value.clone()), mode.span);
    }
    known
}

/// Reads a `CMD` or an `ENTRYPOINT`.
pub(crate) fn parse_command(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<CommandInstruction> {
    statement.flags(&[], findings);
    let command = command(statement.operands, findings)?;
    Some(CommandInstruction { span: statement.span, command })
}

/// Reads a `SHELL`: it has the JSON form only.
pub(crate) fn parse_shell(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<ShellInstruction> {
    statement.flags(&[], findings);
    match split::json(statement.operands) {
        Json::Strings(shell) if !shell.is_empty() => {
            let shell = shell.into_iter().map(|it| it.value).collect();
            return Some(ShellInstruction { span: statement.span, shell });
        }
        Json::NotAString(span) => findings.error(ParseErrorKind::JsonNotStrings, span),
        Json::No if !statement.operands.is_empty() => {
            let kind = ParseErrorKind::NotJson { keyword: statement.keyword.name() };
            findings.error(kind, statement.operands.span());
        }
        Json::Strings(_) | Json::No => statement.needs_an_argument(findings),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Instruction;
    use crate::dockerfile::parser::testing::{instruction, mistakes, raw};

    fn run(text: &str) -> RunInstruction {
        match instruction(text) {
            Instruction::Run(run) => run,
            other => panic!("{text} is no RUN: {other:?}"),
        }
    }

    fn shell(text: &str) -> CommandForm {
        CommandForm::Shell(text.to_owned())
    }

    fn exec(words: &[&str]) -> CommandForm {
        CommandForm::Exec(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a014_a_command_has_two_forms() {
        let check = |text: &str, expected: CommandForm| assert_eq!(run(text).command, expected);
        check("RUN  echo  'a b' $X ", shell("echo  'a b' $X"));
        check("RUN [\"echo\", \"$X\"]", exec(&["echo", "$X"]));
        check("RUN []", exec(&[]));
        check("RUN ['a']", shell("['a']"));
        check("RUN [\"a\" x ] > /out", shell("[\"a\" x ] > /out"));
        check("RUN [ \"a\" = \"a\" ] && true", shell("[ \"a\" = \"a\" ] && true"));
        check("RUN", shell(""));
    }

    #[test]
    fn a013_run_takes_flags() {
        let found =
            run("RUN --mount=type=tmpfs,target=/a --network=none --mount=target=$T -- ls -d");
        assert_eq!(raw(&found.mounts), ["type=tmpfs,target=/a", "target=$T"]);
        assert_eq!(found.network.map(|it| it.value).as_deref(), Some("none"));
        assert_eq!(found.command, shell("ls -d"));
    }

    #[test]
    fn a153_run_takes_heredocs() {
        let found = run("RUN cat <<A 3<<-'B' > /x\n$V\nA\n\t\tb\n\tB\n");
        assert_eq!(found.command, shell("cat <<A 3<<-'B' > /x"));
        let [a, b] = &found.heredocs[..] else { panic!("there are two heredocs") };
        assert_eq!((a.name.as_str(), a.body.as_str(), a.expand), ("A", "$V\n", true));
        assert_eq!((b.name.as_str(), b.body.as_str(), b.expand), ("B", "b\n", false));
        assert_eq!((b.strip_tabs, b.file_descriptor), (true, Some(3)));
        assert!(run("RUN [\"cat\", \"<<EOF\"]").heredocs.is_empty());
    }

    #[test]
    fn a090_shell_has_the_json_form_only() {
        let Instruction::Shell(found) = instruction("SHELL [\"/bin/sh\", \"-ec\"]") else {
            panic!("this is a SHELL");
        };
        assert_eq!(found.shell, ["/bin/sh", "-ec"]);
        let check = |text: &str, expected: &str| assert_eq!(mistakes(text), [expected], "{text}");
        check("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form @ /bin/sh");
        check("SHELL []", "SHELL requires at least one argument @ SHELL");
        check("SHELL", "SHELL requires at least one argument @ SHELL");
    }

    #[test]
    fn mistakes_are_found() {
        let check = |text: &str, expected: &str| assert_eq!(mistakes(text), [expected], "{text}");
        let not_strings = "when using JSON array syntax, arrays must be comprised of strings only";
        check("CMD [\"sleep\", 10]", &format!("{not_strings} @ 10"));
        check("ENTRYPOINT [\"a\", true]", &format!("{not_strings} @ true"));
        check("RUN [null]", &format!("{not_strings} @ null"));
        check("RUN --network=bridge x", "invalid network mode \"bridge\" @ bridge");
        check("RUN --security=none x", "security \"none\" is not valid @ none");
        check("CMD --x y", "unknown flag: --x @ --x");
        check("RUN a <<EOF\nb\n EOF\n", "unterminated heredoc @ <<EOF");
    }
}
