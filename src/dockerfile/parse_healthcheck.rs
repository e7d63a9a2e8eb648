//! `HEALTHCHECK [options] CMD command` and `HEALTHCHECK NONE`.
//!
//! The options are not expanded (rule A019). One that is not given is zero, which a runtime reads
//! as its own default.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#healthcheck>; rule A087.

use std::time::Duration;

use crate::dockerfile::duration::{self, GoDuration};
use crate::dockerfile::error::{Findings, ParseErrorKind};
use crate::dockerfile::flag::{Flags, Known};
use crate::dockerfile::line::Fragment;
use crate::dockerfile::statement::{Statement, command};
use crate::dockerfile::{CommandForm, HealthcheckCommand, HealthcheckInstruction};

const FLAGS: &[Known] = &[
    Known::text("interval"),
    Known::text("timeout"),
    Known::text("start-period"),
    Known::text("start-interval"),
    Known::text("retries"),
];

/// The shortest duration that is not zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads a `HEALTHCHECK`.
pub(crate) fn parse(
    statement: &Statement<'_>,
    findings: &mut Findings,
) -> Option<HealthcheckInstruction> {
    let (kind, operands) = statement.operands.split_first(char::is_whitespace);
    if kind.is_empty() {
        statement.needs_an_argument(findings);
        return None;
    }
    let check = match kind.text().to_uppercase().as_str() {
        "NONE" => {
            none(statement, operands, findings);
            None
        }
        "CMD" => Some(check(statement, kind, operands, findings)?),
        unknown => {
            let error = ParseErrorKind::UnknownHealthcheck { kind: unknown.to_owned() };
            findings.error(error, kind.span());
            return None;
        }
    };
    Some(HealthcheckInstruction { span: statement.span, check })
}

fn none(statement: &Statement<'_>, operands: Fragment<'_>, findings: &mut Findings) {
    statement.flags(&[], findings);
    if !operands.is_empty() {
        findings.error(ParseErrorKind::HealthcheckNoneArguments, operands.span());
    }
}

fn check(
    statement: &Statement<'_>,
    kind: Fragment<'_>,
    operands: Fragment<'_>,
    findings: &mut Findings,
) -> Option<HealthcheckCommand> {
    let flags = statement.flags(FLAGS, findings);
    let mut read = |name| interval(&flags, name, findings);
    let [interval, timeout, start_period, start_interval] =
        ["interval", "timeout", "start-period", "start-interval"].map(&mut read);
    let retries = retries(&flags, findings);
    let command = command(operands, findings)?;
    if command == CommandForm::Exec(Vec::new()) || operands.is_empty() {
        findings.error(ParseErrorKind::HealthcheckNoCommand, kind.span());
        return None;
    }
    Some(HealthcheckCommand { command, interval, timeout, start_period, start_interval, retries })
}

fn interval(flags: &Flags, name: &'static str, findings: &mut Findings) -> Duration {
    let Some(text) = flags.text(name) else { return Duration::ZERO };
    let problem = match duration::parse(&text.value) {
        Some(GoDuration::Positive(value)) if value.is_zero() || value >= SHORTEST => return value,
        Some(_) => ParseErrorKind::DurationTooShort { flag: name },
        None => ParseErrorKind::InvalidDuration { text: text.value },
    };
    findings.error(problem, text.span);
    Duration::ZERO
}

fn retries(flags: &Flags, findings: &mut Findings) -> i64 {
    let Some(text) = flags.text("retries") else { return 0 };
    let problem = match text.value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return retries.into(),
        Ok(retries) => ParseErrorKind::NegativeRetries { retries: retries.into() },
        Err(_) => ParseErrorKind::InvalidRetries { text: text.value },
    };
    findings.error(problem, text.span);
    0
}
