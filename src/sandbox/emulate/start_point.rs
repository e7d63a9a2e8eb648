//! Where relative paths begin: the working directory, or a directory that a process has open.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::sandbox::emulate::call::Call;
use crate::sandbox::emulate::mounts::{host_path, rest};
use crate::sandbox::emulate::resolve::Found;
use crate::sandbox::emulate::world::World;

/// A directory where relative paths begin.
#[derive(Debug)]
pub(super) enum Base {
    /// One with files.
    Files {
        /// Open as a path only.
        fd: Arc<OwnedFd>,
        /// Whether nothing that is below it is covered.
        plain: bool,
        /// Whether it is `/`.
        top: bool,
    },
    /// One in `/proc`, named from there: empty, or beginning with a slash.
    Processes(Vec<u8>),
}

impl World {
    /// The base for a descriptor of the caller, or for its working directory.
    pub(super) fn base(&self, call: &Call<'_>, directory: i32) -> Result<Base, Errno> {
        let found = self.descriptor_of(call, directory)?;
        if found.kind() != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        self.base_with(found.fd, &found.stat)
    }

    /// What a descriptor of the caller stands for.
    pub(super) fn descriptor_of(&self, call: &Call<'_>, number: i32) -> Result<Found, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        let opened = self.in_descriptors(call, |descriptors| {
            openat(descriptors, number.to_string(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        });
        call.still_pending()?;
        let missing = |errno| if errno == Errno::NOENT { Errno::BADF } else { errno };
        self.proxies.resolve(Found::new(opened.map_err(missing)?)?)
    }

    /// Does something in the directory that lists the caller's descriptors.
    pub(super) fn in_descriptors<T>(
        &self,
        call: &Call<'_>,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let thread = call.thread();
        let open = || {
            let path = format!("{}/fd", thread.as_raw_pid());
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(&self.proc, path, flags, Mode::empty())
        };
        if thread != call.process.pid {
            // A thread may have descriptors of its own.
            return act(open()?.as_fd());
        }
        if let Some(directory) = call.process.descriptors.get() {
            return act(directory.as_fd());
        }
        let directory = open()?;
        // It names this process, and none that has its number later.
        call.still_pending()?;
        act(call.process.descriptors.get_or_init(|| directory).as_fd())
    }

    /// The base at an open directory.
    pub(super) fn base_at(&self, fd: OwnedFd) -> Result<Base, Errno> {
        let stat = fstat(&fd)?;
        self.base_with(fd, &stat)
    }

    fn base_with(&self, fd: OwnedFd, stat: &Stat) -> Result<Base, Errno> {
        if stat.st_dev == self.proc_device {
            let host = host_path(fd.as_fd()).map_err(|_| Errno::NOENT)?;
            let path = host.strip_prefix(b"/proc").ok_or(Errno::ACCESS)?;
            return Ok(Base::Processes(path.to_vec()));
        }
        if let Some(path) = self.scratch.listing(stat) {
            return Ok(Base::Processes(path));
        }
        Ok(self.base_of_files(fd, stat))
    }

    /// The base at a directory with files.
    pub(super) fn base_of_files(&self, fd: OwnedFd, stat: &Stat) -> Base {
        let (plain, top) = (!self.mounts.is_around(stat), self.mounts.is_top(stat));
        Base::Files { plain, top, fd: Arc::new(fd) }
    }

    /// How the step names a directory.
    pub(super) fn place_of(&self, base: &Base) -> Result<Vec<u8>, Errno> {
        match base {
            Base::Processes(path) => Ok([b"/proc", path.as_slice()].concat()),
            Base::Files { top: true, .. } => Ok(Vec::new()),
            Base::Files { fd, .. } => self.place_of_file(fd).ok_or(Errno::NOENT),
        }
    }

    /// How the step names an open file.
    pub(super) fn place_of_file(&self, fd: &OwnedFd) -> Option<Vec<u8>> {
        self.place_of_host(&host_path(fd.as_fd()).ok()?)
    }

    /// Which mount shows an open file.
    pub(super) fn mount_of(&self, fd: &OwnedFd) -> Option<usize> {
        self.mounts.locate(&host_path(fd.as_fd()).ok()?).map(|(mount, _)| mount)
    }

    /// How the step names a path of the host; `None` for what it must not see.
    pub(super) fn place_of_host(&self, host: &[u8]) -> Option<Vec<u8>> {
        if let Some(program) = self.programs.name_of(host) {
            return Some(program);
        }
        if rest(host, self.scratch.listings()).is_some() {
            return Some(b"/proc".to_vec());
        }
        self.mounts.locate(host).map(|(_, place)| place)
    }
}
