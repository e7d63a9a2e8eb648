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
    // Options that apply to no command are harmless, and BuildKit lets them pass.
    statement.flags(FLAGS, findings);
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
        None => ParseErrorKind::InvalidDuration {
            problem: duration::problem(&text.value),
            text: text.value,
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Instruction;
    use crate::dockerfile::parser::testing::{instruction, mistakes};

    fn healthcheck(text: &str) -> Option<HealthcheckCommand> {
        match instruction(text) {
            Instruction::Healthcheck(it) => it.check,
            other => panic!("{text} is no HEALTHCHECK: {other:?}"),
        }
    }

    #[test]
    fn a087_options_are_read() {
        let found = healthcheck(
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --start-interval=0 \
             --retries=5 cmd  curl -f $URL || exit 1",
        );
        let expected = HealthcheckCommand {
            command: CommandForm::Shell("curl -f $URL || exit 1".to_owned()),
            interval: Duration::from_secs(90),
            timeout: Duration::from_millis(500),
            start_period: Duration::from_secs(2),
            start_interval: Duration::ZERO,
            retries: 5,
        };
        assert_eq!(found, Some(expected));
        let found = healthcheck("HEALTHCHECK CMD [\"/check\", \"-a\"]").expect("a command");
        assert_eq!(found.command, CommandForm::Exec(vec!["/check".to_owned(), "-a".to_owned()]));
        assert_eq!((found.interval, found.retries), (Duration::ZERO, 0));
        assert_eq!(healthcheck("HEALTHCHECK none"), None);
    }

    #[test]
    fn a087_mistakes_are_found() {
        let check = |text: &str, expected: &[&str]| assert_eq!(mistakes(text), expected, "{text}");
        check("HEALTHCHECK", &["HEALTHCHECK requires at least one argument @ HEALTHCHECK"]);
        check("HEALTHCHECK NONE x", &["HEALTHCHECK NONE takes no arguments @ x"]);
        check("HEALTHCHECK ping x", &["Unknown type \"PING\" in HEALTHCHECK (try CMD) @ ping"]);
        check("HEALTHCHECK CMD", &["Missing command after HEALTHCHECK CMD @ CMD"]);
        check("HEALTHCHECK CMD []", &["Missing command after HEALTHCHECK CMD @ CMD"]);
        check(
            "HEALTHCHECK --interval=1us --timeout=-1s --retries=-1 CMD x",
            &[
                "Interval \"interval\" cannot be less than 1ms @ 1us",
                "Interval \"timeout\" cannot be less than 1ms @ -1s",
                "--retries cannot be negative (-1) @ -1",
            ],
        );
        check("HEALTHCHECK --interval=$T CMD x", &["time: invalid duration \"$T\" @ $T"]);
        check(
            "HEALTHCHECK --retries=many CMD x",
            &["invalid value for --retries: \"many\" is not a number below 2147483648 @ many"],
        );
    }
}
