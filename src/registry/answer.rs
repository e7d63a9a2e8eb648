//! What a registry says when it refuses.
//!
//! The specification has a JSON document for it; real registries also send HTML, plain text and
//! nothing at all. None of these may hide the error itself (rule B091).

use std::fmt;

use serde::Deserialize;

/// The longest text of an answer that is not JSON which is shown.
const LONGEST_TEXT: usize = 200;

/// The body of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The errors that the specification's document lists.
    pub errors: Vec<ServerError>,
    /// The text, where the body is anything else.
    pub text: Option<String>,
}

/// One error, in the registry's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The message.
    pub message: String,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    errors: Vec<WireError>,
    /// Token servers: `details` of Docker Hub, `message` of GitLab, `error` of OAuth.
    #[serde(default)]
    details: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<serde_json::Value>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: serde_json::Value,
}

impl Answer {
    /// Reads a body, whatever it is.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let Ok(wire) = serde_json::from_slice::<Wire>(body) else {
            return Self { errors: Vec::new(), text: plain_text(body) };
        };
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => clean(&text),
            serde_json::Value::Null => String::new(),
            other => clean(&other.to_string()),
        };
        let errors: Vec<ServerError> = wire
            .errors
            .into_iter()
            .map(|error| ServerError { code: text(error.code), message: text(error.message) })
            .collect();
        let single = wire.details.or(wire.message).or(wire.error).map(text);
        let single = single.filter(|text| errors.is_empty() && !text.is_empty());
        Self { errors, text: single }
    }

    /// Whether one of the errors has that code.
    pub fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code.eq_ignore_ascii_case(code))
    }

    /// Whether waiting for seconds or minutes is pointless (rule B096).
    pub(crate) fn is_long_limit(&self) -> bool {
        let shown = self.to_string();
        shown.contains("pull rate limit") || shown.contains("increase the limit by")
    }
}

impl fmt::Display for Answer {
    /// `: message (CODE)`, to follow what we say ourselves; nothing if nothing was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            match (error.message.as_str(), error.code.as_str()) {
                ("", code) => f.write_str(code)?,
                (message, "") => f.write_str(message)?,
                (message, code) => write!(f, "{message} ({code})")?,
            }
        }
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

/// The text of a `Warning: 299 - "text"` header (rule B017). Other codes are for caches.
pub(crate) fn warning_text(header: &str) -> Option<String> {
    let rest = header.trim().strip_prefix("299 ")?;
    let quoted = rest.split_once('"')?.1;
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some(clean(&text)).filter(|text| !text.is_empty()),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

/// The first lines of what is not JSON; nothing of HTML, which says nothing to a person.
fn plain_text(body: &[u8]) -> Option<String> {
    let text = clean(&String::from_utf8_lossy(body));
    let is_markup = text.starts_with('<');
    Some(text).filter(|text| !text.is_empty() && !is_markup)
}

/// One line, without control characters that could play with a terminal, and not too long.
fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST_TEXT) {
        None => words,
        Some((end, _)) => format!("{}…", &words[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b091_every_kind_of_body_is_read() {
        let check = |body: &str, expected: &str| {
            assert_eq!(Answer::parse(body.as_bytes()).to_string(), expected, "{body}");
        };
        check(
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
            ": manifest unknown (MANIFEST_UNKNOWN)",
        );
        check(r#"{"errors":[{"code":"DENIED"},{"message":"no"}]}"#, ": DENIED; no");
        check(r#"{"errors":[{"code":401,"message":null}]}"#, ": 401");
        check(
            r#"{"details":"incorrect username or password"}"#,
            ": incorrect username or password",
        );
        check(r#"{"error":"invalid_grant"}"#, ": invalid_grant");
        check("Too Many Requests (HAP429).\n", ": Too Many Requests (HAP429).");
        check("<html><body>502</body></html>", "");
        check("", "");
        check("{}", "");
        check("[1,2]", ": [1,2]");
        check("\u{1b}[31mred\u{7}", ": [31mred");
        check(&"x".repeat(1000), &format!(": {}…", "x".repeat(200)));
    }

    #[test]
    fn b017_warnings_have_a_code_and_a_text() {
        let check = |header: &str, expected: Option<&str>| {
            assert_eq!(warning_text(header).as_deref(), expected, "{header}");
        };
        check(r#"299 - "it is \"old\"""#, Some("it is \"old\""));
        check(r#"299 r.example "gone soon" "Sun, 06 Nov 1994 08:49:37 GMT""#, Some("gone soon"));
        check(r#"110 - "stale""#, None);
        check(r#"299 - "unterminated"#, None);
        check("", None);
    }

    #[test]
    fn b096_docker_hubs_limit_is_recognised() {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit. You may increase the limit by authenticating and upgrading"}]}"#;
        assert!(Answer::parse(body.as_bytes()).is_long_limit());
        assert!(!Answer::parse(b"Too Many Requests (HAP429).").is_long_limit());
    }
}
