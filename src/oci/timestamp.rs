//! Points in time, as images and layers write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Seconds and nanoseconds since 1970, in UTC.
///
/// There is no `now()`: whoever builds an image says what time it is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { seconds: 0, nanoseconds: 0 };

    /// A whole number of seconds after the epoch.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The earlier of this time and the build's `SOURCE_DATE_EPOCH`, if it has one.
    #[must_use]
    pub fn clamped(self, source_date_epoch: Option<Self>) -> Self {
        source_date_epoch.map_or(self, |limit| self.min(limit))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, with as many digits of a second as are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = i32::try_from(self.nanoseconds).unwrap_or(0);
        let time = jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or_default();
        write!(f, "{time}")
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time")]
pub struct ParseTimestampError(pub String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError(text.into()))?;
        let (mut seconds, mut nanoseconds) = (time.as_second(), time.subsec_nanosecond());
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        Ok(Self { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) })
    }
}

impl TryFrom<String> for Timestamp {
    type Error = ParseTimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_text() {
        for text in
            ["1970-01-01T00:00:00Z", "2020-01-02T03:04:05.000000006Z", "1969-12-31T23:59:59Z"]
        {
            assert_eq!(text.parse::<Timestamp>().map(String::from), Ok(text.to_owned()));
        }
        assert_eq!("1970-01-01T01:00:00+01:00".parse(), Ok(Timestamp::EPOCH));
    }

    #[test]
    fn clamping_never_makes_a_time_later() {
        let limit = Some(Timestamp::from_seconds(10));
        assert_eq!(Timestamp::from_seconds(20).clamped(limit), Timestamp::from_seconds(10));
        assert_eq!(Timestamp::from_seconds(5).clamped(limit), Timestamp::from_seconds(5));
    }
}
