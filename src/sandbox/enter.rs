//! Getting into a position to run steps, whoever this process belongs to.
//!
//! What works is found out by [`Probe`]. Where namespaces do, root with `CAP_SYS_ADMIN` is in it
//! already; anybody else needs a user namespace: with a range of ids where `/etc/subuid` lends one
//! (or, for a container's root, all the ids that there are). One with one id is the last choice.
//!
//! A process can enter a user namespace only while it has one thread.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::sandbox::choice::{Rung, Wish, choose};
use crate::sandbox::idmap::{IdMap, first_free, lent};
use crate::sandbox::probe::{Probe, Technique, Verdict};
use crate::sandbox::{EnterError, Isolation, OneId, Sandbox};
use crate::sys::namespace::unshare;
use crate::sys::process::{Fork, await_one_thread, exit_now, fork};

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

/// Gets this process into a position to run steps: as root of a user namespace, if that is how they
/// are isolated and it is not root already. Sets the umask to 022.
///
/// `place` is an empty directory on the store's file system, for trying things in; the caller
/// removes it.
///
/// Call it before any thread is started, or after all have ended. If the machine refuses, the process is as it was, and can
/// do everything but run steps.
///
/// # Errors
///
/// Fails if this process has more than one thread, or if no way that `wish` allows works here.
pub fn enter(wish: Wish, place: &Path) -> Result<Sandbox, EnterError> {
    set_umask();
    await_one_thread().map_err(EnterError::Threads)?;
    let works = |probe: &Probe, isolation| {
        let wish = Wish { isolation: Some(isolation), ..wish };
        // Of the last rung nobody knows whether it is the best before all is tried.
        choose(probe, wish).is_ok_and(|choice| choice.rung != Rung::OneId)
    };
    let probe = Probe::enough(place, &wish.candidates(), works).map_err(EnterError::Try)?;
    let choice = choose(&probe, wish).map_err(EnterError::Refused)?;
    let sandbox = match choice.rung.isolation() {
        Isolation::Namespaces if probe.works(Technique::Privilege) => Sandbox::here(None, None),
        Isolation::Namespaces => {
            let name = probe.name.clone();
            let why_one =
                enter_user_namespace(probe.uid, name.as_deref()).map_err(EnterError::Map)?;
            Sandbox::here(Some(name.unwrap_or_else(|| format!("uid {}", probe.uid))), why_one)
        }
        Isolation::Chroot if !probe.works(Technique::Landlock) => {
            Sandbox::without_namespaces(Isolation::Chroot).even_without_wall()
        }
        isolation => Sandbox::without_namespaces(isolation),
    };
    Ok(sandbox.knowing(&probe, &choice.better))
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

/// Tries to enter a user namespace with as many ids as there are to be had, in this process, which
/// is to be thrown away.
pub(super) fn try_maps(uid: u32, name: Option<&str>) -> Verdict {
    let gid = rustix::process::getegid().as_raw();
    let refused = |said: String| Verdict::Refused { errno: libc::EPERM, said: Some(said) };
    match maps(uid, gid, name) {
        Err(why) => refused(why.to_string()),
        Ok(maps) => match enter_with(&maps) {
            Ok(Ok(())) => Verdict::Works(Some(maps.uids.count().min(maps.gids.count()))),
            Ok(Err(OneId::NoHelper { program })) => refused(program.to_owned()),
            Ok(Err(why)) => refused(why.to_string()),
            Err(error) => Err::<(), _>(error).into(),
        },
    }
}

/// Why no ids are lent to this user, if so.
pub(super) fn not_lent(uid: u32, name: Option<&str>) -> Option<OneId> {
    maps(uid, rustix::process::getegid().as_raw(), name).err()
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
            let first_free = first_free(&(read("/etc/subuid") + &read("/etc/subgid")));
            return Err(OneId::NotLent { file, user, first_free });
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
pub(super) fn write_single(uid: u32, gid: u32) -> io::Result<()> {
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
pub(super) fn exit_code(pid: Pid) -> io::Result<Option<i32>> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(waited) => return Ok(waited.and_then(|(_, status)| status.exit_status())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
