//! Answering one call of a step.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, openat2};
use rustix::io::Errno;

use crate::oci::ImagePath;
use crate::sandbox::chroot::caller::{Caller, Identity};
use crate::sandbox::chroot::calls::{Call, Follows, PathAt, Topic};
use crate::sandbox::chroot::inside::Inside;
use crate::sandbox::chroot::served::{Served, Target, stat_of};
use crate::sandbox::chroot::wire;
use crate::sandbox::quota::{PART, PARTS, length_of_parts};
use crate::sys::notify::{Answer, Listener, Notification};

/// `AT_SYMLINK_NOFOLLOW`, as it is in a register.
const NO_FOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;

/// One call, and who made it.
pub(super) struct Question<'a> {
    pub(super) inside: &'a Inside,
    pub(super) listener: &'a Listener,
    pub(super) notification: Notification,
}

/// What becomes of a call.
enum Reply {
    /// The caller is told.
    Tell(Answer),
    /// It gets this descriptor.
    Give(OwnedFd, OFlags),
}

/// Nothing here is about this call.
const NOT_OURS: Reply = Reply::Tell(Answer::Continue);

impl Question<'_> {
    /// Answers the call.
    pub(super) fn answer(&self) -> io::Result<()> {
        let id = self.notification.id;
        let call = self.inside.call(self.notification.call);
        let reply = call.map_or(Ok(NOT_OURS), |call| self.reply(call));
        match reply.unwrap_or_else(|errno| Reply::Tell(Answer::Error(errno))) {
            Reply::Tell(answer) => self.listener.answer(id, answer),
            Reply::Give(file, flags) => {
                match self.listener.answer_with(id, file, flags.contains(OFlags::CLOEXEC)) {
                    Ok(()) => Ok(()),
                    Err(errno) => self.listener.answer(id, Answer::Error(errno)),
                }
            }
        }
    }

    fn reply(&self, call: Call) -> Result<Reply, Errno> {
        let argument = |index: usize| self.notification.arguments[index];
        match call {
            Call::Open { at, flags } => self.open(at, flags_of(argument(flags))),
            Call::OpenHow { at, how } => {
                let mut flags = [0; 8];
                if self.caller().read(argument(how), &mut flags) != Ok(8) {
                    return Ok(NOT_OURS);
                }
                self.open(at, flags_of(u64::from_ne_bytes(flags)))
            }
            Call::Stat { at, buffer, follows } => {
                let follow = match follows {
                    Follows::Yes => true,
                    Follows::No => false,
                    Follows::Flags(flags) => argument(flags) & NO_FOLLOW == 0,
                };
                self.stat(at, follow, buffer, wire::stat)
            }
            Call::Statx { at, flags, buffer } => {
                self.stat(at, argument(flags) & NO_FOLLOW == 0, buffer, wire::statx)
            }
            Call::Access { at, mode } => self.access(at, argument(mode)),
            Call::ReadLink { at, buffer, size } => self.read_link(at, buffer, size),
            Call::StatFs { at, buffer } => self.stat_fs(at, buffer),
            Call::Execute { at } => self.execute(at),
            Call::Change(paths) => self.change(paths),
            Call::Write { descriptor, length } => {
                self.write(argument(descriptor), argument(length))
            }
            Call::WriteParts => self.write(argument(0), self.length_of_parts()),
            Call::WhenChildEnds => Ok(self.let_calls_restart(argument(1))),
            Call::Fork if self.inside.census.admits() => Ok(NOT_OURS),
            Call::Fork => Err(Errno::AGAIN),
            Call::HostName => {
                self.caller().write(argument(0), &wire::uname(&self.inside.hostname))?;
                Ok(Reply::Tell(Answer::Value(0)))
            }
            Call::ToProcess(index) => self.to_process(argument(index)),
            Call::ToProcesses { process } => match argument(0) {
                kind if kind == process && argument(1) == 0 => Ok(NOT_OURS),
                kind if kind == process => self.to_process(argument(1)),
                // A group or a user, which may be the builder's.
                _ => Err(Errno::PERM),
            },
        }
    }

    fn caller(&self) -> Caller {
        Caller(self.notification.thread)
    }

    /// The path that a call is about; `None` if it cannot be known, or is none of ours.
    fn path(&self, at: PathAt) -> Option<ImagePath> {
        let path = self.caller().path(self.notification.arguments[at.path]).ok()?;
        match path.first()? {
            b'/' => Some(ImagePath::new(path)),
            _ if self.inside.asked.has(Topic::Relative) => {
                let directory = at.directory.map(|index| self.notification.arguments[index]);
                Some(self.inside.directory(self.caller(), directory)?.join(path))
            }
            _ => None,
        }
    }

    /// What is served at the path of a call, and for whom. This thread acts as the caller then.
    fn find(&self, at: PathAt, follow: bool) -> Result<Option<(Served, Identity)>, Errno> {
        let Some(path) = self.path(at).filter(|path| self.inside.may_serve(path)) else {
            return Ok(None);
        };
        let identity = self.caller().identity().map_err(|_| Errno::SRCH)?;
        // What was just read may be of a process that took the number over.
        if !self.listener.is_pending(self.notification.id) {
            return Err(Errno::SRCH);
        }
        identity.assume().map_err(|_| Errno::PERM)?;
        let served = self.inside.serve(&path, follow, self.caller(), &identity)?;
        Ok(served.map(|served| (served, identity)))
    }

    fn open(&self, at: PathAt, flags: OFlags) -> Result<Reply, Errno> {
        let writes = flags & OFlags::ACCMODE != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        if writes && self.path(at).is_some_and(|path| self.inside.is_read_only(&path)) {
            return Err(Errno::ROFS);
        }
        let follow = !flags.contains(OFlags::NOFOLLOW);
        let Some((served, identity)) = self.find(at, follow)? else { return Ok(NOT_OURS) };
        let file = match &served {
            Served::Directory(_, way) if way.is_empty() && !flags.contains(OFlags::PATH) => {
                self.inside.list(way, &served, self.caller())?
            }
            Served::Directory(_, way) if !writes => {
                self.inside.list(way, &served, self.caller())?
            }
            Served::Directory(..) => return Err(Errno::ISDIR),
            Served::Link(text, _, Target::Path) if follow => {
                open_in_tree(self.inside, text, flags)?
            }
            Served::Link(text, _, Target::Open(_)) if is_process(text) && follow => {
                // The link `self`, as a directory.
                let way = [text.clone()];
                let directory = self.inside.proc.find(&[text], self.caller(), &identity)?;
                self.inside.list(&way, &directory, self.caller())?
            }
            served => served.open(flags, &identity)?,
        };
        Ok(Reply::Give(file, flags))
    }

    fn stat(
        &self,
        at: PathAt,
        follow: bool,
        buffer: usize,
        encode: fn(&Statx) -> Vec<u8>,
    ) -> Result<Reply, Errno> {
        let Some((served, _)) = self.find(at, follow)? else { return Ok(NOT_OURS) };
        let stat = self.stat_of(&served, follow)?;
        self.caller().write(self.notification.arguments[buffer], &encode(&stat))?;
        Ok(Reply::Tell(Answer::Value(0)))
    }

    fn stat_of(&self, served: &Served, follow: bool) -> Result<Statx, Errno> {
        match served {
            Served::Link(text, _, Target::Path) if follow => {
                stat_of(&open_in_tree(self.inside, text, OFlags::PATH)?)
            }
            served => served.stat(follow),
        }
    }

    fn access(&self, at: PathAt, mode: u64) -> Result<Reply, Errno> {
        let Some((served, identity)) = self.find(at, true)? else { return Ok(NOT_OURS) };
        let stat = self.stat_of(&served, true)?;
        let bits = u32::try_from(mode & 7).unwrap_or(7);
        let is_for_reading =
            matches!(served, Served::File(_) | Served::Text(..) | Served::Memory(_));
        let mode = u32::from(stat.stx_mode) & 0o777;
        if (bits & 2 != 0 && is_for_reading)
            || !identity.may(bits, mode, stat.stx_uid, stat.stx_gid)
        {
            return Err(Errno::ACCESS);
        }
        Ok(Reply::Tell(Answer::Value(0)))
    }

    fn read_link(&self, at: PathAt, buffer: usize, size: usize) -> Result<Reply, Errno> {
        let Some((served, _)) = self.find(at, false)? else { return Ok(NOT_OURS) };
        let Served::Link(text, ..) = served else { return Err(Errno::INVAL) };
        let size = usize::try_from(self.notification.arguments[size]).unwrap_or(usize::MAX);
        let length = text.len().min(size);
        let answer = i64::try_from(length).map_err(|_| Errno::INVAL)?;
        self.caller().write(self.notification.arguments[buffer], &text[..length])?;
        Ok(Reply::Tell(Answer::Value(answer)))
    }

    fn stat_fs(&self, at: PathAt, buffer: usize) -> Result<Reply, Errno> {
        let Some(path) = self.path(at) else { return Ok(NOT_OURS) };
        let Some(temporary) = self.inside.temporary(&path) else { return Ok(NOT_OURS) };
        let bytes = wire::statfs_of_memory(temporary.size);
        self.caller().write(self.notification.arguments[buffer], &bytes)?;
        Ok(Reply::Tell(Answer::Value(0)))
    }

    /// A program cannot be given. But a link to it can be put where the kernel will look.
    fn execute(&self, at: PathAt) -> Result<Reply, Errno> {
        let path = self.path(at).filter(|path| path.as_bytes().starts_with(b"/proc/"));
        let Some(path) = path else { return Ok(NOT_OURS) };
        if let Some((Served::Link(text, ..), _)) = self.find(at, true)? {
            let process = self.caller().process().map_err(|_| Errno::SRCH)?;
            let mut way: Vec<Vec<u8>> = path.components().skip(1).map(<[u8]>::to_vec).collect();
            if way.first().is_some_and(|name| name == b"self") {
                way[0] = process.to_string().into_bytes();
            }
            self.inside.mirror.link(process, &way, &text).map_err(|_| Errno::ACCESS)?;
        }
        Ok(NOT_OURS)
    }

    fn change(&self, paths: &[PathAt]) -> Result<Reply, Errno> {
        let is_read_only =
            |at: &PathAt| self.path(*at).is_some_and(|path| self.inside.is_read_only(&path));
        if paths.iter().any(is_read_only) { Err(Errno::ROFS) } else { Ok(NOT_OURS) }
    }

    /// Whether so much may be written to a descriptor.
    fn write(&self, descriptor: u64, bytes: u64) -> Result<Reply, Errno> {
        let path = self.inside.directory(self.caller(), Some(descriptor));
        let temporary = path.as_ref().and_then(|path| self.inside.temporary(path));
        match temporary {
            Some(it) if !it.admits(&self.inside.root, bytes) => Err(Errno::NOSPC),
            _ => Ok(NOT_OURS),
        }
    }

    /// How much a write of several parts is.
    fn length_of_parts(&self) -> u64 {
        let [_, address, count, ..] = self.notification.arguments;
        let mut parts = [0; PARTS * PART];
        let wanted = usize::try_from(count).unwrap_or(PARTS).min(PARTS) * PART;
        let read = self.caller().read(address, &mut parts[..wanted]).unwrap_or(0);
        length_of_parts(&parts[..read])
    }

    /// A call that waits for the supervisor to take it up can be interrupted by a signal, and fails then
    /// with an error that programs do not expect of it: a shell cannot start the second command of a
    /// pipeline, as the first has just ended. With this flag the kernel makes the call again by itself.
    /// It is the signal of ended children that comes at any time; other signals are rare.
    fn let_calls_restart(&self, address: u64) -> Reply {
        /// `SA_RESTART`
        const RESTART: u64 = 0x1000_0000;
        // The handler and the flags, of the kernel's struct: what the C library made for the call.
        let mut action = [0; 16];
        if address != 0 && self.caller().read(address, &mut action) == Ok(action.len()) {
            let [handler, flags] =
                [0, 8].map(|at| action[at..at + 8].try_into().map_or(0, u64::from_ne_bytes));
            // Neither the default nor to ignore it.
            if handler > 1 && flags & RESTART == 0 {
                // Where it cannot be written, nothing is lost but patience.
                let _ = self.caller().write(address + 8, &(flags | RESTART).to_ne_bytes());
            }
        }
        NOT_OURS
    }

    /// Whether something may be done to a process: it must be one of the step's own.
    fn to_process(&self, number: u64) -> Result<Reply, Errno> {
        #[expect(clippy::cast_possible_truncation, reason = "the kernel reads 32 bits, too")]
        let number = (number as u32).cast_signed();
        match number {
            0 => Ok(NOT_OURS),
            // A group, which is known by its first process.
            ..-1 => self.inside.proc.process(-number).map(|_| NOT_OURS).map_err(|_| Errno::PERM),
            -1 => Err(Errno::PERM),
            _ => self.inside.proc.process(number).map(|_| NOT_OURS).map_err(|_| Errno::SRCH),
        }
    }
}

/// Opens what a link leads to that the kernel would follow in the tree, for whoever this thread acts
/// as.
fn open_in_tree(inside: &Inside, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if flags.intersects(OFlags::CREATE | OFlags::TRUNC) {
        return Err(Errno::ACCESS);
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A pipe must not keep the supervisor waiting.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    openat2(&inside.root, path, flags, Mode::empty(), resolve)
}

fn is_process(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

fn flags_of(argument: u64) -> OFlags {
    #[expect(clippy::cast_possible_truncation, reason = "all flags are in the lower half")]
    OFlags::from_bits_retain(argument as u32)
}

/// As the manual has it: the flag is the same for all calls.
const _: () = assert!(AtFlags::SYMLINK_NOFOLLOW.bits() as u64 == NO_FOLLOW);
