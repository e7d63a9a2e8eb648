//! The builder's side of a run: starts the sandbox's process, hands out its output, waits.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use crate::sandbox::cgroup::Group;
use crate::sandbox::protocol::{Order, Outcome, receive, send};
use crate::sandbox::{
    CHILD_ARGUMENT, Cancel, Exit, Identity, Limit, Sandbox, SandboxError, Spec, Stream,
};
use crate::sys::process::{inherit, poll_until};

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
        let deadline = spec.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let group = self.group(spec)?;
        let start = self.program().path().and_then(|program| Running::start(&program, spec));
        let mut running = start.map_err(SandboxError::Start)?;
        // It waits for its order, and has started nothing yet.
        let held = group.as_ref().map_or(Ok(()), |group| group.add(running.pid()));
        let result = held
            .and_then(|()| self.order(spec, group.is_some(), &mut running))
            .and_then(|()| running.pump(output, cancel, deadline));
        // Closing this pipe is what tells the sandbox to end.
        drop(running.orders.take());
        let ended = running.child.wait();
        if cancel.is_cancelled() {
            return Err(SandboxError::Interrupted);
        }
        let outcome = result.map_err(SandboxError::Start)?;
        ended.map_err(SandboxError::Start)?;
        match spec.timeout {
            Some(timeout) if running.is_late => return Ok(Exit::TimedOut(timeout)),
            _ => {}
        }
        match spec.memory {
            Some(memory) if group.is_some_and(|group| group.ran_out()) => {
                return Ok(Exit::OutOfMemory(memory));
            }
            _ => {}
        }
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

    /// The control group for a limit of memory, where there can be one.
    fn group(&self, spec: &Spec) -> Result<Option<Group>, SandboxError> {
        let Some(memory) = spec.memory else { return Ok(None) };
        let Some(delegated) = self.control_groups() else { return Ok(None) };
        let action = "make a control group for the limit of memory".to_owned();
        let group = delegated.group(memory);
        group.map(Some).map_err(|source| SandboxError::SetUp { action, source })
    }

    fn order(&self, spec: &Spec, is_held: bool, running: &mut Running) -> io::Result<()> {
        let mut spec = spec.clone();
        if let Some(memory) = spec.memory.filter(|_| !is_held) {
            let (name, limit) = ("data".to_owned(), Some(memory));
            spec.limits.push(Limit { name, soft: limit, hard: limit });
        }
        let order = Order {
            spec,
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
    /// Whether it was told to end because its time is over.
    is_late: bool,
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
            is_late: false,
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Hands out output until nobody is left to write any, then reads the answer.
    fn pump(
        &mut self,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
        deadline: Option<Instant>,
    ) -> io::Result<Outcome> {
        let mut chunk = vec![0; CHUNK];
        let (mut stdout, mut stderr) = (Some(&self.stdout), Some(&self.stderr));
        while stdout.is_some() || stderr.is_some() {
            let ending = self.orders.is_none();
            let watched = [
                stdout.map(|stream| stream.as_fd()),
                stderr.map(|stream| stream.as_fd()),
                (!ending).then(|| cancel.descriptor()),
            ];
            let ready = poll_until(watched, deadline.filter(|_| !ending))?;
            if !ending && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.is_late = true;
                drop(self.orders.take());
            }
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
