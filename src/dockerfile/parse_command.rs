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
