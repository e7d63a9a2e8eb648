//! One system call that waits for an answer: its caller, its arguments, the caller's memory.
//!
//! What is read of a caller's memory is read once, and the answer is made from that: a thread that
//! changes it meanwhile gains nothing.

use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::sandbox::emulate::credentials::cap;
use crate::sandbox::emulate::notifications;
use crate::sandbox::emulate::process::Process;
use crate::sandbox::emulate::resolve::PATH_MAX;
use crate::sandbox::emulate::start_point::Base;
use crate::sandbox::emulate::world::World;
use crate::sys::notify::Notification;
use crate::sys::remote;

/// For a thread that waits for one call.
const SMALL_STACK: usize = 256 << 10;

/// "The working directory", in place of a descriptor.
pub(super) const HERE: i32 = libc::AT_FDCWD;

/// What a caller is told, if not an error.
#[derive(Debug)]
pub(super) enum Reply {
    /// This is what the call returns.
    Value(i64),
    /// The kernel carries the call out.
    Continue,
    /// It gets a descriptor, whose number the call returns.
    Descriptor { fd: std::os::fd::OwnedFd, close_on_exec: bool },
    /// Another thread answers, when it can.
    Later,
}

impl Reply {
    /// The call returns 0.
    pub(super) const DONE: Self = Self::Value(0);
}

/// An answer in the making.
pub(super) type Answered = Result<Reply, Errno>;

/// A call that waits.
#[derive(Debug, Clone)]
pub(super) struct Call<'w> {
    pub(super) world: &'w Arc<World>,
    pub(super) process: Arc<Process>,
    pub(super) asked: Notification,
}

impl Call<'_> {
    pub(super) fn thread(&self) -> Pid {
        self.asked.thread
    }

    /// An argument as an address or a size.
    pub(super) fn word(&self, index: usize) -> u64 {
        self.asked.arguments[index]
    }

    /// An argument of which the kernel reads 32 bits.
    pub(super) fn bits(&self, index: usize) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "that is what the kernel does")]
        let bits = self.asked.arguments[index] as u32;
        bits
    }

    /// An argument that is a descriptor, or another number with a sign.
    pub(super) fn int(&self, index: usize) -> i32 {
        self.bits(index).cast_signed()
    }

    /// The path that an argument points to.
    pub(super) fn path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        self.string(self.word(index), PATH_MAX)
    }

    /// The same for a call that changes nothing: whoever uses it says [`still_pending`](Self::still_pending)
    /// before it answers.
    pub(super) fn peek_path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        remote::read_string(self.thread(), self.word(index), PATH_MAX)
    }

    /// A string in the caller's memory.
    pub(super) fn string(&self, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let string = remote::read_string(self.thread(), address, limit);
        self.still_pending()?;
        string
    }

    /// `length` bytes of the caller's memory.
    pub(super) fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; length];
        let count = remote::read(self.thread(), address, &mut buffer);
        self.still_pending()?;
        if count? < length { Err(Errno::FAULT) } else { Ok(buffer) }
    }

    /// `N` numbers of the caller's memory.
    pub(super) fn numbers<const N: usize>(&self, address: u64) -> Result<[u64; N], Errno> {
        let bytes = self.bytes(address, N * size_of::<u64>())?;
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
            *number = u64::from_ne_bytes(bytes.try_into().map_err(|_| Errno::FAULT)?);
        }
        Ok(numbers)
    }

    /// Writes to the caller's memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        remote::write(self.thread(), address, bytes)
    }

    /// Writes 32-bit numbers to the caller's memory.
    pub(super) fn write_ids(&self, address: u64, ids: &[u32]) -> Result<(), Errno> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        self.write(address, &bytes)
    }

    /// In place of a call's name, for one at which the tracer has stopped the caller: nothing can
    /// happen to that meanwhile but death, after which the tracer still keeps its number.
    pub(super) const TRACED: u64 = u64::MAX;

    /// Fails if the caller is gone: then what was read may be another process's.
    pub(super) fn still_pending(&self) -> Result<(), Errno> {
        if self.asked.id == Self::TRACED {
            return Ok(());
        }
        let listener = self.world.listener();
        if listener.is_pending(self.asked.id) { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// Where a path begins; nowhere if it is absolute.
    pub(super) fn base(&self, directory: i32, path: &[u8]) -> Result<Option<Arc<Base>>, Errno> {
        if path.starts_with(b"/") {
            return Ok(None);
        }
        if directory == HERE {
            return Ok(Some(self.process.directory()));
        }
        self.world.base(self, directory).map(|base| Some(Arc::new(base)))
    }

    /// Whether no directory is closed to the caller.
    pub(super) fn may_search_all(&self) -> bool {
        self.process.with(|state| state.credentials.can(cap::DAC_OVERRIDE))
    }

    /// Lets a thread of its own find the answer, which may take long. That changes no file.
    pub(super) fn later(&self, answer: impl FnOnce() -> Answered + Send + 'static) -> Answered {
        let (world, id) = (Arc::clone(self.world), self.asked.id);
        let started = std::thread::Builder::new()
            .stack_size(SMALL_STACK)
            .spawn(move || notifications::answer(&world, id, answer()));
        // Only for want of memory or processes.
        started.map(|_| Reply::Later).map_err(|_| Errno::AGAIN)
    }
}
