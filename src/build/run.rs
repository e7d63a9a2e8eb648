//! RUN: a root file system, a sandbox around it, and the difference that the command made.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::BuildErrorKind;
use crate::build::Workshop;
use crate::build::copy::Trees;
use crate::build::hint;
use crate::build::layer;
use crate::build::mounts::Mounting;
use crate::build::schedule::Site;
use crate::layer::Tree as _;
use crate::oci::ContainerConfig;
use crate::oci::ImagePath;
use crate::oci::Layer;
use crate::oci::Timestamp;
use crate::plan::Network;
use crate::plan::RunStep;
use crate::plan::Ulimit;
use crate::progress::Task;
use crate::sandbox::Bind;
use crate::sandbox::Exit;
use crate::sandbox::Identity;
use crate::sandbox::Limit;
use crate::sandbox::MemoryHold;
use crate::sandbox::Sandbox;
use crate::sandbox::Spec;
use crate::sandbox::Stream;
use crate::sandbox::User;
use crate::sandbox::resolve_user;
use crate::snapshot::Active;
use crate::snapshot::Committed;
use crate::transfer::LayerSink;

/// `/etc/passwd` and `/etc/group` are not read beyond this many bytes (rule A105).
const USER_FILE_LIMIT: u64 = 10 << 20;
/// How much of a failed command's output its error shows.
const TAIL_LINES: usize = 12;

/// What `--memory` means where it cannot mean what it should.
const EACH_PROCESS: &str = "--memory: it limits the data of each process by itself, not of the step \
    as a whole, as no control group (version 2) with memory is delegated to this user: \
    `systemd-run --user --scope -p Delegate=yes coracle …`";

/// Runs the command on `files`; the layer is what it changed.
pub(crate) fn perform(
    site: &Site,
    step: &RunStep,
    files: &Committed,
    trees: &Trees,
    sink: LayerSink,
    task: &Arc<Task>,
) -> Result<Layer, BuildErrorKind> {
    let workshop = &site.workshop;
    let sandbox = workshop.sandbox()?;
    if let Some(text) = sandbox.introduce() {
        task.note(text);
        if site.request.limits.memory.is_some() && sandbox.memory_hold() == MemoryHold::EachProcess
        {
            task.note(EACH_PROCESS);
        }
    }
    let user = user(&step.user, files)?;
    let active = workshop.snapshotter.prepare(files)?;
    let scratch = workshop.store.temp_dir()?;
    let mut spec = Spec::new(active.root(), step.args.clone());
    spec.env = [&step.env[..], &step.proxy[..]].concat();
    spec.cwd.clone_from(&step.cwd);
    spec.user = user;
    spec.host_network = step.network == Network::Host;
    spec.insecure = step.insecure;
    spec.shm_size = step.settings.shm_size.unwrap_or(spec.shm_size);
    spec.limits = step.settings.ulimits.iter().map(limit).collect();
    if let Some(hostname) = &step.settings.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.memory = site.request.limits.memory;
    spec.timeout = site.request.limits.timeout;
    spec.binds = workshop.network_files(scratch.path(), &spec.hostname, &step.settings.hosts)?;
    add_pipes(&mut spec, &step.pipes, scratch.path())?;
    let mounting = Mounting { site, sandbox, trees, task, scratch: scratch.path() };
    let in_use = mounting.add(&mut spec, &step.mounts)?;
    let mut tail = Tail::default();
    let exit = sandbox.run(
        &spec,
        &mut |_: Stream, bytes: &[u8]| {
            task.output(bytes);
            tail.push(bytes);
        },
        &workshop.cancel,
    )?;
    drop(in_use);
    if !exit.success() {
        return Err(failure(step, &exit, &tail, files, sandbox.how_to_get_more_ids()));
    }
    commit(active, sink, site.request.options.source_date_epoch)
}

/// Turns the changes into a layer in the store and a snapshot for the next step.
fn commit(
    active: Active,
    sink: LayerSink,
    source_date_epoch: Option<Timestamp>,
) -> Result<Layer, BuildErrorKind> {
    let mut writer = layer::writer(sink, source_date_epoch);
    active.diff(&mut writer)?;
    let layer = layer::publish(writer.finish()?)?;
    active.commit(layer.diff_id)?;
    Ok(layer)
}

/// Runs an image's own command, with its output going where `output` says, and forgets what it
/// changed.
///
/// # Errors
///
/// Where it cannot be run at all; a status other than 0 is not an error.
pub fn run_image(
    workshop: &Workshop,
    layers: &[Layer],
    config: &ContainerConfig,
    network: Network,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Exit, BuildErrorKind> {
    let files = workshop.unpack(layers)?;
    let active = workshop.snapshotter.prepare(&files)?;
    let scratch = workshop.store.temp_dir()?;
    let args = [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().cloned();
    let mut spec = Spec::new(active.root(), args.collect());
    spec.env.clone_from(&config.env);
    if !config.working_dir.is_empty() {
        spec.cwd.clone_from(&config.working_dir);
    }
    spec.user = user(&config.user, &files)?;
    spec.host_network = network == Network::Host;
    spec.binds = workshop.network_files(scratch.path(), &spec.hostname, &[])?;
    spec.interactive = true;
    Ok(workshop.sandbox()?.run(&spec, output, &workshop.cancel)?)
}

impl Workshop {
    /// The sandbox, or why there is none.
    fn sandbox(&self) -> Result<&Sandbox, BuildErrorKind> {
        let sandbox = self.sandbox.as_deref().ok_or(BuildErrorKind::NotPrepared)?;
        sandbox.as_ref().map_err(BuildErrorKind::from)
    }

    /// Whether files can be given to anybody, because no user namespace is in the way.
    pub(crate) fn is_real_root(&self) -> bool {
        match self.sandbox.as_deref() {
            Some(sandbox) => sandbox.as_ref().is_ok_and(|s| s.identity() == Identity::Root),
            None => Identity::of_machine_root().is_some(),
        }
    }

    /// `/etc/hosts` and `/etc/resolv.conf`, which a command sees but no layer holds (rule A151).
    fn network_files(
        &self,
        scratch: &Path,
        hostname: &str,
        more: &[(String, String)],
    ) -> Result<Vec<Bind>, BuildErrorKind> {
        let hosts = scratch.join("hosts");
        let mut text =
            format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        for (name, address) in more {
            text.extend([address, "\t", name, "\n"]);
        }
        write(&hosts, text.as_bytes(), 0o644)?;
        let mut binds = vec![shown(hosts, "/etc/hosts".into())];
        if let Some(resolv_conf) = &self.resolv_conf {
            binds.push(shown(resolv_conf.clone(), "/etc/resolv.conf".into()));
        }
        Ok(binds)
    }
}

/// A file that the command may look at.
fn shown(source: PathBuf, target: PathBuf) -> Bind {
    Bind { source, target, writable: false, movable: false }
}

fn limit(limit: &Ulimit) -> Limit {
    let Ulimit { name, soft, hard } = limit.clone();
    Limit { name, soft, hard }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), BuildErrorKind> {
    use std::os::unix::fs::PermissionsExt as _;

    let written = fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    written.map_err(|source| BuildErrorKind::Scratch { path: path.to_owned(), source })
}

/// Looks `user` up in the stage's own files, at the moment of running (rule A103).
fn user(user: &str, files: &Committed) -> Result<User, BuildErrorKind> {
    let view = files.view();
    let passwd = view.read(&ImagePath::new("/etc/passwd"), USER_FILE_LIMIT)?;
    let group = view.read(&ImagePath::new("/etc/group"), USER_FILE_LIMIT)?;
    Ok(resolve_user(user, passwd.as_deref(), group.as_deref())?)
}

/// Shows heredocs with `#!` as read-only files at `/dev/pipes/` (rule A154).
fn add_pipes(
    spec: &mut Spec,
    pipes: &[(String, String)],
    scratch: &Path,
) -> Result<(), BuildErrorKind> {
    for (index, (name, text)) in pipes.iter().enumerate() {
        let source = scratch.join(format!("pipe-{index}"));
        write(&source, text.as_bytes(), 0o755)?;
        spec.binds.push(shown(source, Path::new("/dev/pipes").join(name)));
    }
    Ok(())
}

fn failure(
    step: &RunStep,
    exit: &Exit,
    tail: &Tail,
    files: &Committed,
    more_ids: Option<String>,
) -> BuildErrorKind {
    // A program that could not be started counts as status 1, after a line that names it (A152).
    let mut output = tail.text();
    if let Some(reason) = exit.reason() {
        output = format!("{output}{reason}");
    }
    let status = exit.code();
    let command = step.display.clone();
    let used_up = match exit {
        Exit::TimedOut(_) => Some("give it more time: `--timeout` takes `30m` or `2h`"),
        Exit::OutOfMemory(_) => Some("give it more memory: `--memory` takes `2g`"),
        _ => None,
    };
    if let Some(hint) = used_up {
        let (exit, hint) = (exit.to_string(), Some(hint.to_owned()));
        return BuildErrorKind::Exit { command, exit, status, output, hint };
    }
    let shown = if exit.reason().is_some() { 1 } else { status };
    let view = files.view();
    let os_release = view.read(&ImagePath::new("/etc/os-release"), 1 << 16).ok().flatten();
    let os_release = os_release.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let has = |program: &str| {
        let is_there = |directory: &str| {
            let path = view.resolve(&ImagePath::new(directory).join(program));
            path.and_then(|path| view.lookup(&path)).is_ok_and(|node| node.is_some())
        };
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].into_iter().any(is_there)
    };
    let image = hint::Image { os_release: os_release.as_deref(), has: &has, more_ids };
    let hint = if exit.reason().is_some() {
        hint::of_start(&output, &image)
    } else {
        let is_shell = step.args.first().is_some_and(|program| program.ends_with("sh"));
        let text = step.args.last().filter(|_| is_shell).map(String::as_str).unwrap_or_default();
        hint::of_exit(text, status, &output, &image)
    };
    BuildErrorKind::Exit { command, exit: format!("exit code: {shown}"), status, output, hint }
}

/// The last lines of an output.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    const LIMIT: usize = 8 * 1024;

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() > 2 * Self::LIMIT {
            self.0.drain(..self.0.len() - Self::LIMIT);
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_however_much_was_written() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert_eq!(text.lines().next_back(), Some("line 9999"));
    }
}
