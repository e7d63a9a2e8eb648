//! The command's own process: gives up what the builder could do, then becomes the command.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitySet;

use crate::sandbox::error::{Failure, While as _};
use crate::sandbox::protocol::{Order, Outcome};
use crate::sandbox::{Spec, caps, limits};
use crate::sys::process::{close_on_exec_from_3, execve, reset_signals};

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is taken from the command's process before it becomes the command.
pub(super) struct Confinement<'a> {
    /// The capabilities that it may keep, if it is root.
    pub(super) kept: CapabilitySet,
    /// Does the rest, as root still, in the working directory.
    pub(super) confine: &'a dyn Fn() -> Result<(), Failure>,
}

/// Becomes the command; returns only if that failed, having said why on `failed`.
pub(super) fn main(order: &Order, failed: &OwnedFd, confinement: &Confinement<'_>) -> i32 {
    let outcome = match become_user(order, confinement) {
        Ok(()) => {
            let program = order.spec.args.first().cloned().unwrap_or_default();
            let errno = execute(&order.spec).raw_os_error().unwrap_or(libc::EINVAL);
            Outcome::NotStarted { program, errno }
        }
        Err(failure) => Outcome::from(failure),
    };
    tell(failed, &outcome);
    127
}

/// Says on `failed` why the command does not begin.
pub(super) fn tell(failed: &OwnedFd, outcome: &Outcome) {
    if let (Ok(said), Ok(pipe)) = (serde_json::to_vec(outcome), failed.try_clone()) {
        let _ = File::from(pipe).write_all(&said);
    }
}

/// Makes the working directory, as root, if it is missing.
pub(super) fn make_directory(cwd: &str) -> Result<(), Failure> {
    let path = Path::new("/").join(cwd);
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(&path).to(format!("make the working directory `{cwd}`"))
}

fn become_user(order: &Order, confinement: &Confinement<'_>) -> Result<(), Failure> {
    let user = &order.spec.user;
    // A session of its own, or `kill 0` would reach the process that watches.
    rustix::process::setsid().to("start a session")?;
    reset_signals().to("reset the signals")?;
    close_on_exec_from_3().to("close the builder's files")?;
    rustix::process::chdir(Path::new("/").join(&order.spec.cwd))
        .to(format!("enter the working directory `{}`", order.spec.cwd))?;
    (confinement.confine)()?;
    // Before the user changes too: it takes `CAP_SYS_RESOURCE` to raise a limit.
    order.spec.limits.iter().try_for_each(limits::set)?;
    let gid = Gid::from_raw(user.gid);
    if order.may_set_groups {
        // With the main group among them, no program can shed it (CVE-2022-36109).
        let groups = [user.gid].into_iter().chain(user.groups.iter().copied());
        let groups: Vec<Gid> = groups.map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups).to("set the supplementary groups")?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).to(format!("become group {}", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).to(format!("become user {}", user.uid))?;
    caps::apply(user.uid, confinement.kept).to("give up capabilities")
}

/// Executes the command as `execvp` does, but without handing scripts to a shell.
pub(super) fn execute(spec: &Spec) -> io::Error {
    let env = environment(spec);
    let args = spec.args.iter().map(|arg| arg.clone().into_bytes()).collect();
    let (Ok(args), Ok(envp)) = (c_strings(args), c_strings(env.clone())) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let Some(program) = spec.args.first() else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let mut result = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(program, &env) {
        let Ok(candidate) = CString::new(candidate) else { continue };
        let error = execve(&candidate, &args, &envp);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // There may be one further on that may be run.
            Some(libc::EACCES) => result = error,
            _ => return error,
        }
    }
    result
}

/// The environment of the command: the spec's, secrets in place of what has their name (rule
/// A158), and `HOME` if there is none.
fn environment(spec: &Spec) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = spec.env.iter().map(|pair| pair.clone().into_bytes()).collect();
    for (name, value) in &spec.secret_env {
        let name = [name.as_bytes(), b"="].concat();
        env.retain(|pair| !pair.starts_with(&name));
        env.push([&name, value.reveal()].concat());
    }
    let has_home = env.iter().any(|pair| pair.len() > 5 && pair.starts_with(b"HOME="));
    if !has_home {
        env.retain(|pair| pair != b"HOME=");
        env.push(format!("HOME={}", spec.user.home).into_bytes());
    }
    env
}

/// Where `program` may be, in order. A name with a slash is only itself.
fn candidates(program: &str, env: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if program.contains('/') || program.is_empty() {
        return vec![program.as_bytes().to_owned()];
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix(b"PATH="));
    let directory = |part: &'_ [u8]| if part.is_empty() { b".".to_vec() } else { part.to_vec() };
    let candidate = |part| [&*directory(part), b"/", program.as_bytes()].concat();
    path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':').map(candidate).collect()
}

fn c_strings(strings: Vec<Vec<u8>>) -> Result<Vec<CString>, std::ffi::NulError> {
    strings.into_iter().map(CString::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Hidden, RootFs, WholeTree};

    #[track_caller]
    fn check_candidates(program: &str, env: &[&str], expected: &[&str]) {
        let env: Vec<Vec<u8>> = env.iter().map(|pair| pair.as_bytes().to_owned()).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|path| path.as_bytes()).collect();
        assert_eq!(candidates(program, &env), expected);
    }

    #[test]
    fn a150_a_name_is_looked_up_in_the_images_path() {
        check_candidates("sh", &["PATH=/a:/b"], &["/a/sh", "/b/sh"]);
        check_candidates("sh", &["PATH=:/b"], &["./sh", "/b/sh"]);
        check_candidates("./sh", &["PATH=/a"], &["./sh"]);
    }

    #[test]
    fn a151_home_is_the_users_unless_the_image_says() {
        let root = RootFs::Directory(WholeTree { directory: "/r".into(), records: "/o".into() });
        let mut spec = Spec::new(root, vec!["true".to_owned()]);
        assert_eq!(environment(&spec), [b"HOME=/root"]);
        spec.env = vec!["HOME=/elsewhere".to_owned()];
        assert_eq!(environment(&spec), [b"HOME=/elsewhere"]);
        spec.env = vec!["HOME=".to_owned()];
        assert_eq!(environment(&spec), [b"HOME=/root"]);
    }

    #[test]
    fn a158_a_secret_beats_a_variable_and_need_not_be_text() {
        let root = RootFs::Directory(WholeTree { directory: "/r".into(), records: "/o".into() });
        let mut spec = Spec::new(root, vec!["true".to_owned()]);
        spec.env = ["A=1", "AB=2", "HOME=/"].map(str::to_owned).to_vec();
        spec.secret_env = vec![("A".to_owned(), Hidden::new(vec![0xff]))];
        let expected: [&[u8]; 3] = [b"AB=2", b"HOME=/", b"A=\xff"];
        assert_eq!(environment(&spec), expected);
    }
}
