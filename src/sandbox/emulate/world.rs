//! All that the supervisor knows, shared by its threads.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use rustix::fs::Stat;
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};

use crate::sandbox::emulate::devices::Devices;
use crate::sandbox::emulate::exec::programs::Programs;
use crate::sandbox::emulate::known::Known;
use crate::sandbox::emulate::mounts::{Mounts, host_path};
use crate::sandbox::emulate::process::Processes;
use crate::sandbox::emulate::proxies::Proxies;
use crate::sandbox::emulate::records::Records;
use crate::sandbox::emulate::scratch::Scratch;
use crate::sandbox::emulate::sockets::Sockets;
use crate::sys::lock::Locked;
use crate::sys::notify::Listener;

/// All that the supervisor knows.
#[derive(Debug)]
pub(super) struct World {
    pub(super) mounts: Mounts,
    pub(super) records: Records,
    pub(super) known: Known,
    pub(super) processes: Processes,
    pub(super) programs: Programs,
    pub(super) scratch: Scratch,
    pub(super) proxies: Proxies,
    pub(super) sockets: Sockets,
    pub(super) devices: Devices,
    /// The real `/proc`.
    pub(super) proc: OwnedFd,
    pub(super) proc_device: u64,
    /// On which devices files of the step are.
    pub(super) file_devices: Vec<u64>,
    pub(super) hostname: String,
    /// Whether the step may reach other machines.
    pub(super) network: bool,
    pub(super) listener: OnceLock<Listener>,
    pub(super) ending: AtomicBool,
    /// Held shared while a call is answered; `true` when nothing may be changed any more.
    pub(super) closed: RwLock<bool>,
    /// Secrets, which are not swapped as long as this lives.
    pub(super) _locked: Vec<Locked>,
}

impl World {
    /// Where calls to be answered come from.
    pub(super) fn listener(&self) -> &Listener {
        self.listener.get().expect("it is set before the first call is received")
    }

    /// Kills all of the step's processes.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        for pid in self.processes.numbers() {
            // One that has ended by itself is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Whether they are being killed.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Waits until no call is being answered, and lets none be from now on.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Fails for what is shown but may not be written to.
    pub(super) fn require_writable(&self, stat: &Stat, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.mounts.is_read_only(stat) {
            return Err(Errno::ROFS);
        }
        if !self.mounts.has_read_only_directories() {
            return Ok(());
        }
        let host = host_path(fd)
            .map_err(|error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match self.mounts.locate(&host) {
            Some((mount, _)) if !self.mounts.get(mount).writable => Err(Errno::ROFS),
            _ => Ok(()),
        }
    }
}
