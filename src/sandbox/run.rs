//! The builder's side of a run: starts the sandbox's process, hands out its output, waits.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::pipe::PipeFlags;

use crate::sandbox::protocol::{Order, Outcome, receive, send};
use crate::sandbox::{CHILD_ARGUMENT, Cancel, Exit, Identity, Sandbox, SandboxError, Spec, Stream};
use crate::sys::process::{inherit, poll};

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

impl Sandbox {
    /// Runs a command to its end, handing what it writes to `output` as it comes.
    ///
    /// This blocks. The sandbox lives no longer than the calling thread, by any means of death.
    /// Whatever the command left running is dead when this returns, all mounts are gone, and the
    /// upper directory of the spec holds the command's changes and nothing else.
    ///
    /// # Errors
    ///
    /// Fails if the command could not be brought to run for a reason that is not the command's,
    /// or was cancelled; the upper directory is then good for nothing. A program that is not there
    /// is an [`Exit`].
    pub fn run(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        self.check(spec)?;
        if cancel.is_cancelled() {
            return Err(SandboxError::Interrupted);
        }
        let start = self.program().path().and_then(|program| Running::start(&program, spec));
        let mut running = start.map_err(SandboxError::Start)?;
        let result = self.order(spec, &mut running).and_then(|()| running.pump(output, cancel));
        // Closing this pipe is what tells the sandbox to end.
        drop(running.orders.take());
        let ended = running.child.wait();
        if cancel.is_cancelled() {
            return Err(SandboxError::Interrupted);
        }
        let outcome = result.map_err(SandboxError::Start)?;
        ended.map_err(SandboxError::Start)?;
        match outcome {
            Outcome::Exited(code) => Ok(Exit::Code(code)),
            Outcome::Signaled(signal) => Ok(Exit::Signal(signal)),
            Outcome::NotStarted { program, errno } => Ok(Exit::NotStarted { program, errno }),
            Outcome::Failed { action, errno } => {
                let source = io::Error::from_raw_os_error(errno);
                Err(SandboxError::SetUp { action, source })
            }
            Outcome::Lost => Err(SandboxError::Lost),
        }
    }

    /// Refuses what can be known not to work.
    fn check(&self, spec: &Spec) -> Result<(), SandboxError> {
        if spec.args.is_empty() {
            return Err(SandboxError::NoCommand);
        }
        self.require_user(spec.user.uid)?;
        // With one id, files in memory belong to that, whoever they were meant for.
        if self.identity() != Identity::Single {
            spec.memory_files.iter().try_for_each(|file| {
                self.require_user(file.uid).and_then(|()| self.require_group(file.gid))
            })?;
        }
        let groups = [spec.user.gid].into_iter().chain(spec.user.groups.iter().copied());
        groups.into_iter().try_for_each(|group| self.require_group(group))
    }

    fn order(&self, spec: &Spec, running: &mut Running) -> io::Result<()> {
        let order = Order {
            spec: spec.clone(),
            isolation: self.isolation(),
            trusted_marks: self.has_trusted_marks(),
            may_set_groups: self.may_set_groups(),
            builder: rustix::process::getpid().as_raw_pid(),
            without_wall: self.may_lack_wall(),
        };
        running.orders.as_ref().map_or(Ok(()), |orders| send(orders, &order))
    }
}

/// A sandbox's process, seen from outside.
struct Running {
    child: Child,
    orders: Option<File>,
    answers: File,
    stdout: File,
    stderr: File,
}

impl Running {
    fn start(program: &Path, spec: &Spec) -> io::Result<Self> {
        let (order_end, orders) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (answers, answer_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(program);
        command
            .arg0("coracle")
            .arg(CHILD_ARGUMENT)
            .args([&order_end, &answer_end].map(|fd| fd.as_raw_fd().to_string()))
            .env_clear()
            .current_dir("/")
            .stdin(if spec.interactive { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        inherit(&mut command, vec![order_end, answer_end]);
        let mut child = command.spawn()?;
        // Closes our copies of the ends that are the child's.
        drop(command);
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        Ok(Self {
            child,
            orders: Some(File::from(orders)),
            answers: File::from(answers),
            stdout: File::from(OwnedFd::from(stdout)),
            stderr: File::from(OwnedFd::from(stderr)),
        })
    }

    /// Hands out output until nobody is left to write any, then reads the answer.
    fn pump(
        &mut self,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> io::Result<Outcome> {
        let mut chunk = vec![0; CHUNK];
        let (mut stdout, mut stderr) = (Some(&self.stdout), Some(&self.stderr));
        while stdout.is_some() || stderr.is_some() {
            let cancelled = self.orders.is_none();
            let watched = [
                stdout.map(|stream| stream.as_fd()),
                stderr.map(|stream| stream.as_fd()),
                (!cancelled).then(|| cancel.descriptor()),
            ];
            let ready = poll(watched)?;
            if ready[0] {
                stdout = forward(stdout, &mut chunk, Stream::Stdout, output)?;
            }
            if ready[1] {
                stderr = forward(stderr, &mut chunk, Stream::Stderr, output)?;
            }
            if ready[2] {
                drop(self.orders.take());
            }
        }
        Ok(receive(&self.answers)?.unwrap_or(Outcome::Lost))
    }
}

/// Hands out what there is; gives the stream back unless it has ended.
fn forward<'a>(
    stream: Option<&'a File>,
    chunk: &mut [u8],
    name: Stream,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<Option<&'a File>> {
    let Some(mut file) = stream else { return Ok(None) };
    match file.read(chunk) {
        Ok(0) => Ok(None),
        Ok(count) => {
            output(name, &chunk[..count]);
            Ok(stream)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(stream),
        Err(error) => Err(error),
    }
}
