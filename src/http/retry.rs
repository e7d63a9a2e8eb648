//! When to try again, and how long to wait before.
//!
//! Pure: the time of day comes in as a parameter. Rules B092 to B096.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// How often to try, and how long to wait between two tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many tries there are in all; 1 is no second one.
    pub attempts: u32,
    /// How many of them may fail for want of a connection: a host that is not there is not waited
    /// for as long as one that is in trouble.
    pub connects: u32,
    /// The wait before the second try. Each further wait is twice as long.
    pub first: Duration,
    /// The longest wait that we choose ourselves.
    pub longest: Duration,
    /// The longest wait that a server may ask for with `Retry-After`.
    pub longest_asked: Duration,
    /// By how many percent waits are stretched at most, so that a crowd of builders that failed
    /// together does not come back together. Which of them waits how long follows from `seed`.
    pub jitter_percent: u32,
    /// Tells this process from others; the same seed gives the same waits.
    pub seed: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            // A push of forty requests, of which three in ten fail, succeeds but for one in four
            // thousand. A server that only ever fails is given up after two minutes.
            attempts: 10,
            connects: 3,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            longest_asked: Duration::from_secs(60),
            jitter_percent: 10,
            seed: 0,
        }
    }
}

impl Retry {
    /// One try only.
    #[must_use]
    pub fn once(self) -> Self {
        Self { attempts: 1, ..self }
    }

    /// Few tries, and none to connect again: there is another host to ask (rule B097).
    #[must_use]
    pub fn briefly(self) -> Self {
        Self { attempts: self.attempts.min(3), connects: 1, ..self }
    }

    /// Whether there may be a try after `made` tries.
    pub fn allows(&self, made: u32) -> bool {
        made < self.attempts
    }

    /// How long to wait after try `attempt`, the first of which is 0.
    pub fn delay(&self, attempt: u32) -> Duration {
        let plain = self.first.saturating_mul(1 << attempt.min(20)).min(self.longest);
        let mixed = (self.seed ^ u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let mixed = u32::try_from(mixed).unwrap_or_default();
        plain + plain.saturating_mul(self.jitter_percent) * mixed / 25_600
    }
}

/// Whether an answer of this status may be another one next time (rule B092).
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// How long the server asks to be left alone: seconds, or a date (rule B095).
///
/// What is in the past, or cannot be read, is no wish at all.
pub fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Duration::try_from(date.duration_since(now)).ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b094_waits_double_up_to_a_limit_and_jitter_stretches_them_a_little() {
        let retry = Retry { jitter_percent: 0, ..Retry::default() };
        let waits: Vec<u128> = (0..8).map(|n| retry.delay(n).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        for seed in 0..100 {
            let wait = Retry { seed, ..Retry::default() }.delay(1).as_millis();
            assert!((1000..=1100).contains(&wait), "{wait}");
        }
        assert_eq!(retry.delay(u32::MAX), retry.longest);
    }

    #[test]
    fn b092_only_what_may_change_is_tried_again() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(StatusCode::from_u16(status).expect("a status")), "{status}");
        }
        for status in [200, 201, 400, 401, 403, 404, 405, 409, 413, 416, 501] {
            assert!(!is_transient(StatusCode::from_u16(status).expect("a status")), "{status}");
        }
    }

    #[test]
    fn b095_retry_after_is_seconds_or_a_date() {
        let check = |text: &'static str, expected: Option<u64>| {
            let now = jiff::Timestamp::from_second(784_111_777).expect("a time");
            let headers = [(RETRY_AFTER, text.parse().expect("a header"))].into_iter().collect();
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        };
        check("0", Some(0));
        check("120", Some(120));
        check(" 5 ", Some(5));
        check("Sun, 06 Nov 1994 08:49:37 GMT", None);
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sun, 06 Nov 1994 08:00:00 GMT", None);
        check("-5", None);
        check("soon", None);
        check("", None);
    }
}
