//! What the builder and the sandbox's processes say to each other, over pipes.
//!
//! The builder sends one [`Order`] and keeps its pipe open: when it closes, the sandbox ends. The
//! first process inside sends [`Message`]s to the one that watches it, which sends one
//! [`Outcome`] back. Each is JSON after its length in four bytes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sandbox::error::Failure;
use crate::sandbox::mountpoint::Made;
use crate::sandbox::{Isolation, Spec};

/// More than any command line and environment that the kernel would accept.
const LIMIT: u32 = 64 << 20;

/// All that the sandbox needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// What to run.
    pub(super) spec: Spec,
    /// Which backend carries it out.
    pub(super) isolation: Isolation,
    /// Whether overlayfs keeps its marks in `trusted.overlay.*`, or else in `user.overlay.*`.
    pub(super) trusted_marks: bool,
    /// Whether the user namespace allows supplementary groups to be set.
    pub(super) may_set_groups: bool,
    /// The builder's process number.
    pub(super) builder: i32,
    /// Whether a step may run with nothing but `chroot` between it and the builder.
    pub(super) without_wall: bool,
}

/// What the first process inside has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// All is mounted; these files and directories were made for it, in this order.
    Made(Vec<Made>),
    /// There is nothing more to come.
    Ended(Outcome),
}

/// How it ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The command ended with this status.
    Exited(i32),
    /// The command was ended by this signal.
    Signaled(i32),
    /// The command could not be started.
    NotStarted { program: String, errno: i32 },
    /// The sandbox could not be set up.
    Failed { action: String, errno: i32 },
    /// The first process inside was killed.
    Lost,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let errno = failure.source.raw_os_error().unwrap_or(libc::EIO);
        Self::Failed { action: failure.action, errno }
    }
}

/// Writes one message.
pub(super) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&json);
    to.write_all(&bytes)
}

/// Reads one message; `None` if the other side has closed.
pub(super) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_ne_bytes(length);
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut json)?;
    Ok(Some(serde_json::from_slice(&json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_received_then_nothing() {
        let mut pipe = Vec::new();
        send(&mut pipe, &Message::Ended(Outcome::Exited(7))).expect("send");
        let mut from = pipe.as_slice();
        let message = receive::<Message>(&mut from).expect("receive");
        assert!(matches!(message, Some(Message::Ended(Outcome::Exited(7)))));
        assert!(receive::<Message>(&mut from).expect("receive").is_none());
    }

    #[test]
    fn a_broken_length_is_an_error() {
        assert!(receive::<Message>([255; 8].as_slice()).is_err());
        assert!(receive::<Message>([9, 0, 0, 0, b'{'].as_slice()).is_err());
    }
}
