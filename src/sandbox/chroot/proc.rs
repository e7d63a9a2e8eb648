//! What a step may see of `/proc`: its own processes, and files that tell nothing of anybody.
//!
//! The supervisor opens these files, so nothing but this list stands between a step and the builder's
//! memory. A process belongs to the step if its root directory is the step's: that cannot be had from
//! elsewhere, as a step may not change it. A process's directory is opened once, and everything is
//! looked up in there: if the process has ended and its number is another's, nothing is found.
//!
//! Never served: `mem`, `map_files`, `pagemap`, anything that can be written to.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::oci::ImagePath;
use crate::sandbox::chroot::caller::{Caller, Identity};
use crate::sandbox::chroot::served::{Served, Target};
use crate::sys::beneath;

const FIND: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Files that are the same for everybody.
const COMMON: &[&str] = &[
    "cgroups",
    "consoles",
    "cpuinfo",
    "devices",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/fs/file-max",
    "sys/fs/inotify/max_user_instances",
    "sys/fs/inotify/max_user_watches",
    "sys/fs/nr_open",
    "sys/fs/pipe-max-size",
    "sys/kernel/cap_last_cap",
    "sys/kernel/msgmax",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/ostype",
    "sys/kernel/overflowgid",
    "sys/kernel/overflowuid",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/kernel/random/entropy_avail",
    "sys/kernel/random/poolsize",
    "sys/kernel/random/uuid",
    "sys/kernel/randomize_va_space",
    "sys/kernel/sched_rt_runtime_us",
    "sys/kernel/seccomp/actions_avail",
    "sys/kernel/sem",
    "sys/kernel/shmall",
    "sys/kernel/shmmax",
    "sys/kernel/shmmni",
    "sys/kernel/threads-max",
    "sys/kernel/version",
    "sys/net/core/somaxconn",
    "sys/net/ipv4/ip_local_port_range",
    "sys/vm/max_map_count",
    "sys/vm/mmap_min_addr",
    "sys/vm/overcommit_memory",
    "sys/vm/overcommit_ratio",
    "uptime",
    "version",
    "vmstat",
];

/// Files of a process and of a thread.
const OWN: &[&str] = &[
    "auxv",
    "cmdline",
    "comm",
    "environ",
    "io",
    "limits",
    "maps",
    "oom_score",
    "oom_score_adj",
    "personality",
    "sched",
    "schedstat",
    "smaps",
    "smaps_rollup",
    "stat",
    "statm",
    "status",
    "wchan",
];

/// What is mounted, as programs like to be told: first what only the step has.
const MOUNTS: &str = "coracle / overlay rw,relatime 0 0\n\
                      proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
                      tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755 0 0\n\
                      sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0\n";
const MOUNT_INFO: &str = "20 1 0:20 / / rw,relatime - overlay coracle rw\n\
    21 20 0:21 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
    22 20 0:22 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n\
    23 20 0:23 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs rw\n";
const CGROUP: &str = "0::/\n";

/// The host's `/proc`, as far as one step may see it.
#[derive(Debug)]
pub(super) struct Proc {
    host: OwnedFd,
    /// Device and inode of the step's root directory.
    root: (u64, u64),
    /// Where that is on the host.
    root_path: Vec<u8>,
    hostname: String,
    mounts: Vec<u8>,
    mount_info: Vec<u8>,
}

/// A directory of the step's processes or of one of them: what it is called, and for links where
/// they lead.
pub(super) type Listing = BTreeMap<Vec<u8>, Item>;

/// What a name in a listing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    File,
    Directory,
    Link(Vec<u8>),
}

impl Proc {
    /// `temporary` is what is to look as if it were mounted, and of what size that is.
    pub(super) fn new<'a>(
        root: &OwnedFd,
        hostname: &str,
        temporary: impl Iterator<Item = (&'a ImagePath, u64)>,
    ) -> io::Result<Self> {
        let stat = rustix::fs::fstat(root)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(root);
        let root_path = rustix::fs::readlink(format!("/proc/self/fd/{number}"), Vec::new())?;
        let (mut mounts, mut mount_info) = (Vec::new(), Vec::new());
        for (number, (path, size)) in temporary.enumerate() {
            let number = number + 30;
            let size =
                if size == 0 { String::new() } else { format!(",size={}k", size.div_ceil(1024)) };
            let (path, options) = (escape(path), "rw,nosuid,nodev,relatime");
            let end = format!(" tmpfs {options}{size} 0 0\n");
            mounts.extend([&b"tmpfs "[..], &path, end.as_bytes()].concat());
            let begin = format!("{number} 20 0:{number} / ");
            let end = format!(" {options} - tmpfs tmpfs rw{size}\n");
            mount_info.extend([begin.as_bytes(), &path, end.as_bytes()].concat());
        }
        Ok(Self {
            mounts: [mounts, MOUNTS.into()].concat(),
            mount_info: [mount_info, MOUNT_INFO.into()].concat(),
            host: rustix::fs::open("/proc", FIND | OFlags::DIRECTORY, Mode::empty())?,
            root: (stat.st_dev, stat.st_ino),
            root_path: root_path.into_bytes(),
            hostname: hostname.to_owned(),
        })
    }

    /// What stands at a path below `/proc`, for a caller who is `identity`. This thread acts as the
    /// caller afterwards.
    pub(super) fn find(
        &self,
        path: &[&[u8]],
        caller: Caller,
        identity: &Identity,
    ) -> Result<Served, Errno> {
        let Some((first, rest)) = path.split_first() else {
            return Ok(Served::Directory(
                openat(&self.host, ".", FIND, Mode::empty())?,
                Vec::new(),
            ));
        };
        let process = || caller.process().map_err(|_| Errno::SRCH);
        match (*first, rest) {
            (b"self", []) => {
                let itself = openat(&self.host, "self", FIND | OFlags::NOFOLLOW, Mode::empty())?;
                let leads_to = Target::Open(self.process(process()?)?);
                Ok(Served::Link(number(process()?), itself, leads_to))
            }
            (b"self", rest) => self.of_process(process()?, rest, identity),
            (b"thread-self", rest) => {
                let thread = caller.0.as_raw_pid().to_string();
                let way = [&[b"task", thread.as_bytes()][..], rest].concat();
                self.of_process(process()?, &way, identity)
            }
            (b"mounts", []) => self.of_process(process()?, &[b"mounts"], identity),
            (name, rest) => match parse(name) {
                Some(pid) => self.of_process(pid, rest, identity),
                None => self.common(path),
            },
        }
    }

    fn common(&self, path: &[&[u8]]) -> Result<Served, Errno> {
        let whole = path.join(&b'/');
        let name = str::from_utf8(&whole).map_err(|_| Errno::NOENT)?;
        let below = |listed: &&str| listed.strip_prefix(name).is_some_and(|it| it.starts_with('/'));
        let found = || openat(&self.host, name, FIND | OFlags::NOFOLLOW, Mode::empty());
        if name == "sys/kernel/hostname" {
            return Ok(Served::Text(format!("{}\n", self.hostname).into_bytes(), found()?));
        }
        if COMMON.contains(&name) {
            return Ok(Served::File(found()?));
        }
        if COMMON.iter().any(below) {
            return Ok(Served::Directory(found()?, path.iter().map(|it| it.to_vec()).collect()));
        }
        Err(Errno::NOENT)
    }

    /// Opens the directory of one of the step's processes; this thread then acts as that.
    pub(super) fn process(&self, pid: i32) -> Result<OwnedFd, Errno> {
        let flags = FIND | OFlags::DIRECTORY;
        let directory = openat(&self.host, pid.to_string(), flags, Mode::empty())?;
        let status = openat(&directory, "status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let status = io::read_to_string(std::fs::File::from(status)).map_err(|_| Errno::SRCH)?;
        let owner = Identity::of(&status).ok_or(Errno::SRCH)?;
        // Only itself may see where its root is.
        owner.assume().map_err(|_| Errno::SRCH)?;
        let root = statat(&directory, "root", AtFlags::empty()).map_err(|_| Errno::NOENT)?;
        if (root.st_dev, root.st_ino) == self.root { Ok(directory) } else { Err(Errno::NOENT) }
    }

    fn of_process(&self, pid: i32, path: &[&[u8]], identity: &Identity) -> Result<Served, Errno> {
        let directory = self.process(pid)?;
        identity.assume().map_err(|_| Errno::SRCH)?;
        let mut way = vec![number(pid)];
        match path {
            [b"task", thread, rest @ ..] => {
                let thread = parse(thread).ok_or(Errno::NOENT)?;
                let flags = FIND | OFlags::DIRECTORY;
                let name = format!("task/{thread}");
                way.extend([b"task".to_vec(), number(thread)]);
                self.own(&openat(&directory, name, flags, Mode::empty())?, way, rest)
            }
            path => self.own(&directory, way, path),
        }
    }

    /// What stands at a path in the directory of a process or thread, which is at `way` in `/proc`.
    fn own(
        &self,
        directory: &OwnedFd,
        mut way: Vec<Vec<u8>>,
        path: &[&[u8]],
    ) -> Result<Served, Errno> {
        let find = |name: &str| openat(directory, name, FIND | OFlags::NOFOLLOW, Mode::empty());
        let text = |text: &[u8]| Ok(Served::Text(text.to_vec(), find("status")?));
        match path {
            [] => Ok(Served::Directory(find(".")?, way)),
            [b"mounts"] => text(&self.mounts),
            [b"mountinfo"] => text(&self.mount_info),
            [b"cgroup"] => text(CGROUP.as_bytes()),
            [name @ (b"fd" | b"fdinfo" | b"task" | b"ns")] => {
                way.push(name.to_vec());
                Ok(Served::Directory(find(text_of(name)?)?, way))
            }
            [b"fdinfo", descriptor] => {
                let descriptor = parse(descriptor).ok_or(Errno::NOENT)?;
                Ok(Served::File(find(&format!("fdinfo/{descriptor}"))?))
            }
            [b"ns", name] if name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_') => {
                let name = format!("ns/{}", text_of(name)?);
                let link = readlinkat(directory, &name, Vec::new())?;
                Ok(Served::Link(link.into_bytes(), find(&name)?, Target::Nothing))
            }
            [b"fd", descriptor, rest @ ..] => {
                let descriptor = parse(descriptor).ok_or(Errno::NOENT)?;
                self.link(directory, &format!("fd/{descriptor}"), rest)
            }
            [b"exe"] => self.link(directory, "exe", &[]),
            [name @ (b"cwd" | b"root"), rest @ ..] => self.link(directory, text_of(name)?, rest),
            [name] if OWN.contains(&text_of(name)?) => Ok(Served::File(find(text_of(name)?)?)),
            _ => Err(Errno::NOENT),
        }
    }

    /// A link of the kernel's own kind, or something below the directory that it leads to.
    fn link(&self, directory: &OwnedFd, name: &str, rest: &[&[u8]]) -> Result<Served, Errno> {
        let link = readlinkat(directory, name, Vec::new())?.into_bytes();
        let itself = openat(directory, name, FIND | OFlags::NOFOLLOW, Mode::empty())?;
        let (text, is_in_tree) = self.seen_from_inside(link);
        let is_directory = matches!(name, "cwd" | "root");
        if !rest.is_empty() || is_directory {
            // To be looked for in the tree, as everything below it is.
            if !is_in_tree {
                return Err(Errno::ACCESS);
            }
            let whole = [&[text.as_slice()][..], rest].concat().join(&b'/');
            let text = if rest.is_empty() { text } else { whole };
            return Ok(Served::Link(text, itself, Target::Path));
        }
        let leads_to = Target::Open(openat(directory, name, FIND, Mode::empty())?);
        Ok(Served::Link(text, itself, leads_to))
    }

    /// A path of the host as the step knows it, and whether it is in the tree.
    pub(super) fn seen_from_inside(&self, path: Vec<u8>) -> (Vec<u8>, bool) {
        if let Some(rest) = path.strip_prefix(self.root_path.as_slice()) {
            match rest.first() {
                None => return (b"/".to_vec(), true),
                Some(b'/') => return (rest.to_vec(), true),
                Some(_) => {}
            }
        }
        let is_known = [&b"/dev/"[..], b"/proc/"].iter().any(|prefix| path.starts_with(prefix));
        if path.starts_with(b"/") && !is_known && !path.starts_with(b"/memfd:") {
            return (b"(unreachable)".to_vec(), false);
        }
        (path, false)
    }

    /// What is in a directory of `/proc`, for whoever this thread acts as.
    pub(super) fn list(&self, way: &[Vec<u8>], served: &OwnedFd) -> io::Result<Listing> {
        let names = |all: &[&str]| -> Listing {
            all.iter().map(|name| (name.as_bytes().to_vec(), Item::File)).collect()
        };
        let last = way.last().map(Vec::as_slice);
        match (way.len(), last) {
            (0, _) => {
                let mut listing = self.common_in(b"");
                for (name, _) in beneath::read_entries(readable(&self.host)?)? {
                    if parse(&name).is_some_and(|pid| self.process(pid).is_ok()) {
                        listing.insert(name, Item::Directory);
                    }
                }
                Ok(listing)
            }
            (1.., Some(b"fd" | b"ns")) => {
                let directory = readable(served)?;
                let link = |name: &[u8]| readlinkat(&directory, name, Vec::new()).ok();
                let listed = beneath::read_names(&directory)?.into_iter().filter_map(|name| {
                    let (text, _) = self.seen_from_inside(link(&name)?.into_bytes());
                    Some((name, Item::Link(text)))
                });
                Ok(listed.collect())
            }
            (1.., Some(b"task")) => {
                let names = beneath::read_names(readable(served)?)?;
                Ok(names.into_iter().map(|name| (name, Item::Directory)).collect())
            }
            (1.., Some(b"fdinfo")) => {
                let names = beneath::read_names(readable(served)?)?;
                Ok(names.into_iter().map(|name| (name, Item::File)).collect())
            }
            (_, Some(last)) if parse(last).is_some() => {
                let mut listing = names(OWN);
                listing.extend(names(&["cgroup", "mountinfo", "mounts"]));
                for name in [&b"fd"[..], b"fdinfo", b"ns", b"task"] {
                    listing.insert(name.to_vec(), Item::Directory);
                }
                for name in ["exe", "cwd", "root"] {
                    if let Ok(link) = readlinkat(served, name, Vec::new()) {
                        let (text, _) = self.seen_from_inside(link.into_bytes());
                        listing.insert(name.as_bytes().to_vec(), Item::Link(text));
                    }
                }
                Ok(listing)
            }
            _ => Ok(self.common_in(&[way.join(&b'/'), b"/".to_vec()].concat())),
        }
    }

    /// What is in a directory of files that are the same for everybody, as far as this kernel has them.
    fn common_in(&self, directory: &[u8]) -> Listing {
        let more = ["sys/kernel/hostname"];
        let below = COMMON.iter().chain(&more).filter_map(|path| {
            let rest = path.as_bytes().strip_prefix(directory)?;
            statat(&self.host, *path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(match rest.iter().position(|byte| *byte == b'/') {
                Some(end) => (rest[..end].to_vec(), Item::Directory),
                None => (rest.to_vec(), Item::File),
            })
        });
        below.collect()
    }
}

fn readable(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A path as it is in a table of mounts: its blanks in octal.
fn escape(path: &ImagePath) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend(format!("\\{byte:03o}").into_bytes()),
            byte => text.push(*byte),
        }
    }
    text
}

/// The number that a name is, written as the kernel writes it.
fn parse(name: &[u8]) -> Option<i32> {
    let text = str::from_utf8(name).ok()?;
    let number = text.parse().ok()?;
    (number >= 0 && i32::to_string(&number) == text).then_some(number)
}

fn number(number: i32) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn text_of(name: &[u8]) -> Result<&str, Errno> {
    str::from_utf8(name).map_err(|_| Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The view of a step whose root is the host's: every process is its own.
    fn whole() -> Proc {
        let root = beneath::open_root(std::path::Path::new("/")).expect("open");
        Proc::new(&root, "here", std::iter::empty()).expect("/proc")
    }

    fn find(proc: &Proc, path: &str) -> Result<Served, Errno> {
        let path: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let caller = Caller(rustix::process::getpid());
        let identity = caller.identity().expect("/proc");
        std::thread::scope(|scope| {
            // It acts as somebody, which must not be the rest of the tests.
            scope.spawn(|| proc.find(&path, caller, &identity)).join().expect("it ends")
        })
    }

    #[test]
    fn what_is_not_on_the_list_is_not_there() {
        let proc = whole();
        for path in [
            "kcore",
            "kmsg",
            "keys",
            "config.gz",
            "cmdline",
            "sysrq-trigger",
            "sys",
            "sys/kernel/core_pattern",
            "self/mem",
            "self/map_files",
            "self/pagemap",
            "self/attr/current",
            "self/task/1/mem",
            "self/fd/x",
            "self/fd/+1",
            "self/fd/01",
            "self/fd/-1",
            "self/../1/mem",
            "self/fdinfo/../mem",
            "self/ns/../mem",
            "self/task/../mem",
            "self/uid_map",
            "nonsense",
        ] {
            let found = find(&proc, path);
            let is_harmless = path == "sys" && matches!(found, Ok(Served::Directory(..)));
            assert!(found.is_err() || is_harmless, "{path}: {found:?}");
        }
    }

    #[test]
    fn processes_with_another_root_are_not_there() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("writable");
        let root = beneath::open_root(directory.path()).expect("open");
        let proc = Proc::new(&root, "here", std::iter::empty()).expect("/proc");
        let me = rustix::process::getpid().as_raw_pid();
        for path in ["self/status", "1/status", &format!("{me}/environ"), &format!("{me}/root")] {
            assert_eq!(find(&proc, path).err(), Some(Errno::NOENT), "{path}");
        }
        assert!(matches!(find(&proc, "cpuinfo"), Ok(Served::File(_))));
        let listing = proc.list(&[], &proc.host).expect("listed");
        assert!(listing.keys().all(|name| parse(name).is_none()), "{listing:?}");
    }

    #[test]
    fn links_name_what_the_step_knows() {
        let mut proc = whole();
        proc.root_path = b"/store/tree/root".to_vec();
        let seen = |path: &[u8]| {
            let (text, is_in_tree) = proc.seen_from_inside(path.to_vec());
            (String::from_utf8(text).expect("text"), is_in_tree)
        };
        assert_eq!(seen(b"/store/tree/root/bin/sh"), ("/bin/sh".to_owned(), true));
        assert_eq!(seen(b"/store/tree/root"), ("/".to_owned(), true));
        assert_eq!(seen(b"/store/tree/rooted"), ("(unreachable)".to_owned(), false));
        assert_eq!(seen(b"/home/alice"), ("(unreachable)".to_owned(), false));
        assert_eq!(seen(b"pipe:[7]"), ("pipe:[7]".to_owned(), false));
        assert_eq!(seen(b"/dev/null"), ("/dev/null".to_owned(), false));
    }

    #[test]
    fn directories_list_what_can_be_found_in_them() {
        let proc = whole();
        let me = rustix::process::getpid().as_raw_pid();
        for path in [&format!("{me}"), &format!("{me}/task"), "sys", "sys/kernel"] {
            let Ok(Served::Directory(directory, way)) = find(&proc, path) else {
                panic!("{path} is a directory")
            };
            let listing = proc.list(&way, &directory).expect("listed");
            assert!(!listing.is_empty(), "{path}");
            for name in listing.keys() {
                let name = String::from_utf8(name.clone()).expect("text");
                // Threads of other tests come and go.
                // This process's root is the tree's, but it works in a directory that a test may not.
                if !path.ends_with("task") && name != "cwd" {
                    find(&proc, &format!("{path}/{name}")).expect(&name);
                }
            }
        }
    }
}
