//! Go's ways to print values, which BuildKit uses in `history` (rules A077 to A079).

use std::fmt::Write as _;
use std::time::Duration;

use crate::oci::Healthcheck;

/// A list of strings as `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

/// A list of strings as `%v` prints it: `[a b]`.
pub(crate) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A health check as `%+v` prints it.
pub(crate) fn health_check(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// A string as `strconv.Quote` prints it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)).unwrap_or_default(),
            c if is_printable(c) => out.push(c),
            '\0'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => write!(out, "\\U{:08x}", u32::from(c)).unwrap_or_default(),
        }
    }
    out.push('"');
    out
}

/// Whether Rust would print the character as it is. The letter before it keeps combining marks
/// from being escaped, which Go does not do either.
fn is_printable(c: char) -> bool {
    let mut escaped = String::from("x");
    escaped.push(c);
    escaped.escape_debug().nth(1) == Some(c)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `500ms`, `0s`.
fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => decimal(nanoseconds, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanoseconds, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// `value / unit` with as many digits after the point as are needed.
fn decimal(value: u128, unit: u128, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => format!("{}{name}", value / unit),
        fraction => format!("{}.{fraction}{name}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a077_lists_are_quoted_as_go_quotes() {
        let check = |words: &[&str], expected: &str| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(quoted_list(&words), expected);
        };
        check(&[], "[]");
        check(&["a", "b c", ""], r#"["a" "b c" ""]"#);
        check(&["\"q\"", "tab\t", "é", "back\\"], r#"["\"q\"" "tab\t" "é" "back\\"]"#);
        check(&["\x01\u{200b}e\u{301}"], "[\"\\x01\\u200be\u{301}\"]");
    }

    #[test]
    fn a079_durations_are_printed_as_go_prints_them() {
        let check = |nanoseconds: u64, expected: &str| {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), expected);
        };
        check(0, "0s");
        check(1_500_000, "1.5ms");
        check(500_000_000, "500ms");
        check(1_000_000_000, "1s");
        check(90_000_000_000, "1m30s");
        check(300_000_000_000, "5m0s");
        check(3_600_500_000_000, "1h0m0.5s");
    }
}
