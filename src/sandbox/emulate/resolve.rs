//! From a path to a file: links, `..`, and what is shown where, all within the step's own root.
//!
//! Two ways. The quick one lets the kernel resolve the whole path beneath the tree, where that is sure
//! to give the right answer: for a caller who may search every directory, a path that leads through
//! nothing covered. The other goes name by name, on descriptors, and holds on to each directory, so
//! that nothing that is renamed meanwhile can lead it outside: `..` is where it came from.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::sandbox::emulate::access::{EXECUTE, permits};
use crate::sandbox::emulate::call::Call;
use crate::sandbox::emulate::credentials::{Credentials, cap};
use crate::sandbox::emulate::mounts::Shown;
use crate::sandbox::emulate::procfs::{self, Node, NodeKind};
use crate::sandbox::emulate::start_point::Base;
use crate::sandbox::emulate::world::World;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// The longest path, and the longest name.
pub(super) const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

pub(super) const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = PATH.union(OFlags::DIRECTORY);
const LOOK: OFlags = PATH.union(OFlags::NOFOLLOW);

/// A file that is there.
#[derive(Debug)]
pub(super) struct Found {
    /// Open as a path only.
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { stat: fstat(&fd)?, fd })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// A name under which the kernel knows it, for calls that take no descriptor.
    pub(super) fn path(&self) -> Vec<u8> {
        own_path(self.fd.as_fd())
    }
}

/// The name under which the kernel knows an open file of ours.
pub(super) fn own_path(fd: BorrowedFd<'_>) -> Vec<u8> {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes()
}

/// A directory in which a name is to be made or removed.
#[derive(Debug, Clone)]
pub(super) struct Around {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) stat: Stat,
}

/// Where a path has led.
#[derive(Debug)]
pub(super) enum Walked {
    /// To a file.
    Found(Found),
    /// To a directory that lacks the last name.
    Missing(Around, Vec<u8>),
    /// To something in `/proc`.
    Node(Node),
}

/// A directory on the way.
#[derive(Debug)]
enum Here {
    Files(Around),
    Processes(Vec<u8>),
}

#[derive(Debug)]
struct Level {
    here: Here,
    place: Vec<u8>,
}

/// A path on its way.
struct Walk<'a> {
    world: &'a World,
    call: &'a Call<'a>,
    /// Where it has come through, the last is where it is.
    levels: Vec<Level>,
    ahead: VecDeque<Vec<u8>>,
    links: usize,
    /// Whether a link at the end is followed.
    follow: bool,
    /// Whether the end must be a directory, because of a slash after it.
    directory: bool,
    credentials: Arc<Credentials>,
}

impl World {
    /// Follows a path name by name.
    pub(super) fn walk(
        &self,
        call: &Call<'_>,
        base: &Base,
        path: &[u8],
        follow: bool,
    ) -> Result<Walked, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let start = if path.starts_with(b"/") { self.top()? } else { self.level(base)? };
        let mut walk = Walk {
            world: self,
            call,
            levels: vec![start],
            ahead: VecDeque::new(),
            links: 0,
            follow,
            directory: false,
            credentials: call.process.credentials(),
        };
        walk.push(path);
        walk.run()
    }

    fn top(&self) -> Result<Level, Errno> {
        let fd = openat(self.mounts.tree(), ".", DIRECTORY, Mode::empty())?;
        let here = Here::Files(Around { stat: fstat(&fd)?, fd: Arc::new(fd) });
        Ok(Level { here, place: Vec::new() })
    }

    fn level(&self, base: &Base) -> Result<Level, Errno> {
        Ok(match base {
            Base::Processes(path) => Level {
                here: Here::Processes(path.clone()),
                place: [b"/proc", path.as_slice()].concat(),
            },
            Base::Files { fd, .. } => {
                let around = Around { stat: fstat(fd)?, fd: Arc::clone(fd) };
                // Only what is covered, and `..`, ask for the name of a place.
                let place = self.place_of(base).unwrap_or_else(|_| b"/(unreachable)".to_vec());
                Level { here: Here::Files(around), place }
            }
        })
    }

    /// Opens a directory by the name of its place, which leads through no links.
    pub(super) fn open_place(&self, place: &[u8]) -> Result<Base, Errno> {
        let (mount, rest) = self.mounts.containing(place);
        match &self.mounts.get(mount).shown {
            Shown::Processes => Ok(Base::Processes(rest.to_vec())),
            Shown::File(_) => Err(Errno::NOTDIR),
            Shown::Directory(fd) => {
                let rest = if rest.is_empty() { b"." } else { &rest[1..] };
                let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let fd = openat2(fd, OsStr::from_bytes(rest), DIRECTORY, Mode::empty(), inside)?;
                let stat = fstat(&fd)?;
                Ok(self.base_of_files(fd, &stat))
            }
        }
    }
}

impl Walk<'_> {
    /// Puts a path before what is still ahead.
    fn push(&mut self, path: &[u8]) {
        if self.ahead.is_empty() && path.ends_with(b"/") {
            self.directory = true;
        }
        for name in path.split(|byte| *byte == b'/').rev().filter(|name| !name.is_empty()) {
            self.ahead.push_front(name.to_vec());
        }
    }

    fn run(mut self) -> Result<Walked, Errno> {
        while let Some(name) = self.ahead.pop_front() {
            match &*name {
                b"." => self.may_search()?,
                b".." => {
                    self.may_search()?;
                    self.up()?;
                }
                _ if name.len() > NAME_MAX => return Err(Errno::NAMETOOLONG),
                _ => {
                    if let Some(end) = self.step(&name)? {
                        return Ok(end);
                    }
                }
            }
        }
        let Level { here, .. } = self.levels.pop().ok_or(Errno::NOENT)?;
        Ok(match here {
            Here::Files(around) => {
                let fd = match Arc::try_unwrap(around.fd) {
                    Ok(fd) => fd,
                    Err(shared) => shared.try_clone().map_err(|_| Errno::MFILE)?,
                };
                Walked::Found(Found { fd, stat: around.stat })
            }
            Here::Processes(path) => Walked::Node(Node { path, kind: NodeKind::Directory }),
        })
    }

    fn level(&self) -> &Level {
        self.levels.last().expect("there is always a level")
    }

    /// Whether the caller may look for a name here.
    fn may_search(&self) -> Result<(), Errno> {
        let Here::Files(around) = &self.level().here else { return Ok(()) };
        if self.credentials.can(cap::DAC_OVERRIDE) {
            return Ok(());
        }
        let owner = self.world.records.owner(&around.stat, || own_path(around.fd.as_fd()));
        permits(&self.credentials, &owner, EXECUTE)
    }

    fn up(&mut self) -> Result<(), Errno> {
        if self.levels.len() > 1 {
            self.levels.pop();
            return Ok(());
        }
        let place = &self.level().place;
        let Some(slash) = place.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        let base = self.world.open_place(&place[..slash])?;
        self.levels = vec![self.world.level(&base)?];
        Ok(())
    }

    /// Goes to `name`; gives the end of the walk if that is it.
    fn step(&mut self, name: &[u8]) -> Result<Option<Walked>, Errno> {
        self.may_search()?;
        let level = self.level();
        let place = [&*level.place, b"/", name].concat();
        let around = match &level.here {
            Here::Processes(path) => {
                let node = procfs::look(self.world, self.call, path, name)?;
                return self.enter_node(node, place);
            }
            Here::Files(around) => around.clone(),
        };
        if let Some(mount) = self.world.mounts.at(&place) {
            return match &self.world.mounts.get(mount).shown {
                Shown::Processes => {
                    let node = Node { path: Vec::new(), kind: NodeKind::Directory };
                    self.enter_node(node, place)
                }
                Shown::Directory(fd) | Shown::File(fd) => {
                    let copy = fd.try_clone().map_err(|_| Errno::MFILE)?;
                    self.enter(Found::new(copy)?, place)
                }
            };
        }
        match openat(&around.fd, OsStr::from_bytes(name), LOOK, Mode::empty()) {
            Err(Errno::NOENT) if self.ahead.is_empty() => {
                Ok(Some(Walked::Missing(around, name.to_vec())))
            }
            Err(errno) => Err(errno),
            Ok(fd) => self.enter(Found::new(fd)?, place),
        }
    }

    fn enter(&mut self, found: Found, place: Vec<u8>) -> Result<Option<Walked>, Errno> {
        let is_last = self.ahead.is_empty();
        match found.kind() {
            FileType::Symlink if !is_last || self.follow || self.directory => {
                let target = readlinkat(&found.fd, "", Vec::new())?;
                self.follow(target.as_bytes())?;
                Ok(None)
            }
            FileType::Directory => {
                let around = Around { stat: found.stat, fd: Arc::new(found.fd) };
                self.levels.push(Level { here: Here::Files(around), place });
                Ok(None)
            }
            _ if !is_last || self.directory => Err(Errno::NOTDIR),
            _ => Ok(Some(Walked::Found(found))),
        }
    }

    fn enter_node(&mut self, node: Node, place: Vec<u8>) -> Result<Option<Walked>, Errno> {
        let is_last = self.ahead.is_empty();
        match &node.kind {
            NodeKind::Directory => {
                self.levels.push(Level { here: Here::Processes(node.path), place });
                Ok(None)
            }
            NodeKind::Link(target) if !is_last || self.follow || self.directory => {
                let target = target.clone();
                self.follow(&target)?;
                Ok(None)
            }
            NodeKind::Descriptor if !is_last || self.follow || self.directory => {
                let found = procfs::open_descriptor(self.world, &node.path)?;
                if found.kind() != FileType::Directory {
                    let is_end = is_last && !self.directory;
                    return if is_end {
                        Ok(Some(Walked::Found(found)))
                    } else {
                        Err(Errno::NOTDIR)
                    };
                }
                let base = self.world.base_at(found.fd)?;
                self.levels = vec![self.world.level(&base)?];
                Ok(None)
            }
            NodeKind::File if !is_last || self.directory => Err(Errno::NOTDIR),
            _ => Ok(Some(Walked::Node(node))),
        }
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.starts_with(b"/") {
            self.levels = vec![self.world.top()?];
        }
        self.push(target);
        Ok(())
    }
}

/// What the quick way gives.
#[derive(Debug)]
pub(super) enum Quick {
    /// The file, opened as it was to be.
    Opened(OwnedFd, Stat),
    /// The answer.
    Failed(Errno),
    /// None: go the other way.
    Unsure,
}

impl World {
    /// Opens a file the quick way. Flags that make or change it must not be among `flags`.
    pub(super) fn quick(
        &self,
        call: &Call<'_>,
        base: Option<&Base>,
        path: &[u8],
        flags: OFlags,
    ) -> Quick {
        if path.is_empty() || path.len() >= PATH_MAX || has_dots(path) || !call.may_search_all() {
            return Quick::Unsure;
        }
        match base {
            _ if path.starts_with(b"/") => self.quick_from_top(path, flags),
            Some(Base::Files { fd, plain: true, .. }) => {
                let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                match openat2(fd, OsStr::from_bytes(path), flags, Mode::empty(), inside) {
                    Ok(fd) => opened(fd),
                    Err(Errno::XDEV | Errno::AGAIN | Errno::LOOP) => Quick::Unsure,
                    Err(errno) => Quick::Failed(errno),
                }
            }
            Some(base @ Base::Files { plain: false, .. }) => match self.place_of(base) {
                Ok(place) => self.quick_from_top(&[&*place, b"/", path].concat(), flags),
                Err(_) => Quick::Unsure,
            },
            _ => Quick::Unsure,
        }
    }

    fn quick_from_top(&self, path: &[u8], flags: OFlags) -> Quick {
        if path.windows(2).any(|two| two == b"//") || !self.mounts.is_in_tree(path) {
            return Quick::Unsure;
        }
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let tree = self.mounts.tree();
        let open = |how| openat2(tree, OsStr::from_bytes(path), flags, Mode::empty(), how);
        if self.mounts.hides() {
            // Without links a path that is in the tree leads to nothing that is hidden.
            match open(inside | ResolveFlags::NO_SYMLINKS).map(opened) {
                Ok(Quick::Opened(_, stat)) if self.mounts.is_covered(&stat) => {
                    return Quick::Unsure;
                }
                Ok(quick) => return quick,
                Err(_) => {}
            }
        }
        match open(inside).map(opened) {
            // A link may have led to what is covered.
            Ok(Quick::Opened(_, stat)) if self.mounts.is_covered(&stat) => Quick::Unsure,
            Ok(Quick::Opened(fd, _)) if self.mounts.hides() && self.is_hidden(&fd) => Quick::Unsure,
            Ok(quick) => quick,
            Err(Errno::NOENT) if self.is_surely_missing(path) => Quick::Failed(Errno::NOENT),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::AGAIN) => {
                Quick::Unsure
            }
            Err(errno) => Quick::Failed(errno),
        }
    }

    /// Whether a file of the tree is below something that is covered.
    fn is_hidden(&self, fd: &OwnedFd) -> bool {
        self.place_of_file(fd).is_none_or(|place| !self.mounts.is_in_tree(&place))
    }

    /// Whether no link can have led from the tree to what is covered, where there may be more.
    fn is_surely_missing(&self, path: &[u8]) -> bool {
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return false };
        let (directory, name) = (&path[..slash], &path[slash + 1..]);
        if name.is_empty() {
            return false;
        }
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let directory = if directory.is_empty() { b"/" } else { directory };
        let at = OsStr::from_bytes(directory);
        let open = |how| openat2(self.mounts.tree(), at, DIRECTORY, Mode::empty(), how);
        let direct = open(inside | ResolveFlags::NO_SYMLINKS);
        let is_direct = direct.is_ok();
        match direct.or_else(|_| open(inside)) {
            Ok(fd) => {
                let is_plain = fstat(&fd).is_ok_and(|stat| !self.mounts.is_covered(&stat))
                    && (is_direct || !(self.mounts.hides() && self.is_hidden(&fd)));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                is_plain && matches!(statat(&fd, OsStr::from_bytes(name), flags), Err(Errno::NOENT))
            }
            Err(Errno::NOENT) => directory.len() > 1 && self.is_surely_missing(directory),
            Err(_) => false,
        }
    }

    /// Finds a file that is there, or something in `/proc`.
    pub(super) fn find(
        &self,
        call: &Call<'_>,
        directory: i32,
        path: &[u8],
        follow: bool,
    ) -> Result<Walked, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        self.find_from(call, call.base(directory, path)?.as_deref(), path, follow)
    }

    /// The same, from where the path begins.
    pub(super) fn find_from(
        &self,
        call: &Call<'_>,
        base: Option<&Base>,
        path: &[u8],
        follow: bool,
    ) -> Result<Walked, Errno> {
        match self.quick(call, base, path, look_flags(follow)) {
            Quick::Opened(fd, stat) => return Ok(Walked::Found(Found { fd, stat })),
            Quick::Failed(errno) => return Err(errno),
            Quick::Unsure => {}
        }
        let nowhere = Base::Processes(Vec::new());
        match self.walk(call, base.unwrap_or(&nowhere), path, follow)? {
            Walked::Missing(..) => Err(Errno::NOENT),
            walked => Ok(walked),
        }
    }
}

/// What a file is opened with to be looked at.
pub(super) fn look_flags(follow: bool) -> OFlags {
    if follow { PATH } else { LOOK }
}

fn opened(fd: OwnedFd) -> Quick {
    match fstat(&fd) {
        Ok(stat) => Quick::Opened(fd, stat),
        Err(errno) => Quick::Failed(errno),
    }
}

/// Whether a path has names that only a walk understands.
fn has_dots(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    names.any(|name| name == b"..") || path.starts_with(b"/.") && path.len() == 2
}
