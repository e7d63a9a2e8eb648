//! PAX records: `length key=value` lines that hold what a tar header has no room for.
//!
//! Keys and values are bytes here. POSIX asks for UTF-8, but file names need not be, and every
//! implementation in use passes other bytes through.
//!
//! Spec: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>, "pax Header Block".

use std::collections::BTreeMap;

use crate::oci::Timestamp;

/// The prefix of the keys that hold extended attributes.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Records by key, so that they are written in one order.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The records as the content of a PAX header. Keys must not hold `=`.
pub(crate) fn encode(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// Adds the records in `bytes` to `records`; an empty value deletes. `None` if they are malformed.
pub(crate) fn decode(mut bytes: &[u8], records: &mut Records) -> Option<()> {
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = number(&bytes[..space])?;
        let line = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        if key.is_empty() {
            return None;
        }
        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
            // GNU tar's oldest sparse format repeats these two; its next one has them as a list.
            let list = records.entry(b"GNU.sparse.map".to_vec()).or_default();
            list.extend([value, b","].concat());
        } else if value.is_empty() && !key.starts_with(XATTR) {
            records.remove(key);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        bytes = &bytes[length..];
    }
    Some(())
}

/// A decimal number: digits alone, without sign or blanks.
pub(crate) fn number<N: std::str::FromStr>(bytes: &[u8]) -> Option<N> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(bytes).ok()?.parse().ok()).flatten()
}

/// A time in seconds, with as many decimals as are needed.
pub(crate) fn encode_time(time: Timestamp) -> Vec<u8> {
    let (sign, seconds, nanoseconds) = match (time.seconds, time.nanoseconds) {
        // Half a second before second -1 is -1.5, kept as second -2 and half a second.
        (seconds, nanoseconds @ 1..) if seconds < 0 => {
            ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds)
        }
        (seconds, nanoseconds) => {
            (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), nanoseconds)
        }
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}").into_bytes();
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0')).into_bytes()
}

/// Reads a time; digits beyond a nanosecond are cut off. `None` if it is malformed.
pub(crate) fn decode_time(bytes: &[u8]) -> Option<Timestamp> {
    let (negative, rest) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let (whole, fraction) = match rest.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&rest[..dot], &rest[dot + 1..]),
        None => (rest, &b""[..]),
    };
    let seconds: i64 = number(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index| fraction.get(index).map_or(0, |digit: &u8| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |sum, index| sum * 10 + digit(index));
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        let check = |value: &str, expected: &str| {
            let records = Records::from([(b"path".to_vec(), value.into())]);
            let bytes = encode(&records);
            assert!(String::from_utf8_lossy(&bytes).starts_with(expected));
            let mut read = Records::new();
            decode(&bytes, &mut read).expect("our own records");
            assert_eq!(read, records);
        };
        check("x", "9 path=x\n");
        check(&"x".repeat(89), "98 path=");
        check(&"x".repeat(90), "99 path=");
        check(&"x".repeat(91), "101 path=");
    }

    #[test]
    fn malformed_records_are_refused() {
        let check = |text: &str| assert_eq!(decode(text.as_bytes(), &mut Records::new()), None);
        check("10 path=x");
        check("8 path=x\n");
        check("99999999999999999999999 path=x\n");
        check("-1 path=x\n");
        check("8 path\n");
        check("0 \n");
        check("6 =xx\n");
    }

    #[test]
    fn times_survive_text() {
        let check = |text: &str, seconds, nanoseconds| {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(decode_time(text.as_bytes()), Some(time), "{text}");
            assert_eq!(String::from_utf8_lossy(&encode_time(time)), text);
        };
        check("0", 0, 0);
        check("1.5", 1, 500_000_000);
        check("1.000000001", 1, 1);
        check("-1", -1, 0);
        check("-1.5", -2, 500_000_000);
        check("-0.25", -1, 750_000_000);
        assert_eq!(decode_time(b"1.x"), None);
        assert_eq!(decode_time(b"+1"), None);
        assert_eq!(
            decode_time(b"2.1234567899"),
            Some(Timestamp { seconds: 2, nanoseconds: 123_456_789 })
        );
    }
}
