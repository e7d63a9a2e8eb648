//! Answers the calls that the filter asks about: which function is whose.

use std::sync::{Arc, PoisonError};

use rustix::io::Errno;

use crate::sandbox::answering::Answers;
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::files::xattrs::By;
use crate::sandbox::emulate::files::{attributes, directory, names, open, stat, xattrs};
use crate::sandbox::emulate::world::World;
use crate::sandbox::emulate::{identity, known, others, quotas, sockets};
use crate::sys::notify::{Answer, Listener, Notification};

const FOLLOW: By = By::Path { follow: true };
const NO_FOLLOW: By = By::Path { follow: false };
const LINK_ITSELF: u32 = libc::AT_SYMLINK_NOFOLLOW.unsigned_abs();
const DIRECTORY_ONLY: u32 = libc::AT_REMOVEDIR.unsigned_abs();

/// Knows the answers.
pub(super) struct Desk(pub(super) Arc<World>);

impl Answers for Desk {
    fn listener(&self) -> &Listener {
        self.0.listener()
    }

    fn answer(&self, asked: Notification) {
        let Self(world) = self;
        let closed = world.closed.read().unwrap_or_else(PoisonError::into_inner);
        let answered = match world.processes.of(asked.thread) {
            Some(process) if !*closed => find(&Call { world, process, asked }),
            _ => Err(Errno::SRCH),
        };
        if known::changes_names(&asked) {
            world.known.forget();
        }
        drop(closed);
        answer(world, asked.id, answered);
    }
}

/// Tells a caller. That it is gone by now does no harm.
pub(super) fn answer(world: &World, id: u64, answered: Answered) {
    let listener = world.listener();
    let told = match answered {
        Ok(Reply::Value(value)) => listener.answer(id, Answer::Value(value)),
        Ok(Reply::Continue) => listener.answer(id, Answer::Continue),
        Ok(Reply::Later) => Ok(()),
        Ok(Reply::Descriptor { fd, close_on_exec }) => {
            match listener.answer_with(id, &fd, close_on_exec) {
                Ok(()) => Ok(()),
                Err(errno) => listener.answer(id, Answer::Error(errno)),
            }
        }
        Err(errno) => listener.answer(id, Answer::Error(errno)),
    };
    drop(told);
}

fn find(call: &Call<'_>) -> Answered {
    let Notification { call: number, .. } = call.asked;
    match i64::from(number) {
        libc::SYS_open => open::open(call),
        libc::SYS_creat => open::creat(call),
        libc::SYS_openat => open::openat_(call),
        libc::SYS_openat2 => open::openat2(call),
        libc::SYS_stat => stat::stat(call, true),
        libc::SYS_lstat => stat::stat(call, false),
        libc::SYS_fstat => stat::fstat(call),
        libc::SYS_newfstatat => stat::fstatat(call),
        libc::SYS_statx => stat::statx(call),
        libc::SYS_access => stat::access(call, HERE, &call.peek_path(0)?, call.bits(1), 0),
        libc::SYS_faccessat => {
            stat::access(call, call.int(0), &call.peek_path(1)?, call.bits(2), 0)
        }
        libc::SYS_faccessat2 => {
            stat::access(call, call.int(0), &call.peek_path(1)?, call.bits(2), call.bits(3))
        }
        libc::SYS_readlink => stat::readlink(call, HERE, 0),
        libc::SYS_readlinkat => stat::readlink(call, call.int(0), 1),
        libc::SYS_statfs => stat::statfs(call, false),
        libc::SYS_fstatfs => stat::statfs(call, true),
        libc::SYS_chdir => directory::chdir(call),
        libc::SYS_fchdir => directory::fchdir(call),
        libc::SYS_getcwd => directory::getcwd(call),
        _ => find_change(call),
    }
}

/// Calls that make, move and remove files.
fn find_change(call: &Call<'_>) -> Answered {
    let path = |index| call.path(index);
    match i64::from(call.asked.call) {
        libc::SYS_mkdir => names::make_directory(call, HERE, &path(0)?, call.bits(1)),
        libc::SYS_mkdirat => names::make_directory(call, call.int(0), &path(1)?, call.bits(2)),
        libc::SYS_mknod => {
            names::make_node(call, HERE, &path(0)?, call.bits(1), u64::from(call.bits(2)))
        }
        libc::SYS_mknodat => {
            names::make_node(call, call.int(0), &path(1)?, call.bits(2), u64::from(call.bits(3)))
        }
        libc::SYS_symlink => names::make_link(call, &names::target(call)?, HERE, &path(1)?),
        libc::SYS_symlinkat => {
            names::make_link(call, &names::target(call)?, call.int(1), &path(2)?)
        }
        libc::SYS_link => names::add_name(call, (HERE, &path(0)?), (HERE, &path(1)?), 0),
        libc::SYS_linkat => {
            let (from, to) = ((call.int(0), &*path(1)?), (call.int(2), &*path(3)?));
            names::add_name(call, from, to, call.bits(4))
        }
        libc::SYS_unlink => names::remove(call, HERE, &path(0)?, false),
        libc::SYS_rmdir => names::remove(call, HERE, &path(0)?, true),
        libc::SYS_unlinkat => {
            let is_directory = match call.bits(2) {
                0 => false,
                DIRECTORY_ONLY => true,
                _ => return Err(Errno::INVAL),
            };
            names::remove(call, call.int(0), &path(1)?, is_directory)
        }
        libc::SYS_rename => names::rename(call, (HERE, &path(0)?), (HERE, &path(1)?), 0),
        libc::SYS_renameat | libc::SYS_renameat2 => {
            let is_second = i64::from(call.asked.call) == libc::SYS_renameat2;
            let flags = if is_second { call.bits(4) } else { 0 };
            let (from, to) = ((call.int(0), &*path(1)?), (call.int(2), &*path(3)?));
            names::rename(call, from, to, flags)
        }
        _ => find_attributes(call),
    }
}

/// Calls about what files have.
fn find_attributes(call: &Call<'_>) -> Answered {
    match i64::from(call.asked.call) {
        libc::SYS_chmod => attributes::chmod(call, HERE, &call.path(0)?, call.bits(1), 0),
        libc::SYS_fchmod => attributes::fchmod(call),
        libc::SYS_fchmodat => attributes::chmod(call, call.int(0), &call.path(1)?, call.bits(2), 0),
        libc::SYS_fchmodat2 => {
            attributes::chmod(call, call.int(0), &call.path(1)?, call.bits(2), call.bits(3))
        }
        libc::SYS_chown => {
            attributes::chown(call, HERE, &call.path(0)?, (call.bits(1), call.bits(2)), 0)
        }
        libc::SYS_lchown => {
            let ids = (call.bits(1), call.bits(2));
            attributes::chown(call, HERE, &call.path(0)?, ids, LINK_ITSELF)
        }
        libc::SYS_fchown => attributes::fchown(call),
        libc::SYS_fchownat => {
            let ids = (call.bits(2), call.bits(3));
            attributes::chown(call, call.int(0), &call.path(1)?, ids, call.bits(4))
        }
        libc::SYS_utime => attributes::utime(call),
        libc::SYS_utimes => attributes::utimes(call, HERE, 0),
        libc::SYS_futimesat => attributes::utimes(call, call.int(0), 1),
        libc::SYS_utimensat => attributes::utimens(call),
        libc::SYS_truncate => attributes::truncate(call),
        libc::SYS_setxattr => xattrs::set(call, FOLLOW),
        libc::SYS_lsetxattr => xattrs::set(call, NO_FOLLOW),
        libc::SYS_fsetxattr => xattrs::set(call, By::Descriptor),
        libc::SYS_getxattr => xattrs::get(call, FOLLOW),
        libc::SYS_lgetxattr => xattrs::get(call, NO_FOLLOW),
        libc::SYS_fgetxattr => xattrs::get(call, By::Descriptor),
        libc::SYS_listxattr => xattrs::list(call, FOLLOW),
        libc::SYS_llistxattr => xattrs::list(call, NO_FOLLOW),
        libc::SYS_flistxattr => xattrs::list(call, By::Descriptor),
        libc::SYS_removexattr => xattrs::remove(call, FOLLOW),
        libc::SYS_lremovexattr => xattrs::remove(call, NO_FOLLOW),
        libc::SYS_fremovexattr => xattrs::remove(call, By::Descriptor),
        _ => find_identity(call),
    }
}

/// Calls about the caller itself.
fn find_identity(call: &Call<'_>) -> Answered {
    let ids = || [call.bits(0), call.bits(1), call.bits(2)];
    let [one, two, _] = ids();
    match i64::from(call.asked.call) {
        libc::SYS_getuid => Ok(identity::id(call, |who| who.users.real)),
        libc::SYS_geteuid => Ok(identity::id(call, |who| who.users.effective)),
        libc::SYS_getgid => Ok(identity::id(call, |who| who.groups.real)),
        libc::SYS_getegid => Ok(identity::id(call, |who| who.groups.effective)),
        libc::SYS_getresuid => identity::three(call, |who| who.users),
        libc::SYS_getresgid => identity::three(call, |who| who.groups),
        libc::SYS_getgroups => identity::groups(call),
        libc::SYS_setgroups => identity::set_groups(call),
        libc::SYS_setuid => identity::change(call, |who| who.set_user(one)),
        libc::SYS_setgid => identity::change(call, |who| who.set_group(one)),
        libc::SYS_setreuid => identity::change(call, |who| who.set_user_pair(one, two)),
        libc::SYS_setregid => identity::change(call, |who| who.set_group_pair(one, two)),
        libc::SYS_setresuid => identity::change(call, |who| who.set_users(ids())),
        libc::SYS_setresgid => identity::change(call, |who| who.set_groups(ids())),
        libc::SYS_setfsuid => identity::change_for_files(call, |who| who.set_user_for_files(one)),
        libc::SYS_setfsgid => identity::change_for_files(call, |who| who.set_group_for_files(one)),
        libc::SYS_capget => identity::capabilities(call),
        libc::SYS_capset => identity::set_capabilities(call),
        libc::SYS_prctl => identity::setting(call),
        libc::SYS_umask => Ok(identity::umask(call)),
        libc::SYS_uname => identity::uname(call),
        _ => find_other(call),
    }
}

/// Calls about sockets and other processes.
fn find_other(call: &Call<'_>) -> Answered {
    match i64::from(call.asked.call) {
        libc::SYS_socket => sockets::socket(call),
        libc::SYS_socketpair => sockets::pair(call),
        libc::SYS_bind => sockets::bind(call),
        libc::SYS_connect => sockets::connect(call),
        libc::SYS_getsockname => sockets::name_of(call, false),
        libc::SYS_getpeername => sockets::name_of(call, true),
        libc::SYS_getsockopt => sockets::peer_credentials(call),
        libc::SYS_kill => others::kill(call),
        libc::SYS_tkill
        | libc::SYS_tgkill
        | libc::SYS_rt_sigqueueinfo
        | libc::SYS_rt_tgsigqueueinfo => others::signal(call, 0),
        libc::SYS_setpriority => others::priority(call, false),
        libc::SYS_ioprio_set => others::priority(call, true),
        libc::SYS_pidfd_open
        | libc::SYS_prlimit64
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_setattr
        | libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_get_robust_list => others::known(call, 0),
        _ => quotas::grow(call),
    }
}
