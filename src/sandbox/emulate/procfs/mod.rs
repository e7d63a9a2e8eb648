//! `/proc` as the step sees it: its own processes, and what says nothing of the builder.
//!
//! The supervisor opens these files itself, so nothing else guards them: this is an allow-list. A name
//! that is not in it does not exist. Numbers of processes that are not the step's do not exist either.
//! What leads out of `/proc` (`cwd`, `root`, `exe`, `fd`) leads to where the step thinks that is;
//! `mem`, `map_files`, `pagemap` and the like are missing.
//!
//! Names are checked one by one and are plain: numbers of known processes, or words of a list. What
//! is opened with them is opened beneath the real `/proc` without following any link.

mod contents;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::sandbox::emulate::call::Call;
use crate::sandbox::emulate::credentials::cap;
use crate::sandbox::emulate::process::Process;
use crate::sandbox::emulate::resolve::Found;
use crate::sandbox::emulate::scratch::Shown;
use crate::sandbox::emulate::world::World;

/// Files at the top that may be read.
const TOP: [&str; 25] = [
    "buddyinfo",
    "cgroups",
    "cmdline",
    "consoles",
    "cpuinfo",
    "crypto",
    "devices",
    "diskstats",
    "execdomains",
    "fb",
    "filesystems",
    "loadavg",
    "locks",
    "meminfo",
    "misc",
    "modules",
    "mtrr",
    "partitions",
    "softirqs",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
];
/// Directories at the top, which may be read with all that is in them.
const TOP_DIRECTORIES: [&str; 2] = ["pressure", "sys"];

/// Files of a process that everybody may read.
const PUBLIC: [&str; 22] = [
    "autogroup",
    "cgroup",
    "cmdline",
    "comm",
    "coredump_filter",
    "cpuset",
    "gid_map",
    "limits",
    "loginuid",
    "mountinfo",
    "mounts",
    "oom_adj",
    "oom_score",
    "oom_score_adj",
    "projid_map",
    "sched",
    "schedstat",
    "sessionid",
    "setgroups",
    "stat",
    "statm",
    "status",
];
/// Files of a process that its own user may read.
const PRIVATE: [&str; 11] = [
    "auxv",
    "environ",
    "io",
    "maps",
    "numa_maps",
    "personality",
    "smaps",
    "smaps_rollup",
    "timerslack_ns",
    "uid_map",
    "wchan",
];
/// Files of a process that its own user may write.
const WRITABLE: [&str; 6] =
    ["autogroup", "comm", "coredump_filter", "oom_adj", "oom_score_adj", "timerslack_ns"];
/// Directories of a process that its own user may look into.
const DIRECTORIES: [&str; 6] = ["attr", "fd", "fdinfo", "net", "ns", "task"];

/// Something in `/proc`.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where, from `/proc`: empty, or beginning with a slash.
    pub(super) path: Vec<u8>,
    pub(super) kind: NodeKind,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    File,
    /// A link to a place of the step's.
    Link(Vec<u8>),
    /// A link to an open file of one of the step's processes.
    Descriptor,
    /// A link that leads nowhere, but can be read.
    Name,
}

/// What `name` is in the directory `path` of `/proc`.
pub(super) fn look(
    world: &World,
    call: &Call<'_>,
    path: &[u8],
    name: &[u8],
) -> Result<Node, Errno> {
    let last = std::str::from_utf8(name).map_err(|_| Errno::NOENT)?;
    let names: Vec<&str> = names(path)?;
    let at = |kind| Node { path: [path, b"/", name].concat(), kind };
    let kind = match *names.as_slice() {
        [] => return look_at_top(world, call, last).map(at),
        [top, ..] if TOP_DIRECTORIES.contains(&top) => {
            return kind_on_disk(world, &at(NodeKind::File)).map(at);
        }
        [pid, "task"] => {
            let process = process(world, pid)?;
            let thread = number(last).and_then(|tid| world.processes.of(tid));
            let is_his = thread.is_some_and(|thread| thread.pid == process.pid);
            if is_his { NodeKind::Directory } else { return Err(Errno::NOENT) }
        }
        [pid] => look_at_process(world, call, pid, last)?,
        [pid, "task", _] if last != "task" => look_at_process(world, call, pid, last)?,
        [pid, ref inner @ ..] => look_deeper(world, call, pid, inner, last, &at(NodeKind::File))?,
    };
    if kind == NodeKind::File {
        kind_on_disk(world, &at(NodeKind::File))?;
    }
    Ok(at(kind))
}

fn look_at_top(world: &World, call: &Call<'_>, name: &str) -> Result<NodeKind, Errno> {
    let (pid, tid) = (call.process.pid.as_raw_pid(), call.thread().as_raw_pid());
    match name {
        "self" => Ok(NodeKind::Link(pid.to_string().into_bytes())),
        "thread-self" => Ok(NodeKind::Link(format!("{pid}/task/{tid}").into_bytes())),
        "mounts" | "net" => Ok(NodeKind::Link(format!("self/{name}").into_bytes())),
        _ if TOP.contains(&name) => Ok(NodeKind::File),
        _ if TOP_DIRECTORIES.contains(&name) => Ok(NodeKind::Directory),
        _ => process(world, name).map(|_| NodeKind::Directory),
    }
}

fn look_at_process(
    world: &World,
    call: &Call<'_>,
    pid: &str,
    name: &str,
) -> Result<NodeKind, Errno> {
    let process = process(world, pid)?;
    if PUBLIC.contains(&name) {
        return Ok(NodeKind::File);
    }
    let is_known = PRIVATE.contains(&name)
        || DIRECTORIES.contains(&name)
        || matches!(name, "cwd" | "exe" | "root");
    if !is_known || name == "net" && !world.network {
        return Err(Errno::NOENT);
    }
    if !matches!(name, "net" | "task" | "ns" | "attr") {
        may_inspect(call, &process)?;
    }
    Ok(match name {
        "exe" => NodeKind::Link(process.program().to_vec()),
        "root" => NodeKind::Link(b"/".to_vec()),
        "cwd" => {
            let place = world.place_of(&process.directory())?;
            NodeKind::Link(if place.is_empty() { b"/".to_vec() } else { place })
        }
        _ if DIRECTORIES.contains(&name) => NodeKind::Directory,
        _ => NodeKind::File,
    })
}

fn look_deeper(
    world: &World,
    call: &Call<'_>,
    pid: &str,
    inner: &[&str],
    name: &str,
    at: &Node,
) -> Result<NodeKind, Errno> {
    let process = process(world, pid)?;
    let inner = if let ["task", _, rest @ ..] = inner { rest } else { inner };
    match *inner {
        ["net", ..] => kind_on_disk(world, at),
        ["attr"] => Ok(NodeKind::File),
        ["ns"] => Ok(NodeKind::Name),
        ["fd" | "fdinfo"] => {
            may_inspect(call, &process)?;
            name.parse::<u32>().map_err(|_| Errno::NOENT)?;
            kind_on_disk(world, at)?;
            Ok(if inner == ["fd"] { NodeKind::Descriptor } else { NodeKind::File })
        }
        _ => Err(Errno::NOENT),
    }
}

/// Whether the caller may look into what only the process's own user may see.
fn may_inspect(call: &Call<'_>, process: &Process) -> Result<(), Errno> {
    let (who, whose) = (call.process.credentials(), process.credentials());
    let same = who.users.files == whose.users.effective && who.users.files == whose.users.saved;
    if process.pid == call.process.pid || same || who.can(cap::DAC_OVERRIDE) {
        return Ok(());
    }
    Err(Errno::ACCESS)
}

fn names(path: &[u8]) -> Result<Vec<&str>, Errno> {
    let path = std::str::from_utf8(path).map_err(|_| Errno::NOENT)?;
    Ok(path.split('/').filter(|name| !name.is_empty()).collect())
}

/// A process number as the kernel writes it.
fn number(word: &str) -> Option<Pid> {
    let plain = !word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| plain).and_then(Pid::from_raw)
}

fn process(world: &World, name: &str) -> Result<std::sync::Arc<Process>, Errno> {
    number(name).and_then(|pid| world.processes.get(pid)).ok_or(Errno::NOENT)
}

/// Whether a node that may be seen is really there, as a file or as a directory.
fn kind_on_disk(world: &World, node: &Node) -> Result<NodeKind, Errno> {
    let stat = statat(&world.proc, relative(node), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Name,
        _ => NodeKind::File,
    })
}

fn relative(node: &Node) -> &OsStr {
    OsStr::from_bytes(if node.path.is_empty() { b"." } else { &node.path[1..] })
}

/// The process that a node is about.
fn owner(world: &World, node: &Node) -> Option<std::sync::Arc<Process>> {
    let first = names(&node.path).ok()?.first().copied()?;
    process(world, first).ok()
}

/// The stat of a node itself.
pub(super) fn stat(world: &World, node: &Node) -> Result<Stat, Errno> {
    let mut stat = statat(&world.proc, relative(node), AtFlags::SYMLINK_NOFOLLOW)?;
    let ids = owner(world, node).map(|process| process.credentials());
    stat.st_uid = ids.as_ref().map_or(0, |who| who.users.effective);
    stat.st_gid = ids.as_ref().map_or(0, |who| who.groups.effective);
    Ok(stat)
}

/// What a link says.
pub(super) fn read_link(world: &World, node: &Node) -> Result<Vec<u8>, Errno> {
    match &node.kind {
        NodeKind::Link(target) => Ok(target.clone()),
        NodeKind::Directory | NodeKind::File => Err(Errno::INVAL),
        NodeKind::Name | NodeKind::Descriptor => {
            let text = readlinkat(&world.proc, relative(node), Vec::new())?.into_bytes();
            Ok(translate(world, &text))
        }
    }
}

/// What the step may know of where an open file really is.
fn translate(world: &World, text: &[u8]) -> Vec<u8> {
    if !text.starts_with(b"/") {
        return text.to_vec();
    }
    if let Some(place) = world.place_of_host(text) {
        return if place.is_empty() { b"/".to_vec() } else { place };
    }
    let is_told = [&b"/dev/"[..], b"/memfd:", b"/proc/", b"/SYSV"];
    if is_told.iter().any(|prefix| text.starts_with(prefix)) {
        return text.to_vec();
    }
    b"/(unreachable)".to_vec()
}

/// Opens what a descriptor of the step's stands for, as a path only. `path` is that of a
/// [`NodeKind::Descriptor`].
pub(super) fn open_descriptor(world: &World, path: &[u8]) -> Result<Found, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat(&world.proc, OsStr::from_bytes(&path[1..]), flags, Mode::empty())?;
    world.proxies.resolve(Found::new(opened)?)
}

/// Opens a node with these flags, none of which makes or empties a file.
pub(super) fn open(
    world: &World,
    call: &Call<'_>,
    node: &Node,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR) && !flags.contains(OFlags::PATH);
    match node.kind {
        NodeKind::Directory if writes => return Err(Errno::ISDIR),
        NodeKind::Directory if is_filtered(&node.path) => return list(world, call, &node.path),
        NodeKind::Link(_) | NodeKind::Descriptor if flags.contains(OFlags::PATH) => {}
        NodeKind::Link(_) | NodeKind::Descriptor => return Err(Errno::LOOP),
        NodeKind::Name => return Err(Errno::ACCESS),
        NodeKind::Directory | NodeKind::File => {}
    }
    let name = names(&node.path)?.last().copied().unwrap_or_default();
    if writes {
        let process = owner(world, node).ok_or(Errno::ACCESS)?;
        may_inspect(call, &process)?;
        if !WRITABLE.contains(&name) {
            return Err(Errno::ACCESS);
        }
    } else if node.kind == NodeKind::File
        && let Some(content) = contents::of(world, node, name)?
    {
        return contents::file(name, &content);
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let inside = match node.kind {
        NodeKind::Directory | NodeKind::File => inside | ResolveFlags::NO_SYMLINKS,
        _ => inside,
    };
    openat2(&world.proc, relative(node), flags, Mode::empty(), inside)
}

/// A directory of `/proc` as a list made for this moment: at the top with the step's processes only, in
/// a process with the names only that can be opened.
fn list(world: &World, call: &Call<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let relative =
        |name: &str| [&path[usize::from(!path.is_empty())..], b"/", name.as_bytes()].concat();
    let is_there = |name: &&str| {
        let at = relative(name);
        let at = at.strip_prefix(b"/").unwrap_or(&at);
        statat(&world.proc, OsStr::from_bytes(at), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    };
    let present = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| is_there(name)).collect()
    };
    let (mut shown, names) = if path.is_empty() {
        let processes = world.processes.numbers().into_iter();
        let numbers = processes.map(|pid| pid.as_raw_pid().to_string()).collect();
        let links = vec!["self", "thread-self", "mounts", "net"];
        let shown = Shown { directories: numbers, files: present(&TOP), links };
        (shown, present(&TOP_DIRECTORIES))
    } else {
        let files = [present(&PUBLIC), present(&PRIVATE)].concat();
        let links = vec!["cwd", "exe", "root"];
        (Shown { directories: Vec::new(), files, links }, present(&DIRECTORIES))
    };
    let seen = |name: &&str| look(world, call, path, name.as_bytes()).is_ok();
    shown.directories.extend(names.into_iter().filter(seen).map(str::to_owned));
    world.scratch.list(path, &shown).map_err(|_| Errno::IO)
}

/// Whether a directory shows other names than the real one.
fn is_filtered(path: &[u8]) -> bool {
    match names(path).as_deref() {
        Ok([]) => true,
        Ok([pid] | [pid, "task", _]) => number(pid).is_some(),
        _ => false,
    }
}
