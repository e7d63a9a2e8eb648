//! Runs the program, with a home and a store of its own, as one of the users that matter.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::support::image::Image;
use crate::support::process;
use crate::support::requirement;
use crate::support::scratch::Scratch;

/// What `sudo` is where one is root already.
const SUDO: &str = "sudo() { \"$@\"; }";

/// Whom the program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The superuser.
    Root,
    /// An ordinary user with subordinate ids: `coracle-test`, or whoever runs the tests.
    Subordinate,
    /// An ordinary user without: `coracle-single`.
    Single,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; 128 and the signal if one ended it.
    pub(crate) code: i32,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// All that it wrote.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Checks that it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Checks that it failed with this code, and said all of `words` (in any case of letters).
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self}");
        let text = self.text().to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "no {word:?} in:\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "status {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// The program for one user, with an own home.
#[derive(Debug)]
pub(crate) struct Coracle {
    scratch: Scratch,
    binary: PathBuf,
    /// `--reuid` and `--regid`, if the tests run as somebody else.
    ids: Option<(u32, u32)>,
    env: Vec<(String, String)>,
}

impl Coracle {
    /// As an ordinary user with subordinate ids: the usual case.
    pub(crate) fn new() -> Result<Self, String> {
        Self::run_by(Who::Subordinate)
    }

    /// As `who`.
    pub(crate) fn run_by(who: Who) -> Result<Self, String> {
        let ids = match who {
            Who::Root => requirement::root().map(|()| None)?,
            Who::Subordinate if !requirement::is_root() => own_subordinate_ids().map(|()| None)?,
            Who::Subordinate => Some(ids_of("coracle-test")?),
            Who::Single => {
                requirement::root()?;
                Some(ids_of("coracle-single")?)
            }
        };
        let scratch = Scratch::new();
        let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_coracle"));
        if ids.is_some() {
            // The checkout may be where that user cannot look.
            let reachable = scratch.join("coracle");
            fs::hard_link(&binary, &reachable)
                .or_else(|_| fs::copy(&binary, &reachable).map(drop))
                .expect("the program can be linked or copied");
            binary = reachable;
        }
        let mut coracle = Self { scratch, binary, ids, env: Vec::new() };
        coracle.own(&coracle.home(""));
        coracle.own(&coracle.scratch.join("log"));
        coracle.set("CORACLE_DEBUG", &coracle.scratch.join("log/debug").display().to_string());
        Ok(coracle)
    }

    /// What all runs so far have told of themselves (`CORACLE_DEBUG`).
    pub(crate) fn debug_log(&self) -> String {
        let bytes = fs::read(self.scratch.join("log/debug")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes a directory that belongs to the user.
    pub(crate) fn own(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("scratch is writable");
        if let Some((uid, gid)) = self.ids {
            std::os::unix::fs::chown(directory, Some(uid), Some(gid)).expect("root may do it");
        }
    }

    /// A path in the user's home.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.scratch.join("home").join(name)
    }

    /// The user's store.
    pub(crate) fn store(&self) -> PathBuf {
        self.home(".local/share/coracle")
    }

    /// What is in the only cache mount that there is.
    pub(crate) fn cache_mount(&self) -> PathBuf {
        let mut find = Command::new("find");
        find.arg(self.store().join("mounts")).args(["-name", "data"]);
        let found = find.output().expect("find runs").stdout;
        PathBuf::from(String::from_utf8_lossy(&found).trim())
    }

    /// Sets an environment variable for all further runs.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Any program as the user, in the user's home and environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((uid, gid)) = self.ids {
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
            command.arg("--init-groups");
        }
        command.arg("--").arg(program);
        command.env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.home("")).env("LANG", "C.UTF-8");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.home(""));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The program with these arguments, not started yet.
    pub(crate) fn prepare<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command(&self.binary);
        command.args(arguments);
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        finish(&mut self.prepare(arguments), b"")
    }

    /// Runs the program to its end where nobody may make a namespace of any kind, as on machines that
    /// forbid it.
    pub(crate) fn run_without_namespaces<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.run_without_namespaces_but("", arguments)
    }

    /// The same, after somebody who may has typed `advice`.
    pub(crate) fn run_without_namespaces_but<S: AsRef<OsStr>>(
        &self,
        advice: &str,
        arguments: &[S],
    ) -> Output {
        // The limit holds in a user namespace of its own, in which the user stays who it is.
        let limits = "for it in /proc/sys/user/max_*_namespaces; do echo 0 > $it || exit 9; done";
        let drop = "exec setpriv --inh-caps=-all --ambient-caps=-all -- \"$@\"";
        let mut command = self.command(Path::new("unshare"));
        command.args(["--user", "--map-current-user", "--keep-caps", "--", "sh", "-c"]);
        command.args([&format!("{limits}; {SUDO}; {{ :; {advice}\n}} >&2; {drop}"), "sh"]);
        command.arg(&self.binary).args(arguments);
        finish(&mut command, b"")
    }

    /// Runs the program to its end after root has typed `advice`, on a machine whose `/etc` is a copy
    /// of this one's.
    pub(crate) fn run_after<S: AsRef<OsStr>>(&self, advice: &str, arguments: &[S]) -> Output {
        let (program, scratch) = (self.prepare(arguments), Scratch::new());
        let copy = format!("cp -a /etc $1; mount --bind $1/etc /etc; {SUDO}");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--", "sh", "-ec"]);
        command.args([&format!("{copy}; {{ :; {advice}\n}} >&2; shift; exec \"$@\""), "sh"]);
        command.arg(scratch.path()).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(&mut command, b"")
    }

    /// Runs the program to its end, with `input` on its standard input.
    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        input: impl AsRef<[u8]>,
    ) -> Output {
        finish(self.prepare(arguments).stdin(Stdio::piped()), input.as_ref())
    }

    /// Builds `context` with the bases of `mirror`, and reads the image from an OCI tar.
    #[track_caller]
    pub(crate) fn build(&self, context: &Path, mirror: &str, options: &[&str]) -> Image {
        let tar = self.home("built.tar");
        let output = format!("type=oci,dest={}", tar.display());
        let context = context.display().to_string();
        let fixed = ["build", "--registry-mirror", mirror, "--output", &output];
        self.run(&[&fixed, options, &[&context]].concat()).ok();
        Image::from_oci_tar(&tar)
    }

    /// Builds `context` into the store with the bases of `mirror`; gives the image's digest.
    #[track_caller]
    pub(crate) fn build_digest(&self, context: &Path, mirror: &str, options: &[&str]) -> String {
        let file = self.home("metadata.json");
        let (name, context) = (file.display().to_string(), context.display().to_string());
        let fixed = ["build", "--registry-mirror", mirror, "--metadata-file", &name];
        self.run(&[&fixed, options, &[&context]].concat()).ok();
        let metadata = fs::read(&file).expect("the build wrote its metadata");
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).expect("it is JSON");
        metadata["containerimage.digest"].as_str().expect("the image has a digest").to_owned()
    }

    /// Starts the program with its output going to files in the home, `NAME.out` and `NAME.err`.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, arguments: &[S], name: &str) -> process::Process {
        let file = |end: &str| {
            fs::File::create(self.scratch.join(&format!("{name}.{end}"))).expect("it is writable")
        };
        process::Process::start(self.prepare(arguments).stdout(file("out")).stderr(file("err")))
    }

    /// What the program that [`start`](Self::start) started under `name` has written so far.
    pub(crate) fn written(&self, name: &str) -> String {
        let read = |end: &str| {
            let bytes = fs::read(self.scratch.join(&format!("{name}.{end}"))).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("out") + &read("err")
    }

    /// Checks that no process and no mount of this user's is left, soon.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_nothing_names(self.scratch.path());
    }
}

/// Checks that no process names the directory `scratch` or lives where something of it is mounted,
/// soon.
#[track_caller]
pub(crate) fn assert_nothing_names(scratch: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = naming(scratch);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn naming(scratch: &Path) -> Vec<String> {
    let scratch = scratch.to_str().expect("scratch paths are ASCII");
    let own = std::process::id().to_string();
    let mut left = Vec::new();
    for process in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // Unreadable is somebody else's, or gone.
        let read = |name: &str| {
            let bytes = fs::read(process.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        if command.contains(scratch) || read("mountinfo").contains(scratch) {
            left.push(format!("{pid}: {command}"));
        }
    }
    left
}

/// What no log may hold: the tests' passwords, plain and as they are sent; tokens; signatures.
const SECRETS: [&str; 8] = [
    "the-password",
    "YWxpY2U6",
    "eyJ",
    "Bearer ",
    "Basic ",
    "_state=",
    "ignature=",
    "refresh_token=",
];

/// Every run of every test is looked at for secrets in what it logged (rule B018).
impl Drop for Coracle {
    fn drop(&mut self) {
        let log = self.debug_log();
        let told = |line: &&str| SECRETS.iter().any(|secret| line.contains(secret));
        if let Some(line) = log.lines().find(told).filter(|_| !std::thread::panicking()) {
            panic!("a secret is in the log: {line}");
        }
    }
}

/// Runs a command to its end, with `input` on its standard input if that is a pipe.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.spawn().expect("setpriv is there");
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read all of it closes the pipe.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().expect("the child is ours");
    let status = output.status;
    Output {
        code: status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The ids of a user that `scripts/setup users` makes.
fn ids_of(user: &str) -> Result<(u32, u32), String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find_map(|line| line.strip_prefix(&format!("{user}:")));
    let mut fields = entry.unwrap_or_default().split(':').skip(1);
    let mut number = || fields.next().and_then(|field| field.parse().ok());
    match (number(), number()) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => Err(format!("there is no user {user} (`scripts/setup users` makes it, as root)")),
    }
}

/// Whether whoever runs the tests has subordinate ids.
fn own_subordinate_ids() -> Result<(), String> {
    let name = std::env::var("USER").unwrap_or_default();
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let uid = rustix::process::getuid().as_raw().to_string();
    let mine = |line: &str| {
        let owner = line.split(':').next().unwrap_or_default();
        owner == uid || (owner == name && !name.is_empty())
    };
    if ranges.lines().any(mine) { Ok(()) } else { Err("you have no range in /etc/subuid".into()) }
}
