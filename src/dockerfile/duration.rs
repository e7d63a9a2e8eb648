//! Durations as Go writes them: `1h30m`, `1.5s`, `500ms`.
//!
//! Source: <https://pkg.go.dev/time#ParseDuration>; rule A087.

use std::time::Duration;

/// The units and their length in nanoseconds. The micro sign comes in two code points.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration that may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoDuration {
    /// Zero or more.
    Positive(Duration),
    /// Less than zero.
    Negative,
}

/// Reads a duration; `None` if it is malformed, or longer than Go can express (292 years).
pub(crate) fn parse(text: &str) -> Option<GoDuration> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanoseconds = if rest == "0" { 0 } else { sum(rest)? };
    Some(if negative && nanoseconds > 0 {
        GoDuration::Negative
    } else {
        GoDuration::Positive(Duration::from_nanos(nanoseconds))
    })
}

/// What Go says of a text that [`parse`] does not read.
pub(crate) fn problem(text: &str) -> &'static str {
    let numeric = |it: char| it.is_ascii_digit() || it == '.';
    let lacks_unit = text.contains(|it: char| it.is_ascii_digit()) && text.ends_with(numeric);
    if lacks_unit { "missing unit in duration" } else { "invalid duration" }
}

/// The sum of `number unit` pairs, at least one, in nanoseconds.
fn sum(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let unit_start = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, tail) = rest.split_at(unit_start);
        let unit_end = tail.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(nanoseconds(number, *length)?)?;
        if i64::try_from(total).is_err() {
            return None;
        }
        if tail.is_empty() {
            return Some(total);
        }
        rest = tail;
    }
}

/// `number` (`12`, `1.5`, `.5`, `1.`) times `length`.
fn nanoseconds(number: &str, length: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !(whole.bytes().chain(fraction.bytes())).all(|it| it.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(length)?;
    let mut weight = length;
    for digit in fraction.bytes() {
        // Go computes with a float here; below a nanosecond the two may differ by one.
        total = total.checked_add(weight * u64::from(digit - b'0') / 10)?;
        weight /= 10;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a087_durations_are_read_as_go_reads_them() {
        let check = |text: &str, expected: Option<u64>| {
            let expected = expected.map(|it| GoDuration::Positive(Duration::from_nanos(it)));
            assert_eq!(parse(text), expected, "{text}");
        };
        check("1ns", Some(1));
        check("2us", Some(2_000));
        check("2µs", Some(2_000));
        check("500ms", Some(500_000_000));
        check("5s", Some(5_000_000_000));
        check("+5s", Some(5_000_000_000));
        check("1m30s", Some(90_000_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check(".5s", Some(500_000_000));
        check("1.s", Some(1_000_000_000));
        check("0", Some(0));
        check("0s", Some(0));
        check("-0", Some(0));
        for bad in ["", "5", "s", ".s", "1x", "1.2.3s", "1s ", "$T", "-", "1e3s", "9999999h", "5S"]
        {
            check(bad, None);
        }
        assert_eq!(parse("-1s"), Some(GoDuration::Negative));
    }
}
