//! Local sockets, whose names are paths.
//!
//! The kernel would look a name up outside of the step's root, and reads it from memory that another
//! thread may change. So the kernel is never given one by the step: a step's local socket that is
//! not yet bound or connected is an end of a pair without a partner, which the kernel neither connects
//! (`EISCONN`) nor sends elsewhere. When the step binds or connects it, the supervisor makes a real socket,
//! does that with it, and puts it in the other's place. A bound socket listens at once, for which
//! reason the kernel does not connect it either (`EINVAL`). Datagram sockets, which can be sent elsewhere
//! at any time, do not exist; a pair of them is a pair of sequenced ones.
//!
//! Abstract names get a prefix, so that a step finds its own only.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, renameat, statat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect as connect_to,
    listen, socket_with, socketpair,
};

use crate::sandbox::emulate::access::{WRITE, permits};
use crate::sandbox::emulate::call::{Answered, Call, HERE, Reply};
use crate::sandbox::emulate::files::names::new_owner;
use crate::sandbox::emulate::records::mode_on_disk;
use crate::sandbox::emulate::resolve::{Walked, own_path};

const FAMILY: usize = 2;
/// `struct sockaddr_un`.
const ADDRESS_MAX: usize = 110;
const AF_UNIX: u16 = 1;
const KIND: u32 = 0xf;
const NONBLOCK: u32 = 0o4_000;
const CLOEXEC: u32 = 0o2_000_000;
/// How many sockets are remembered.
const MOST: usize = 4096;
/// How many may wait to be accepted, until the step says so itself.
const WAITING: i32 = 128;
const SOCKET: u32 = 0o140_000;

/// What is known of a local socket.
#[derive(Debug, Clone)]
struct Known {
    kind: SocketType,
    /// Its own address, and its peer's, as the step gave them.
    local: Option<Vec<u8>>,
    peer: Option<Vec<u8>>,
}

/// All local sockets that were made here, by inode.
#[derive(Debug)]
pub(super) struct Sockets {
    known: Mutex<(HashMap<u64, Known>, VecDeque<u64>)>,
    count: AtomicU64,
    prefix: Vec<u8>,
}

impl Sockets {
    /// None yet. `unique` is in no other sandbox's abstract names.
    pub(super) fn new(unique: &str) -> Self {
        let prefix = format!("{unique}/").into_bytes();
        Self { known: Mutex::default(), count: AtomicU64::new(0), prefix }
    }

    fn remember(&self, socket: &OwnedFd, known: Known) -> Result<(), Errno> {
        let key = fstat(socket)?.st_ino;
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.0.insert(key, known).is_none() {
            all.1.push_back(key);
        }
        if all.1.len() > MOST
            && let Some(oldest) = all.1.pop_front()
        {
            all.0.remove(&oldest);
        }
        Ok(())
    }

    /// What is known of a descriptor of the caller.
    fn of(&self, call: &Call<'_>, number: i32) -> Option<Known> {
        let path = format!("{}/fd/{number}", call.thread().as_raw_pid());
        let link = readlinkat(&call.world.proc, path, Vec::new()).ok()?;
        call.still_pending().ok()?;
        let link = link.to_str().ok()?;
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).0.get(&inode).cloned()
    }

    /// An abstract name as the kernel is told it.
    fn abstract_name(&self, name: &[u8]) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(&[&self.prefix, name].concat())
    }
}

/// The flags of a descriptor of the caller.
fn flags_of(call: &Call<'_>, number: i32) -> Result<u32, Errno> {
    let path = format!("{}/fdinfo/{number}", call.thread().as_raw_pid());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let info = openat(&call.world.proc, path, flags, Mode::empty())?;
    let mut text = [0; 256];
    let length = rustix::io::read(&info, &mut text)?;
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:\t"));
    flags.and_then(|flags| u32::from_str_radix(flags, 8).ok()).ok_or(Errno::BADF)
}

fn kind(number: u32) -> Option<SocketType> {
    match number & KIND {
        1 => Some(SocketType::STREAM),
        5 => Some(SocketType::SEQPACKET),
        _ => None,
    }
}

/// `socket(AF_UNIX, type, …)`.
pub(super) fn socket(call: &Call<'_>) -> Answered {
    let kind = kind(call.bits(1)).ok_or(Errno::PROTONOSUPPORT)?;
    let (ours, other) = socketpair(AddressFamily::UNIX, kind, own_flags(call.bits(1)), None)?;
    drop(other);
    call.world.sockets.remember(&ours, Known { kind, local: None, peer: None })?;
    Ok(Reply::Descriptor { fd: ours, close_on_exec: call.bits(1) & CLOEXEC != 0 })
}

fn own_flags(flags: u32) -> SocketFlags {
    let blocking = if flags & NONBLOCK == 0 { SocketFlags::empty() } else { SocketFlags::NONBLOCK };
    SocketFlags::CLOEXEC | blocking
}

/// `socketpair(AF_UNIX, SOCK_DGRAM, …)`: the numbers go to the fourth argument.
pub(super) fn pair(call: &Call<'_>) -> Answered {
    let flags = call.bits(1);
    let kind = SocketType::SEQPACKET;
    let (one, other) = socketpair(AddressFamily::UNIX, kind, own_flags(flags), None)?;
    let (id, close) = (call.asked.id, flags & CLOEXEC != 0);
    let listener = call.world.listener();
    let first = listener.add_descriptor(id, &one, None, close)?;
    let second = listener.add_descriptor(id, &other, None, close)?;
    call.write_ids(call.word(3), &[first, second])?;
    Ok(Reply::DONE)
}

/// The address that the second and third argument are; `None` if it is not a local one.
fn address(call: &Call<'_>) -> Result<Option<Vec<u8>>, Errno> {
    let length = usize::try_from(call.int(2)).map_err(|_| Errno::INVAL)?;
    if length < FAMILY {
        return Ok(None);
    }
    let bytes = call.bytes(call.word(1), length.min(ADDRESS_MAX))?;
    if u16::from_ne_bytes([bytes[0], bytes[1]]) != AF_UNIX {
        return Ok(None);
    }
    if length > ADDRESS_MAX { Err(Errno::INVAL) } else { Ok(Some(bytes)) }
}

/// A name that is a path, or abstract.
enum Name<'a> {
    Path(&'a [u8]),
    Abstract(&'a [u8]),
    None,
}

fn name(address: &[u8]) -> Name<'_> {
    match &address[FAMILY..] {
        [] => Name::None,
        [0, name @ ..] => Name::Abstract(name),
        path => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            Name::Path(&path[..end])
        }
    }
}

/// `connect`.
pub(super) fn connect(call: &Call<'_>) -> Answered {
    let world = call.world;
    let Some(address) = address(call)? else { return Ok(Reply::Continue) };
    // The kernel connects no local socket of the step's: one that is unknown is connected already.
    let Some(known) = world.sockets.of(call, call.int(0)) else { return Ok(Reply::Continue) };
    if known.peer.is_some() {
        return Err(Errno::ISCONN);
    }
    let mut held = None;
    let to = match name(&address) {
        Name::None => return Err(Errno::INVAL),
        Name::Abstract(name) => world.sockets.abstract_name(name)?,
        Name::Path(path) => {
            let Walked::Found(found) = world.find(call, HERE, path, true)? else {
                return Err(Errno::CONNREFUSED);
            };
            let owner = world.records.owner(&found.stat, || found.path());
            permits(&call.process.credentials(), &owner, WRITE)?;
            if found.kind() != FileType::Socket {
                return Err(Errno::CONNREFUSED);
            }
            let to = SocketAddrUnix::new(&*found.path())?;
            held = Some(found);
            to
        }
    };
    let flags = flags_of(call, call.int(0))?;
    let socket = socket_with(AddressFamily::UNIX, known.kind, own_flags(NONBLOCK), None)?;
    let call = call.clone();
    let (id, number) = (call.asked.id, call.int(0).cast_unsigned());
    let known = Known { peer: Some(address), ..known };
    let connected = connect_to(&socket, &to);
    let is_blocking = flags & NONBLOCK == 0;
    let again = connected == Err(Errno::AGAIN) && is_blocking;
    if !again {
        connected?;
    }
    let shared = std::sync::Arc::clone(call.world);
    let finish = move || {
        if is_blocking {
            rustix::io::ioctl_fionbio(&socket, false)?;
        }
        if again {
            // Too many wait to be accepted.
            connect_to(&socket, &to)?;
        }
        drop(held);
        shared.sockets.remember(&socket, known)?;
        shared.listener().add_descriptor(id, &socket, Some(number), flags & CLOEXEC != 0)?;
        Ok(Reply::DONE)
    };
    if again { call.later(finish) } else { finish() }
}

/// `bind`.
pub(super) fn bind(call: &Call<'_>) -> Answered {
    let world = call.world;
    let Some(address) = address(call)? else { return Ok(Reply::Continue) };
    let Some(known) = world.sockets.of(call, call.int(0)) else { return Ok(Reply::Continue) };
    if known.local.is_some() || known.peer.is_some() {
        return Err(Errno::INVAL);
    }
    let flags = flags_of(call, call.int(0))?;
    let socket = socket_with(AddressFamily::UNIX, known.kind, own_flags(flags), None)?;
    let mut address = address;
    match name(&address) {
        Name::Abstract(name) => bind_to(&socket, &world.sockets.abstract_name(name)?)?,
        Name::None => {
            let name = format!("{:05x}", world.sockets.count.fetch_add(1, Ordering::Relaxed));
            bind_to(&socket, &world.sockets.abstract_name(name.as_bytes())?)?;
            address.push(0);
            address.extend_from_slice(name.as_bytes());
        }
        Name::Path(path) => bind_to_path(call, &socket, path)?,
    }
    listen(&socket, WAITING)?;
    world.sockets.remember(&socket, Known { local: Some(address), ..known })?;
    let (id, number) = (call.asked.id, call.int(0).cast_unsigned());
    world.listener().add_descriptor(id, &socket, Some(number), flags & CLOEXEC != 0)?;
    Ok(Reply::DONE)
}

fn bind_to_path(call: &Call<'_>, socket: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    let world = call.world;
    let (around, name) = world.parent(call, HERE, path)?;
    let at = OsStr::from_bytes(&name);
    if statat(&around.fd, at, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(Errno::ADDRINUSE);
    }
    let who = call.process.credentials();
    let directory = world.may_change_names(&who, &around)?;
    // The whole of a long name would not fit into an address.
    let number = world.sockets.count.fetch_add(1, Ordering::Relaxed);
    let short = format!(".coracle-socket-{number}");
    let within = [&*own_path(around.fd.as_fd()), b"/", short.as_bytes()].concat();
    bind_to(socket, &SocketAddrUnix::new(&*within)?)?;
    let mode = SOCKET | 0o777 & !call.process.with(|state| state.umask);
    rustix::fs::chmod(&*within, mode_on_disk(mode))?;
    renameat(&around.fd, &*short, &around.fd, at)?;
    let stat = statat(&around.fd, at, AtFlags::SYMLINK_NOFOLLOW)?;
    world.records.set_new(&stat, &within, &new_owner(&who, &directory, mode, 0))
}

/// `getsockname`, and `getpeername` if `peer`.
pub(super) fn name_of(call: &Call<'_>, peer: bool) -> Answered {
    let Some(known) = call.world.sockets.of(call, call.int(0)) else {
        return Ok(Reply::Continue);
    };
    let told = match (peer, known.local, known.peer) {
        (true, _, None) => return Err(Errno::NOTCONN),
        (true, _, Some(peer)) => peer,
        (false, local, _) => local.unwrap_or_else(|| AF_UNIX.to_ne_bytes().to_vec()),
    };
    let size = call.bytes(call.word(2), 4)?;
    let size = u32::from_ne_bytes([size[0], size[1], size[2], size[3]]) as usize;
    call.write(call.word(1), &told[..told.len().min(size)])?;
    let length = u32::try_from(told.len()).map_err(|_| Errno::INVAL)?;
    call.write_ids(call.word(2), &[length])?;
    Ok(Reply::DONE)
}

/// `getsockopt(…, SO_PEERCRED, into, size)`. The supervisor makes the connections, so the kernel knows
/// it for the peer; the caller is told that it is of its own kind.
pub(super) fn peer_credentials(call: &Call<'_>) -> Answered {
    let who = call.process.credentials();
    let pid = call.process.pid.as_raw_pid().cast_unsigned();
    call.write_ids(call.word(3), &[pid, who.users.effective, who.groups.effective])?;
    call.write_ids(call.word(4), &[12])?;
    Ok(Reply::DONE)
}
