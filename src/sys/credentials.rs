//! Being somebody else for a moment, in one thread: for whoever answers in another's name.
//!
//! The kernel keeps credentials per thread; it is the C library that makes threads agree, in calls
//! that are not used here.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/setfsuid.2.html>
#![expect(unsafe_code, reason = "rustix has no setfsuid")]

use std::io;

use rustix::process::{Gid, Uid};

/// Opens files as this user from now on, and may trace this user's processes; keeps every other right
/// of root, so that it can be undone. For the calling thread alone.
///
/// # Errors
///
/// Fails without `CAP_SETUID` and `CAP_SETGID`.
pub(crate) fn act_as(uid: Uid, gid: Gid, groups: &[Gid]) -> io::Result<()> {
    // Back to root first: only by this call do the rights come back that the same call took.
    set_file_user(0);
    match rustix::thread::set_thread_groups(groups) {
        // A user namespace may forbid groups to be set.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    set_real(libc::SYS_setresgid, gid.as_raw())?;
    set_real(libc::SYS_setresuid, uid.as_raw())?;
    set_file_group(gid.as_raw());
    set_file_user(uid.as_raw());
    Ok(())
}

/// Of the three ids changes only the real one: it is what tracing asks for.
fn set_real(call: libc::c_long, id: u32) -> io::Result<()> {
    const KEEP: u32 = u32::MAX;
    // SAFETY: the call takes three integers, and changes the calling thread's credentials only.
    let result = unsafe { libc::syscall(call, id, KEEP, KEEP) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_file_user(uid: u32) {
    // SAFETY: the call takes an integer, and changes the calling thread's credentials only.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
}

fn set_file_group(gid: u32) {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_acts_as_another_user_and_comes_back() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("writable");
        let path = directory.path().join("secret");
        std::fs::write(&path, "x").expect("writable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("ours");
        std::thread::spawn(move || {
            act_as(Uid::from_raw(65_534), Gid::from_raw(65_534), &[]).expect("root may");
            std::fs::read(&path).expect_err("somebody else's");
            act_as(Uid::ROOT, Gid::ROOT, &[]).expect("still root");
            std::fs::read(&path).expect("ours again");
        })
        .join()
        .expect("the thread ends");
        assert!(rustix::process::getuid().is_root());
    }
}
