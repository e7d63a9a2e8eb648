//! A child process that does not outlive the test.

use std::ffi::OsStr;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// A running child; dropped, it is killed and waited for.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts what [`command`] prepared.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the child starts"))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> i32 {
        self.0.id().try_into().expect("process ids are positive")
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().expect("the child is ours")
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().expect("the child is ours")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.id()).expect("process ids are not zero");
        // It may have ended by itself: then there is nobody to tell.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that gets SIGKILL when the thread that starts it ends, however it ends.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until something is so; fails after a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
