//! Where an entry goes: its parent directory, found or made, and its name made free.

use std::{collections::VecDeque, io, os::fd::OwnedFd, rc::Rc};

use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;

use crate::layer::apply::Applier;
use crate::layer::stored::is_whiteout_device;
use crate::layer::{Kind, LayerError, Node, marks};
use crate::oci::{ImagePath, Timestamp};
use crate::sys::{beneath, xattr};

/// How many symbolic links one path may lead through; the kernel's own limit.
const MAX_LINKS: u32 = 40;

/// A name in an open directory.
pub(super) struct Place {
    pub(super) parent: Rc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// Where it really is: links among the parents are resolved.
    pub(super) path: ImagePath,
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    Whiteout,
    Directory,
    Other(FileType),
}

impl Applier<'_> {
    /// The place of `path`, which is not the root. Missing parents are made.
    pub(super) fn place(&mut self, path: &ImagePath) -> Result<Place, LayerError> {
        let parent = path.parent().unwrap_or_else(ImagePath::root);
        let name = path.name().unwrap_or_default().to_vec();
        let (resolved, descriptor) = self.directory_at(&parent)?;
        Ok(Place { parent: descriptor, path: resolved.join(&name), name })
    }

    /// Opens the directory that `path` leads to inside the root; it is made if it is missing.
    pub(super) fn directory_at(
        &mut self,
        path: &ImagePath,
    ) -> Result<(ImagePath, Rc<OwnedFd>), LayerError> {
        if let Some((named, resolved, descriptor)) = &self.parent
            && named == path
        {
            return Ok((resolved.clone(), Rc::clone(descriptor)));
        }
        let open = |path: &ImagePath| beneath::open_directory(&self.root, path.relative());
        let (resolved, descriptor) = if let Ok(descriptor) = open(path) {
            (path.clone(), descriptor)
        } else {
            let resolved = self.walk(path)?;
            let descriptor = beneath::open_directory(&self.root, resolved.relative());
            (resolved, descriptor.map_err(LayerError::file("open", path))?)
        };
        let descriptor = Rc::new(descriptor);
        self.parent = Some((path.clone(), resolved.clone(), Rc::clone(&descriptor)));
        Ok((resolved, descriptor))
    }

    /// Walks down `path`, through links of this layer and of those below, and makes what is missing.
    fn walk(&mut self, path: &ImagePath) -> Result<ImagePath, LayerError> {
        let mut resolved = ImagePath::root();
        let mut rest: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                resolved = resolved.parent().unwrap_or_else(ImagePath::root);
                continue;
            }
            let here = resolved.join(&name);
            let link = match self.standing(&here)? {
                Standing::Directory => None,
                Standing::Other(FileType::Symlink) => Some(
                    rustix::fs::readlinkat(&self.root, here.relative(), Vec::new())
                        .map_err(LayerError::file("read the link", &here))?
                        .into_bytes(),
                ),
                Standing::Nothing => {
                    let link = self.lower_link(&here)?;
                    if link.is_none() {
                        self.make_parent(&here)?;
                        self.implied.insert(here.clone());
                    }
                    link
                }
                Standing::Whiteout => {
                    self.unlink(&here)?;
                    self.make_parent(&here)?;
                    self.make_opaque(&here)?;
                    None
                }
                Standing::Other(_) => {
                    return Err(LayerError::file("put something into", &here)(Errno::NOTDIR));
                }
            };
            let Some(target) = link else {
                resolved = here;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(LayerError::file("resolve", path)(Errno::LOOP));
            }
            if target.starts_with(b"/") {
                resolved = ImagePath::root();
            }
            let names = target.split(|byte| *byte == b'/');
            for name in names.filter(|name| !name.is_empty() && *name != b".").rev() {
                rest.push_front(name.to_vec());
            }
        }
        Ok(resolved)
    }

    /// Where the link leads that the layers below have at `path`, if they show there at all.
    fn lower_link(&self, path: &ImagePath) -> Result<Option<Vec<u8>>, LayerError> {
        let Some(lower) = self.lower else { return Ok(None) };
        if self.is_hidden(path) {
            return Ok(None);
        }
        Ok(match lower.lookup(path)? {
            Some(Node { kind: Kind::Symlink { target }, .. }) => Some(target),
            _ => None,
        })
    }

    /// Whether a directory above `path` hides what the layers below have there.
    pub(super) fn is_hidden(&self, path: &ImagePath) -> bool {
        let parents = std::iter::successors(path.parent(), ImagePath::parent);
        parents.into_iter().any(|parent| self.opaque.contains(&parent))
    }

    fn make_parent(&mut self, path: &ImagePath) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(&self.root, path.relative(), mode)
            // The umask may have taken bits away.
            .and_then(|()| rustix::fs::chmodat(&self.root, path.relative(), mode, AtFlags::empty()))
            .map_err(LayerError::file("create", path))?;
        self.times.insert(path.clone(), Timestamp::EPOCH);
        Ok(())
    }

    /// What this layer has at `path`, whose parents are directories.
    pub(super) fn standing(&self, path: &ImagePath) -> Result<Standing, LayerError> {
        match rustix::fs::statat(&self.root, path.relative(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Standing::of(&stat)),
            Err(Errno::NOENT) => Ok(Standing::Nothing),
            Err(errno) => Err(LayerError::file("look at", path)(errno)),
        }
    }

    /// Removes what an earlier entry of this layer put at `path`. Whether it was a whiteout.
    pub(super) fn make_free(&mut self, path: &ImagePath) -> Result<bool, LayerError> {
        let standing = self.standing(path)?;
        if standing == Standing::Directory {
            // Parents that are below it must not be used any more.
            self.parent = None;
            self.times.retain(|other, _| !other.starts_with(path));
            self.implied.retain(|other| !other.starts_with(path));
            self.opaque.retain(|other| !other.starts_with(path));
            let parent = path.parent().unwrap_or_else(ImagePath::root);
            let name = path.name().unwrap_or_default();
            beneath::open_directory(&self.root, parent.relative())
                .and_then(|parent| beneath::remove_tree(parent, name))
                .map_err(LayerError::file("remove", path))?;
        } else if standing != Standing::Nothing {
            self.parent = None;
            self.unlink(path)?;
        }
        self.sidecar.remove(path);
        Ok(standing == Standing::Whiteout)
    }

    fn unlink(&self, path: &ImagePath) -> Result<(), LayerError> {
        rustix::fs::unlinkat(&self.root, path.relative(), AtFlags::empty())
            .map_err(LayerError::file("remove", path))
    }

    /// Marks a directory so that the layers below have no part in it.
    pub(super) fn make_opaque(&mut self, path: &ImagePath) -> Result<(), LayerError> {
        self.opaque.insert(path.clone());
        if path.is_root() {
            return Ok(());
        }
        xattr::set(&self.root, path.relative(), self.format.opaque(), marks::OPAQUE)
            .map_err(LayerError::file("mark as opaque", path))
    }

    /// Retries `create` once after making room, if something stands in its way.
    pub(super) fn create<T>(
        &mut self,
        place: &Place,
        mut create: impl FnMut(&Place) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let result = match create(place) {
            Err(Errno::EXIST) => {
                self.make_free(&place.path)?;
                create(place)
            }
            result => result,
        };
        result.map_err(|errno| LayerError::file("create", &place.path)(io::Error::from(errno)))
    }
}

impl Standing {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            _ if is_whiteout_device(stat) => Self::Whiteout,
            other => Self::Other(other),
        }
    }
}
