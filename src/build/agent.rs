//! `RUN --mount=type=ssh`: a socket through which a command can use the user's SSH agent (rule
//! A159).
//!
//! The socket is our own, so that it can have another mode and owner than the agent's, and so that
//! we see what is asked for: a command may list keys and have things signed. It can neither add
//! keys, nor remove or lock those of the user. `BuildKit` draws the line at the same place.
//!
//! Spec: <https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent>.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// OpenSSH's own limit for a message.
const LONGEST_MESSAGE: u32 = 256 << 10;
/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE`, as a whole message.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// A socket that leads to an agent, until this is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Agent {
    /// Makes the socket `name` in `directory`. Needs a runtime around it.
    pub(crate) fn start(
        agent: PathBuf,
        directory: &Path,
        name: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<Self> {
        // The name of a socket has at most 107 bytes, wherever the store is.
        let short = fs::File::open(directory)?;
        let path = format!("/proc/self/fd/{}/{name}", short.as_raw_fd());
        let listener = UnixListener::bind(path)?;
        let socket = directory.join(name);
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&socket, Some(uid), Some(gid))?;
        }
        fs::set_permissions(&socket, fs::Permissions::from_mode(mode & 0o7777))?;
        Ok(Self { socket, task: tokio::spawn(serve(listener, agent)) })
    }

    /// Where it is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves everybody who connects. Ends, with all connections, when its task is aborted.
async fn serve(listener: UnixListener, agent: PathBuf) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let agent = agent.clone();
        // Whoever closes a connection early knows why.
        connections.spawn(async move { forward(client, &agent).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes on messages and answers, one after the other.
async fn forward(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    loop {
        let request = message(&mut client).await?;
        let answer = if request.get(4).is_some_and(|kind| ALLOWED.contains(kind)) {
            agent.write_all(&request).await?;
            message(&mut agent).await?
        } else {
            FAILURE.to_vec()
        };
        client.write_all(&answer).await?;
    }
}

/// One message, with its length before it.
async fn message(from: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    if length > LONGEST_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = length.to_be_bytes().to_vec();
    from.take(u64::from(length)).read_to_end(&mut message).await?;
    if message.len() as u64 != u64::from(length) + 4 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every message with the same type and `ok`.
    async fn stand_in(listener: UnixListener) {
        loop {
            let (mut client, _) = listener.accept().await.expect("a connection");
            while let Ok(request) = message(&mut client).await {
                let answer = [&[0, 0, 0, 3, request[4]], b"ok".as_slice()].concat();
                client.write_all(&answer).await.expect("the client listens");
            }
        }
    }

    #[tokio::test]
    async fn a159_keys_can_be_listed_and_used_but_not_changed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let real = directory.path().join("real");
        let listening = UnixListener::bind(&real).expect("a socket");
        let stand_in = tokio::spawn(stand_in(listening));
        let agent = Agent::start(real, directory.path(), "ours", 0o640, None).expect("a socket");
        let mode = fs::metadata(agent.socket()).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let mut client = UnixStream::connect(agent.socket()).await.expect("it listens");
        for (kind, expected) in
            [(11, &b"\x0bok"[..]), (17, b"\x05"), (13, b"\x0dok"), (19, b"\x05")]
        {
            client.write_all(&[0, 0, 0, 1, kind]).await.expect("it listens");
            assert_eq!(message(&mut client).await.expect("an answer")[4..], *expected, "{kind}");
        }
        let socket = agent.socket().to_owned();
        drop(agent);
        stand_in.abort();
        assert_eq!(client.read(&mut [0]).await.expect("closed"), 0);
        assert!(UnixStream::connect(&socket).await.is_err());
    }
}
