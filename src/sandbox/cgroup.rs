//! Control groups (version 2), where a part of their tree has been delegated to this user.
//!
//! A group with processes in it cannot share out its means. So this process first moves into a
//! group below its own, which works only where it is alone there: a scope of systemd
//! (`systemd-run --user --scope -p Delegate=yes`), or a container that may write to its tree.
//! Each step then gets a group beside it.
//!
//! Manual: <https://docs.kernel.org/admin-guide/cgroup-v2.html>

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Pid;

/// The group of this process, with a group below it that this process is in now.
#[derive(Debug)]
pub(super) struct Delegated {
    own: PathBuf,
    leaf: PathBuf,
    count: AtomicU64,
}

/// The group of one step. Dropped, it is removed, with all that still runs in it.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Delegated {
    /// Takes over the group that this process is in; `None` if it is not ours to share out.
    pub(super) fn take() -> Option<Self> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let own = place(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))?;
        let controllers = fs::read_to_string(own.join("cgroup.controllers")).ok()?;
        if !controllers.split_ascii_whitespace().any(|name| name == "memory") {
            return None;
        }
        Self::take_over(own).ok()
    }

    fn take_over(own: PathBuf) -> io::Result<Self> {
        let leaf = own.join(format!("coracle-{}", std::process::id()));
        fs::create_dir(&leaf)?;
        // Dropped on an error: then this process goes back to where it was.
        let delegated = Self { own, leaf, count: AtomicU64::new(0) };
        fs::write(delegated.leaf.join("cgroup.procs"), "0")?;
        fs::write(delegated.own.join("cgroup.subtree_control"), "+memory")?;
        Ok(delegated)
    }

    /// A new group that may use so many bytes of memory, and no swap.
    pub(super) fn group(&self, memory: u64) -> io::Result<Group> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.own.join(format!("coracle-{}-step-{number}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Group(path);
        fs::write(group.0.join("memory.max"), memory.to_string())?;
        // A machine without swap has no such file; and one process of a step dead is a step failed.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.oom.group"), "1");
        Ok(group)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::write(self.own.join("cgroup.subtree_control"), "-memory");
        let _ = fs::write(self.own.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.leaf);
    }
}

impl Group {
    /// Moves a process in, and with it whatever it starts.
    pub(super) fn add(&self, process: Pid) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), process.as_raw_pid().to_string())
    }

    /// Whether processes in it were killed for want of memory.
    pub(super) fn ran_out(&self) -> bool {
        ran_out(&fs::read_to_string(self.0.join("memory.events")).unwrap_or_default())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing is left in it, if all went as it should.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let _ = fs::remove_dir(&self.0);
    }
}

fn ran_out(events: &str) -> bool {
    events.lines().any(|line| {
        line.strip_prefix("oom_kill ").is_some_and(|count| count.trim().parse() != Ok(0_u64))
    })
}

/// The directory of this process's group, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn place(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Moved out of the part that this process may see.
    if path.starts_with("/..") {
        return None;
    }
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        let is_v2 = kind.split(' ').next() == Some("cgroup2");
        is_v2.then(|| Path::new(at).join(below.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "24 30 0:22 / /proc rw - proc proc rw\n\
        35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_group_is_found_below_its_mount() {
        let check = |cgroup: &str, mounts: &str, expected: Option<&str>| {
            assert_eq!(place(cgroup, mounts).as_deref(), expected.map(Path::new), "{cgroup}");
        };
        check("0::/user.slice/a\n", MOUNTS, Some("/sys/fs/cgroup/user.slice/a"));
        check("3:pids:/x\n0::/\n", MOUNTS, Some("/sys/fs/cgroup"));
        let inner = MOUNTS.replace("0:30 / ", "0:30 /pod ");
        check("0::/pod/a\n", &inner, Some("/sys/fs/cgroup/a"));
        check("0::/elsewhere\n", &inner, None);
        check("0::/../other\n", MOUNTS, None);
        check("3:memory:/x\n", MOUNTS, None);
        check("0::/\n", "30 24 0:27 / /cg rw - cgroup cgroup rw,memory\n", None);
    }

    #[test]
    fn a_group_is_given_its_limit_and_what_became_of_it_is_read() {
        // A directory stands in for the kernel's tree: what is written is what counts here.
        let tree = tempfile::tempdir().expect("writable");
        let delegated = Delegated::take_over(tree.path().to_owned()).expect("writable");
        assert_eq!(
            fs::read_to_string(tree.path().join("cgroup.subtree_control")).expect("written"),
            "+memory"
        );
        let group = delegated.group(1 << 20).expect("writable");
        group.add(rustix::process::getpid()).expect("writable");
        let read = |name: &str| fs::read_to_string(group.0.join(name)).expect("written");
        assert_eq!((read("memory.max"), read("memory.swap.max")), ("1048576".into(), "0".into()));
        assert_eq!(read("cgroup.procs"), std::process::id().to_string());
        assert!(!group.ran_out());
        assert!(!ran_out("low 0\noom 3\noom_kill 0\n"));
        assert!(ran_out("low 0\noom_kill 1\noom_group_kill 1\n"));
    }
}
