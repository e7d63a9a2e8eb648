//! Bytes that are never shown: the values of secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes whose `Debug` is `…`. They leave this process by one way only: the pipe to the sandbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(Vec<u8>);

impl Hidden {
    /// Takes bytes in custody.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a158_debug_shows_nothing() {
        assert_eq!(format!("{:?}", Hidden::new(b"hunter2".to_vec())), "…");
    }
}
