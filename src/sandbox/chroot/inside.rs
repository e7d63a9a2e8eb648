//! What a step finds inside that is not in its tree, and what in its tree is not what it seems.

use std::os::fd::OwnedFd;

use rustix::fs::readlinkat;
use rustix::io::Errno;

use crate::oci::ImagePath;
use crate::sandbox::chroot::caller::{Caller, Identity};
use crate::sandbox::chroot::calls::{self, Asked, Call};
use crate::sandbox::chroot::census::Census;
use crate::sandbox::chroot::mirror::Mirror;
use crate::sandbox::chroot::proc::{Item, Proc};
use crate::sandbox::chroot::served::Served;
use crate::sandbox::quota::Quota;

/// Everything that the supervisor answers from.
#[derive(Debug)]
pub(super) struct Inside {
    /// The root directory.
    pub(super) root: OwnedFd,
    pub(super) proc: Proc,
    pub(super) mirror: Mirror,
    /// Devices that could not be made in the tree, by name in `/dev`.
    pub(super) devices: Vec<(&'static str, OwnedFd)>,
    /// Files that are only in memory.
    pub(super) memory: Vec<(ImagePath, OwnedFd)>,
    /// What is not to be changed.
    pub(super) read_only: Vec<ImagePath>,
    /// What is to look like a file system in memory.
    pub(super) temporary: Vec<Quota>,
    pub(super) hostname: String,
    pub(super) asked: Asked,
    pub(super) census: Census,
    pub(super) calls: Vec<Option<Call>>,
}

impl Inside {
    /// What the call of this number wants.
    pub(super) fn call(&self, number: u32) -> Option<Call> {
        *self.calls.get(usize::try_from(number).ok()?)?
    }

    /// Whether something that is not in the tree may be at a path. Quick: it is asked of every path.
    pub(super) fn may_serve(&self, path: &ImagePath) -> bool {
        let mut names = path.components();
        match names.next() {
            Some(b"proc") => true,
            Some(b"dev") => names.next().is_some_and(|name| {
                matches!(name, b"fd" | b"stdin" | b"stdout" | b"stderr")
                    || self.devices.iter().any(|(device, _)| device.as_bytes() == name)
            }),
            _ if path.as_bytes() == b"/etc/mtab" => true,
            _ => self.memory.iter().any(|(file, _)| file.name() == path.name()),
        }
    }

    /// What is served at a path; `None` if the tree is right.
    pub(super) fn serve(
        &self,
        path: &ImagePath,
        follow: bool,
        caller: Caller,
        identity: &Identity,
    ) -> Result<Option<Served>, Errno> {
        let names: Vec<&[u8]> = path.components().collect();
        let of_self = |rest: &[&[u8]]| {
            let way = [&[&b"self"[..]][..], rest].concat();
            self.proc.find(&way, caller, identity).map(Some)
        };
        match names.as_slice() {
            [b"proc"] if !follow => Ok(None),
            [b"proc", rest @ ..] => self.proc.find(rest, caller, identity).map(Some),
            [b"dev", name] if let Some((_, device)) = self.device(name) => {
                Ok(Some(Served::Device(rustix::io::fcntl_dupfd_cloexec(device, 3)?)))
            }
            // These are links in the tree.
            [b"dev", b"fd" | b"stdin" | b"stdout" | b"stderr"] if !follow => Ok(None),
            [b"dev", b"fd", rest @ ..] => of_self(&[&[&b"fd"[..]][..], rest].concat()),
            [b"dev", b"stdin"] => of_self(&[b"fd", b"0"]),
            [b"dev", b"stdout"] => of_self(&[b"fd", b"1"]),
            [b"dev", b"stderr"] => of_self(&[b"fd", b"2"]),
            [b"etc", b"mtab"] if follow && self.is_link_to_mounts() => of_self(&[b"mounts"]),
            _ => self.in_memory(path),
        }
    }

    fn device(&self, name: &[u8]) -> Option<&(&'static str, OwnedFd)> {
        self.devices.iter().find(|(device, _)| device.as_bytes() == name)
    }

    fn is_link_to_mounts(&self) -> bool {
        let link = readlinkat(&self.root, "etc/mtab", Vec::new());
        link.is_ok_and(|link| link.as_bytes().ends_with(b"mounts"))
    }

    fn in_memory(&self, path: &ImagePath) -> Result<Option<Served>, Errno> {
        let find = |path: &ImagePath| self.memory.iter().find(|(file, _)| file == path);
        let found = find(path).or_else(|| find(&self.without_links(path)?));
        match found {
            Some((_, file)) => Ok(Some(Served::Memory(rustix::io::fcntl_dupfd_cloexec(file, 3)?))),
            None => Ok(None),
        }
    }

    /// The same path, with the directory that links on the way lead to.
    fn without_links(&self, path: &ImagePath) -> Option<ImagePath> {
        use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
        use std::os::fd::AsRawFd as _;

        let (around, name) = (path.parent()?, path.name()?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let around = openat2(&self.root, around.relative(), flags, Mode::empty(), resolve).ok()?;
        let link = format!("/proc/self/fd/{}", around.as_raw_fd());
        let link = rustix::fs::readlink(link, Vec::new()).ok()?;
        match self.proc.seen_from_inside(link.into_bytes()) {
            (around, true) => Some(ImagePath::new(around).join(name)),
            (_, false) => None,
        }
    }

    /// Opens a directory of `/proc` for a caller to list.
    pub(super) fn list(
        &self,
        way: &[Vec<u8>],
        served: &Served,
        caller: Caller,
    ) -> Result<OwnedFd, Errno> {
        let Served::Directory(directory, _) = served else { return Err(Errno::NOTDIR) };
        let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::ACCESS);
        let mut listing = self.proc.list(way, directory).map_err(errno)?;
        if way.is_empty() {
            let process = caller.process().map_err(errno)?;
            listing.insert(b"self".to_vec(), Item::Link(process.to_string().into_bytes()));
        }
        // It is made by root, whoever has asked.
        let root = Identity { uid: 0, gid: 0, groups: Vec::new() };
        root.assume().map_err(errno)?;
        self.mirror.directory(way, &listing).map_err(errno)
    }

    /// The directory at which a relative path of a caller begins.
    pub(super) fn directory(&self, caller: Caller, descriptor: Option<u64>) -> Option<ImagePath> {
        let thread = caller.0.as_raw_pid();
        #[expect(clippy::cast_possible_truncation, reason = "the kernel reads 32 bits, too")]
        let name = match descriptor.map(|number| (number as u32).cast_signed()) {
            None | Some(libc::AT_FDCWD) => format!("/proc/{thread}/cwd"),
            Some(number) => format!("/proc/{thread}/fd/{number}"),
        };
        let read = || rustix::fs::readlink(&name, Vec::new());
        let link = read().or_else(|_| {
            caller.identity().and_then(|identity| identity.assume()).map_err(|_| Errno::PERM)?;
            read()
        });
        match self.proc.seen_from_inside(link.ok()?.into_bytes()) {
            (path, true) => Some(ImagePath::new(path)),
            (_, false) => None,
        }
    }

    /// Whether a path is at or below a place that is not to be changed.
    pub(super) fn is_read_only(&self, path: &ImagePath) -> bool {
        let under = |places: &mut dyn Iterator<Item = &ImagePath>| {
            places.filter(|place| path.starts_with(place)).map(|it| it.as_bytes().len()).max()
        };
        // What is mounted inside something read-only may be changed.
        let read_only = under(&mut self.read_only.iter());
        read_only > under(&mut self.temporary.iter().map(|it| &it.path))
    }

    /// What a path is in that is to look like a file system in memory.
    pub(super) fn temporary(&self, path: &ImagePath) -> Option<&Quota> {
        self.temporary.iter().rev().find(|it| path.starts_with(&it.path))
    }
}

/// What the filter of the step asks about.
pub(super) fn table() -> Vec<Option<Call>> {
    calls::table()
}
