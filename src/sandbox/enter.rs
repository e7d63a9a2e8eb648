//! Getting into a position to run steps, whoever this process belongs to.
//!
//! Root with `CAP_SYS_ADMIN` is in it already. Anybody else needs a user namespace: with a range
//! of ids where `/etc/subuid` lends one (or, for a container's root, all the ids that there are),
//! or else with one id. What works is found out by doing it in a process that is thrown away: on
//! some machines a namespace can be made but nothing can be done in it.
//!
//! A process can enter a user namespace only while it has one thread.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::sandbox::idmap::{IdMap, lent, name_of};
use crate::sandbox::namespaces::filesystem;
use crate::sandbox::{EnterError, Isolation, OneId, Refusal, Sandbox};
use crate::sys::namespace::unshare;
use crate::sys::process::{Fork, await_one_thread, exit_now, fork, fork_with};

/// How the process outside ends: the maps are written.
const WRITTEN: i32 = 0;
/// They are not, for the reason that it says.
const FAILED: i32 = 1;
/// They are not, as the helper that it names is not installed.
const MISSING: i32 = 2;

/// Readable by all, writable by the owner: what an image's files look like by default.
pub(super) fn set_umask() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// Gets this process into a position to run steps: as root of a user namespace, if it is not
/// root already. Sets the umask to 022.
///
/// `wanted` is the way to isolate steps, or else the strongest that works here is taken.
///
/// Call it before any thread is started, or after all have ended. If the machine refuses, the process is as it was, and can
/// do everything but run steps.
///
/// # Errors
///
/// Fails if this process has more than one thread, or if the machine does not let it make the
/// namespaces.
pub fn enter(wanted: Option<Isolation>) -> Result<Sandbox, EnterError> {
    set_umask();
    await_one_thread().map_err(EnterError::Threads)?;
    match wanted {
        None | Some(Isolation::Namespaces) => enter_namespaces(),
        Some(isolation) => Ok(Sandbox::without_namespaces(isolation)),
    }
}

fn enter_namespaces() -> Result<Sandbox, EnterError> {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 && try_to_mount(UnshareFlags::empty())?.is_ok() {
        return Ok(Sandbox::here(None, None));
    }
    if let Err((made_namespace, source)) = try_to_mount(UnshareFlags::NEWUSER)? {
        let is_root = uid == 0;
        return Err(EnterError::Refused {
            refusal: Refusal::find(made_namespace, &source),
            is_root,
            source,
        });
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid).map(str::to_owned);
    let why_one = enter_user_namespace(uid, name.as_deref()).map_err(EnterError::Map)?;
    Ok(Sandbox::here(Some(name.unwrap_or_else(|| format!("uid {uid}"))), why_one))
}

/// Tries, in a process of its own, to make namespaces with `more` and to mount something.
///
/// The inner error says whether the namespaces were made, and what the kernel said.
fn try_to_mount(more: UnshareFlags) -> Result<Result<(), (bool, io::Error)>, EnterError> {
    let (result, telling) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| EnterError::Try(error.into()))?;
    let pid = fork_with(|| {
        let Err((made, error)) = mount_something(more) else { return 0 };
        let errno = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
        let _ = File::from(telling).write_all(&[&[u8::from(made)], errno.as_slice()].concat());
        1
    })
    .map_err(EnterError::Try)?;
    // Both copies of this end must be closed for the pipe to end.
    let mut said = [0; 5];
    let code = exit_code(pid).map_err(EnterError::Try)?;
    if code == Some(0) {
        return Ok(Ok(()));
    }
    File::from(result).read_exact(&mut said).map_err(EnterError::Try)?;
    let [made, errno @ ..] = said;
    Ok(Err((made != 0, io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))))
}

fn mount_something(more: UnshareFlags) -> Result<(), (bool, io::Error)> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let made_user = more.contains(UnshareFlags::NEWUSER);
    unshare(more).map_err(|error| (false, error))?;
    if made_user {
        write_single(uid, gid).map_err(|error| (true, error))?;
    }
    let inside = || {
        unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        filesystem::new("tmpfs", &[], MountAttrFlags::empty())
    };
    inside().map(drop).map_err(|error| (made_user, error))
}

/// Enters a user namespace with as many ids as can be had; says why if it is one.
fn enter_user_namespace(uid: u32, name: Option<&str>) -> io::Result<Option<OneId>> {
    let gid = rustix::process::getegid().as_raw();
    let why_one = match maps(uid, gid, name) {
        Err(why) => {
            unshare(UnshareFlags::NEWUSER)?;
            why
        }
        Ok(maps) => match enter_with(&maps)? {
            Ok(()) => return Ok(None),
            Err(why) => why,
        },
    };
    write_single(uid, gid)?;
    Ok(Some(why_one))
}

/// The ids to ask for, and by which way.
struct Maps {
    uids: IdMap,
    gids: IdMap,
    /// Written by a process that has the right to, or else by the setuid helpers.
    directly: bool,
}

fn maps(uid: u32, gid: u32, name: Option<&str>) -> Result<Maps, OneId> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if uid == 0 {
        let all = |path| IdMap::parse(&read(path)).same_below();
        let (uids, gids) = (all("/proc/self/uid_map"), all("/proc/self/gid_map"));
        return Ok(Maps { uids, gids, directly: true });
    }
    let find = |file: &'static str, own| {
        let lent = lent(&read(file), name, uid);
        if lent.is_empty() {
            let user = name.map_or_else(|| uid.to_string(), str::to_owned);
            return Err(OneId::NotLent { file, user });
        }
        Ok(IdMap::with_lent(own, &lent))
    };
    let (uids, gids) = (find("/etc/subuid", uid)?, find("/etc/subgid", gid)?);
    Ok(Maps { uids, gids, directly: false })
}

/// Enters a user namespace while a process outside of it, started before, writes its maps.
fn enter_with(maps: &Maps) -> io::Result<Result<(), OneId>> {
    let (entered, enter) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (result, telling) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let target = rustix::process::getpid();
    let (enter, result) = (File::from(enter), File::from(result));
    let outside = match fork()? {
        Fork::Child => {
            drop((enter, result));
            let code = write_from_outside(entered, telling, target, maps);
            exit_now(code)
        }
        Fork::Parent(outside) => outside,
    };
    drop((entered, telling));
    unshare(UnshareFlags::NEWUSER)?;
    (&enter).write_all(b"x")?;
    let mut said = Vec::new();
    (&result).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(match exit_code(outside)? {
        Some(WRITTEN) => Ok(()),
        Some(MISSING) if said == "newuidmap" => Err(OneId::NoHelper { program: "newuidmap" }),
        Some(MISSING) => Err(OneId::NoHelper { program: "newgidmap" }),
        _ => Err(OneId::HelperFailed { said }),
    })
}

/// Runs in the process outside, which ends with the result as its exit code. On `telling` it says
/// which helper is missing, or what went wrong.
fn write_from_outside(entered: OwnedFd, telling: OwnedFd, target: Pid, maps: &Maps) -> i32 {
    if File::from(entered).read_exact(&mut [0]).is_err() {
        return FAILED;
    }
    let target = target.as_raw_pid();
    let write = |program: &str, file: &str, map: &IdMap| {
        if maps.directly {
            let path = format!("/proc/{target}/{file}");
            return fs::write(&path, map.table()).map_err(|e| (FAILED, format!("{path}: {e}")));
        }
        call_helper(program, target, map)
    };
    // The groups first: if they fail, the one user id can still be mapped without them.
    let result = write("newgidmap", "gid_map", &maps.gids)
        .and_then(|()| write("newuidmap", "uid_map", &maps.uids));
    match result {
        Ok(()) => WRITTEN,
        Err((code, said)) => {
            let _ = File::from(telling).write_all(said.as_bytes());
            code
        }
    }
}

/// Calls `newuidmap` or `newgidmap`.
fn call_helper(program: &str, target: i32, map: &IdMap) -> Result<(), (i32, String)> {
    let mut command = Command::new(program);
    command.arg(target.to_string()).args(map.arguments()).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err((FAILED, format!("{program} failed: {}", said.trim())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err((MISSING, program.to_owned())),
        Err(error) => Err((FAILED, format!("{program}: {error}"))),
    }
}

/// Maps one id of each kind, as far as that is not done yet.
fn write_single(uid: u32, gid: u32) -> io::Result<()> {
    if fs::read_to_string("/proc/self/gid_map")?.is_empty() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", IdMap::single(gid).table())?;
    }
    if fs::read_to_string("/proc/self/uid_map")?.is_empty() {
        fs::write("/proc/self/uid_map", IdMap::single(uid).table())?;
    }
    Ok(())
}

/// Waits for a process of ours; `None` if a signal ended it.
fn exit_code(pid: Pid) -> io::Result<Option<i32>> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(waited) => return Ok(waited.and_then(|(_, status)| status.exit_status())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
