//! System calls that another process answers: seccomp's user notification.
//!
//! A process installs a filter some of whose verdicts are "ask", and gets a [`Listener`] for it, which
//! it sends to its supervisor ([`send_descriptor`], [`receive_descriptor`]). The supervisor receives
//! one [`Notification`] for each such call, and answers it. The caller sleeps meanwhile.
//!
//! What the supervisor reads of the caller's memory may change under its hands, and the caller may die
//! and its number be given to another process: [`Listener::is_pending`] after each look says
//! whether what was seen was the caller's. A call that is told to [go on](Answer::Continue) reads its
//! arguments again, so that answer decides nothing: it is only for calls that would do no harm.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html>
#![expect(
    unsafe_code,
    reason = "rustix has no seccomp(2), and its ioctls are the caller's promise"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::Pid;

use crate::sys::seccomp::{Instruction, Program};

/// Once a call has been received, only a fatal signal interrupts it (Linux 5.19): otherwise a
/// program with a timer signal could start the same call over and over.
const WAIT_KILLABLE_RECEIVE: libc::c_ulong = 1 << 5;

const RECEIVE: libc::Ioctl = request(0b11, 0, size_of::<RawNotification>());
const SEND: libc::Ioctl = request(0b11, 1, size_of::<RawAnswer>());
const IS_VALID: libc::Ioctl = request(0b01, 2, size_of::<u64>());
const ADD_DESCRIPTOR: libc::Ioctl = request(0b01, 3, size_of::<RawDescriptor>());
const SET_FLAGS: libc::Ioctl = request(0b01, 4, size_of::<u64>());

/// The flag of an answer that lets the kernel carry the call out.
const CONTINUE: u32 = 1;
/// The flags of a descriptor: under this number; and it is the answer.
const AT_NUMBER: u32 = 1;
const AND_SEND: u32 = 2;
/// The caller and the one who answers take turns on one CPU (Linux 6.6).
const TAKE_TURNS: u64 = 1;

/// The number of an ioctl of seccomp, whose letter is `!`. Direction: 1 for writing, 2 for reading.
#[allow(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the structs are small, and the type differs by target"
)]
const fn request(direction: u32, number: u32, size: usize) -> libc::Ioctl {
    (direction << 30 | (size as u32) << 16 | (b'!' as u32) << 8 | number) as libc::Ioctl
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Default)]
struct RawNotification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Debug)]
struct RawAnswer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
#[derive(Debug)]
struct RawDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    target: u32,
    target_flags: u32,
}

/// The supervisor's end of a filter.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Names this call, for answers.
    pub(crate) id: u64,
    /// The thread that made it, as the supervisor counts.
    pub(crate) thread: Pid,
    /// The number of the call, of this machine's main architecture.
    pub(crate) call: u32,
    /// What is in its registers.
    pub(crate) arguments: [u64; 6],
}

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel carries the call out, and reads its arguments anew.
    Continue,
    /// This is what the call returns.
    Value(i64),
    /// The call fails.
    Error(Errno),
}

/// Filters every later system call of this thread and of what it starts, and gives the end at which
/// the filter's questions arrive.
///
/// # Errors
///
/// `EBUSY` if a filter of that kind is in force already; `EACCES` without "no new privileges" or
/// `CAP_SYS_ADMIN`; `EINVAL` from a kernel that has none (before 5.0).
pub(crate) fn install(filter: &[Instruction]) -> io::Result<Listener> {
    let with = |flags: libc::c_ulong| {
        let program = Program::new(filter)?;
        // SAFETY: `program` has the kernel's layout and points to the instructions of `filter`,
        // which live until the call returns; the kernel copies and verifies them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags,
                &raw const program,
            )
        };
        let number = i32::try_from(result).unwrap_or(-1);
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor to us, and nothing else owns it.
        Ok(Listener(unsafe { OwnedFd::from_raw_fd(number) }))
    };
    match with(WAIT_KILLABLE_RECEIVE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => with(0),
        other => other,
    }
}

impl Listener {
    /// A listener that came from another process.
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Asks the kernel to let the caller and its supervisor take turns without delay. Kernels before
    /// 6.6 cannot.
    pub(crate) fn take_turns(&self) {
        // SAFETY: the kernel takes the flags by value; no memory of ours is touched.
        unsafe { libc::ioctl(self.0.as_raw_fd(), SET_FLAGS, TAKE_TURNS) };
    }

    /// Waits for the next call. `None` when nobody is left who could make one; kernels before 6.11 do
    /// not say that here, but [`poll`](crate::sys::process::poll) wakes up.
    ///
    /// # Errors
    ///
    /// What the kernel says; a caller that dies meanwhile is none.
    pub(crate) fn receive(&self) -> io::Result<Option<Notification>> {
        loop {
            let mut raw = RawNotification::default();
            // SAFETY: the kernel writes a `seccomp_notif`, which `raw` is, all zeroes as it demands,
            // and which outlives the call.
            match unsafe { self.ioctl(RECEIVE, &raw mut raw) } {
                Ok(_) => {
                    let Some(thread) = i32::try_from(raw.pid).ok().and_then(Pid::from_raw) else {
                        // A thread that the supervisor cannot see: nothing can be known of it.
                        self.answer(raw.id, Answer::Error(Errno::PERM))?;
                        continue;
                    };
                    let call = raw.number.cast_unsigned();
                    let (id, arguments) = (raw.id, raw.arguments);
                    return Ok(Some(Notification { id, thread, call, arguments }));
                }
                Err(Errno::NOENT) if self.is_alone()? => return Ok(None),
                // The caller was killed.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether nobody is left to whom the filter applies.
    fn is_alone(&self) -> io::Result<bool> {
        Ok(self.poll(0)? & libc::POLLHUP != 0)
    }

    /// Whether a call waits that nobody has received.
    pub(crate) fn is_asked(&self) -> bool {
        self.poll(0).is_ok_and(|events| events & libc::POLLIN != 0)
    }

    /// Waits until a call does; `false` when nobody is left who could make one.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn wait_until_asked(&self) -> io::Result<bool> {
        loop {
            match self.poll(-1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                events => return Ok(events? & libc::POLLHUP == 0),
            }
        }
    }

    fn poll(&self, milliseconds: i32) -> io::Result<i16> {
        let mut polled = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `polled` is one element, and outlives the call.
        if unsafe { libc::poll(&raw mut polled, 1, milliseconds) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(polled.revents)
    }

    /// Ends the wait of the call `id`. That the caller is gone by now is no error.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let (value, error, flags) = match answer {
            Answer::Continue => (0, 0, CONTINUE),
            Answer::Value(value) => (value, 0, 0),
            Answer::Error(errno) => (0, -errno.raw_os_error(), 0),
        };
        let mut raw = RawAnswer { id, value, error, flags };
        // SAFETY: the kernel reads a `seccomp_notif_resp`, which `raw` is, and which outlives the call.
        match unsafe { self.ioctl(SEND, &raw mut raw) } {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the caller of `id` a copy of `descriptor`, whose number is what the call returns.
    ///
    /// # Errors
    ///
    /// `EMFILE` if the caller has as many as it may have: it still waits then. That it is gone is no
    /// error.
    pub(crate) fn answer_with(
        &self,
        id: u64,
        descriptor: impl AsFd,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        match self.give(id, descriptor.as_fd(), None, AND_SEND, close_on_exec) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Gives the caller of `id` a copy of `descriptor`, as number `at` if one is named, and says under
    /// which number. The call still waits.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the caller is gone, `EMFILE` if it may have no more.
    #[allow(dead_code, reason = "`emulate`, which needs it, is for x86-64")]
    pub(crate) fn add_descriptor(
        &self,
        id: u64,
        descriptor: impl AsFd,
        at: Option<u32>,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        self.give(id, descriptor.as_fd(), at, 0, close_on_exec)
    }

    fn give(
        &self,
        id: u64,
        descriptor: BorrowedFd<'_>,
        at: Option<u32>,
        flags: u32,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        let flags = flags | if at.is_some() { AT_NUMBER } else { 0 };
        let target_flags = if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
        let source = descriptor.as_raw_fd().cast_unsigned();
        let mut raw = RawDescriptor { id, flags, source, target: at.unwrap_or(0), target_flags };
        loop {
            // SAFETY: the kernel reads a `seccomp_notif_addfd`, which `raw` is, and which outlives
            // the call; `descriptor` is open until then.
            match unsafe { self.ioctl(ADD_DESCRIPTOR, &raw mut raw) } {
                Err(Errno::INTR | Errno::INPROGRESS) => {}
                result => return result.map(i32::cast_unsigned),
            }
        }
    }

    /// Whether the call `id` still waits: then its thread is the one that made it, and what was
    /// read of the thread a moment ago was true.
    pub(crate) fn is_pending(&self, id: u64) -> bool {
        let mut id = id;
        // SAFETY: the kernel reads a number, which outlives the call.
        unsafe { self.ioctl(IS_VALID, &raw mut id) }.is_ok()
    }

    /// # Safety
    ///
    /// `argument` must be what `request` takes, and live until the call returns.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: *mut T) -> Result<i32, Errno> {
        // SAFETY: the caller promises that the argument fits the request.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if result < 0 { Err(last_errno()) } else { Ok(result) }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sends a copy of `descriptor` over a socket.
pub(crate) fn send_descriptor(socket: impl AsFd, descriptor: impl AsFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Receives a descriptor that [`send_descriptor`] has sent; `None` if the other side has closed.
pub(crate) fn receive_descriptor(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    let mut received = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(received.next().and_then(|mut descriptors| descriptors.next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{fork_in_test, set_no_new_privileges};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;

    /// Asks about one call, and allows all others.
    fn asking(call: u32) -> [Instruction; 4] {
        let plain = |code, operand| Instruction { code, jump_true: 0, jump_false: 0, operand };
        [
            plain(LOAD, 0),
            Instruction { code: IF_EQUAL, jump_true: 0, jump_false: 1, operand: call },
            plain(RETURN, 0x7fc0_0000),
            plain(RETURN, 0x7fff_0000),
        ]
    }

    #[test]
    fn a_call_is_answered_by_value_by_error_and_by_descriptor() {
        let pair = || {
            let flags = SocketFlags::CLOEXEC;
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a pair")
        };
        let (ours, theirs) = pair();
        let call = u32::try_from(libc::SYS_getpriority).expect("a small number");
        let child = fork_in_test(|| {
            let ask = || rustix::process::getpriority_process(None);
            let run = || -> io::Result<bool> {
                set_no_new_privileges()?;
                let listener = install(&asking(call))?;
                send_descriptor(&theirs, &listener)?;
                drop(listener);
                // The kernel's answer is 20 less the niceness, and 5 is the descriptor's.
                let (value, error) = (ask(), ask());
                let given = 20 - ask()?;
                let mut text = [0; 4];
                let given = crate::sys::process::inherited(given)?;
                rustix::io::read(given, &mut text)?;
                Ok(value == Ok(13) && error == Err(Errno::XDEV) && &text == b"text")
            };
            i32::from(!run().unwrap_or(false))
        })
        .expect("fork");
        drop(theirs);
        let listener = receive_descriptor(&ours).expect("receive").expect("a listener");
        let listener = Listener::from_descriptor(listener);
        listener.take_turns();
        let next = || listener.receive().expect("receive").expect("a call");
        let first = next();
        assert_eq!((first.thread, first.call), (child, call));
        assert!(listener.is_pending(first.id));
        listener.answer(first.id, Answer::Value(7)).expect("answer");
        assert!(!listener.is_pending(first.id));
        listener.answer(next().id, Answer::Error(Errno::XDEV)).expect("answer");
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::write(&write, b"text").expect("write");
        listener.answer_with(next().id, &read, false).expect("answer");
        let ended = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
        let (_, status) = ended.expect("wait").expect("it has ended");
        assert_eq!(status.exit_status(), Some(0));
        let ready = crate::sys::process::poll([Some(listener.as_fd())]).expect("poll");
        assert_eq!(ready, [true], "the end of the last caller wakes up who waits");
    }
}
