//! Making the files that entries describe, with their owners, modes, attributes and times.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::layer::apply::Applier;
use crate::layer::apply::parents::{Place, Standing};
use crate::layer::owners::{HELD, Owners, Record, STAND_INS, STAT, is_internal, real_mode};
use crate::layer::{Content, Entry, Kind, LayerError, Node, marks};
use crate::oci::{ImagePath, Timestamp};
use crate::sys::xattr;

impl Applier<'_> {
    /// Makes a regular file. If there are zeros enough in it, it gets holes.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        content: &mut dyn Content,
    ) -> Result<(), LayerError> {
        let place = self.place(&entry.path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = self.create(&place, |place| {
            rustix::fs::openat(&place.parent, &place.name[..], flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let copied = copy(content, &mut File::from(file), &mut buffer);
        self.buffer = buffer;
        match copied {
            Ok(()) => self.metadata(&place, entry),
            Err(CopyError::Read(source)) => Err(LayerError::Source { source }),
            Err(CopyError::Write(source)) => Err(LayerError::file("write", &place.path)(source)),
        }
    }

    /// Makes a directory, or changes the one that is there.
    pub(super) fn directory(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let place = self.place(&entry.path)?;
        let make = |place: &Place| rustix::fs::mkdirat(&place.parent, &place.name[..], Mode::RWXU);
        match make(&place) {
            Err(Errno::EXIST) if self.standing(&place.path)? == Standing::Directory => {
                self.implied.remove(&place.path);
            }
            Err(Errno::EXIST) => {
                // It was deleted before it came back, so nothing of the old one may show.
                let is_reborn = self.make_free(&place.path)?;
                make(&place).map_err(LayerError::file("create", &place.path))?;
                if is_reborn {
                    self.make_opaque(&place.path)?;
                }
            }
            result => result.map_err(LayerError::file("create", &place.path))?,
        }
        self.metadata(&place, entry)
    }

    /// Sets the metadata of a directory that exists; of the root too.
    pub(super) fn directory_metadata(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let place = Place {
            parent: std::rc::Rc::clone(&self.root),
            name: entry.path.relative().as_os_str().as_encoded_bytes().to_vec(),
            path: entry.path.clone(),
        };
        self.metadata(&place, entry)
    }

    /// Makes a link, pipe or device.
    pub(super) fn special(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let place = self.place(&entry.path)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let make = |kind, device| {
            move |place: &Place| {
                rustix::fs::mknodat(&place.parent, &place.name[..], kind, mode, device)
            }
        };
        match &entry.kind {
            Kind::Symlink { target } => self.create(&place, |place| {
                rustix::fs::symlinkat(&target[..], &place.parent, &place.name[..])
            })?,
            Kind::Fifo => self.create(&place, make(FileType::Fifo, 0))?,
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                let kind = match entry.kind {
                    Kind::CharDevice { .. } => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let device = rustix::fs::makedev(*major, *minor);
                self.make_free(&place.path)?;
                // The device 0:0 would be a whiteout, so it is never made as a device.
                let result = match self.owners {
                    Owners::Real if device != 0 => make(kind, device)(&place),
                    _ => Err(Errno::PERM),
                };
                match result {
                    Err(Errno::PERM) => return self.placeholder(&place, entry),
                    result => result.map_err(LayerError::file("create", &place.path))?,
                }
            }
            _ => return Ok(()),
        }
        self.metadata(&place, entry)
    }

    /// Makes an empty file that stands for a device which nobody lets us make.
    fn placeholder(&mut self, place: &Place, entry: &Entry) -> Result<(), LayerError> {
        let make = make_file(place).map_err(LayerError::file("create", &place.path));
        make?;
        self.metadata(place, entry)?;
        let stand_in = self.own(place, entry)?;
        let record = Record::new(&entry.kind, entry.mode, entry.uid, entry.gid);
        self.set_record(place, Record { stand_in, ..record })
    }

    /// Makes another name of a file.
    pub(super) fn hard_link(
        &mut self,
        path: &ImagePath,
        target: &ImagePath,
    ) -> Result<(), LayerError> {
        let missing = || LayerError::NoLinkTarget { path: path.clone(), target: target.clone() };
        if target.is_root() {
            return Err(missing());
        }
        let place = self.place(path)?;
        // Parents that do not exist are made, which is harmless: without a target it is an error.
        let from = self.place(target)?;
        if from.path == place.path {
            return Ok(());
        }
        match self.standing(&from.path)? {
            Standing::Other(_) => {}
            Standing::Nothing if !self.is_hidden(&from.path) => {
                return self.link_to_lower(&place, &from, missing);
            }
            _ => return Err(missing()),
        }
        let sidecar = self.sidecar.get(&from.path);
        self.create(&place, |place| {
            let (old, new) = (&from.name[..], &place.name[..]);
            rustix::fs::linkat(&from.parent, old, &place.parent, new, AtFlags::empty())
        })?;
        if let Some(record) = sidecar {
            self.sidecar.insert(place.path, record);
        }
        Ok(())
    }

    /// A hard link to a file of another layer: overlayfs has none, so the file is copied up, under
    /// both names.
    fn link_to_lower(
        &mut self,
        place: &Place,
        from: &Place,
        missing: impl Fn() -> LayerError,
    ) -> Result<(), LayerError> {
        let Some(lower) = self.lower else {
            self.needs_lower = true;
            return Ok(());
        };
        let entry = match lower.lookup(&from.path)? {
            None | Some(Node { kind: Kind::Directory, .. }) => return Err(missing()),
            Some(node) => node.into_entry(from.path.clone()),
        };
        if matches!(entry.kind, Kind::File { .. }) {
            self.file(&entry, &mut lower.open(&from.path)?)?;
        } else {
            self.special(&entry)?;
        }
        self.hard_link(&place.path, &from.path)
    }

    /// Hides a name of the layers below. What this layer itself has there stays.
    pub(super) fn whiteout(&mut self, path: &ImagePath) -> Result<(), LayerError> {
        let place = self.place(path)?;
        match self.standing(&place.path)? {
            Standing::Directory => self.make_opaque(&place.path),
            Standing::Whiteout | Standing::Other(_) => Ok(()),
            Standing::Nothing => marks::hide(&place.parent, &place.name, self.format)
                .map_err(LayerError::file("create a whiteout for", &place.path)),
        }
    }

    /// Hides everything that the layers below have in a directory.
    pub(super) fn opaque_whiteout(&mut self, path: &ImagePath) -> Result<(), LayerError> {
        let (resolved, _) = self.directory_at(path)?;
        self.make_opaque(&resolved)
    }

    fn metadata(&mut self, place: &Place, entry: &Entry) -> Result<(), LayerError> {
        let is_link = matches!(entry.kind, Kind::Symlink { .. });
        let name = &place.name[..];
        if let Some(stand_in) = self.own(place, entry)? {
            let record = Record::new(&entry.kind, entry.mode, entry.uid, entry.gid);
            self.set_record(place, Record { stand_in: Some(stand_in), ..record })?;
        }
        let mode = match self.owners {
            Owners::Real => entry.mode,
            Owners::Recorded => real_mode(&entry.kind, entry.mode),
        };
        if !is_link {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(&place.parent, name, mode, AtFlags::empty())
                .map_err(LayerError::file("change the mode of", &place.path))?;
        }
        let is_plain = (entry.uid, entry.gid, entry.mode) == (0, 0, mode);
        if self.owners == Owners::Recorded && !is_plain {
            let record = Record::new(&entry.kind, entry.mode, entry.uid, entry.gid);
            self.set_record(place, record)?;
        }
        for (name, value) in &entry.xattrs {
            set_xattr(place, entry, name, value)?;
        }
        if entry.kind == Kind::Directory {
            self.times.insert(place.path.clone(), entry.mtime);
            return Ok(());
        }
        let times = times(entry.mtime);
        rustix::fs::utimensat(&place.parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::file("set the time of", &place.path))
    }

    /// Gives a file to its owner where owners are real. Where that cannot be, says who stands in.
    fn own(&self, place: &Place, entry: &Entry) -> Result<Option<(u32, u32)>, LayerError> {
        match self.owners {
            Owners::Real => change_owner(place, (entry.uid, entry.gid))
                .map_err(LayerError::file("change the owner of", &place.path)),
            Owners::Recorded => Ok(None),
        }
    }

    fn set_record(&mut self, place: &Place, record: Record) -> Result<(), LayerError> {
        let path = name_path(place);
        match xattr::set(&place.parent, path, STAT, &record.encode()) {
            // Links and pipes cannot have user attributes.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                self.sidecar.insert(place.path.clone(), record);
                Ok(())
            }
            result => result.map_err(LayerError::file("record the owner of", &place.path)),
        }
    }
}

/// Gives a file to its owner, or, if a part of that is outside of the range of ids, to somebody who
/// stands in: then says to whom.
fn change_owner(place: &Place, (uid, gid): (u32, u32)) -> Result<Option<(u32, u32)>, Errno> {
    let change = |uid, gid| {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&place.parent, &place.name[..], owner, group, flags)
    };
    match change(uid, gid) {
        Err(Errno::INVAL) => {}
        result => return result.map(|()| None),
    }
    let stand_ins = STAND_INS.into_iter().flat_map(|it| [(uid, it), (it, gid), (it, it)]);
    for (uid, gid) in stand_ins {
        if change(uid, gid).is_ok() {
            return Ok(Some((uid, gid)));
        }
    }
    Err(Errno::INVAL)
}

/// Sets one attribute that the layer brings.
fn set_xattr(place: &Place, entry: &Entry, name: &[u8], value: &[u8]) -> Result<(), LayerError> {
    if is_internal(name) {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(LayerError::ReservedXattr { path: entry.path.clone(), name });
    }
    let path = name_path(place);
    match xattr::set(&place.parent, path, name, value) {
        // Only root may set `trusted.*`; whoever has one ID may not set `security.*` either.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            xattr::set(&place.parent, path, &[HELD, name].concat(), value)
        }
        result => result,
    }
    .map_err(LayerError::file("set an extended attribute of", &place.path))
}

fn name_path(place: &Place) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(&place.name))
}

fn make_file(place: &Place) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(&place.parent, &place.name[..], flags, Mode::RUSR | Mode::WUSR).map(drop)
}

/// A modification time, for `utimensat`; the access time stays.
pub(super) fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}

/// Which side of a copy failed.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(content: &mut dyn Content, file: &mut File, buffer: &mut [u8]) -> Result<(), CopyError> {
    let mut ends_in_hole = false;
    loop {
        let hole = content.skip_hole();
        if hole > 0 {
            let hole = i64::try_from(hole).expect("files are smaller than 2^62 bytes");
            file.seek(SeekFrom::Current(hole)).map_err(CopyError::Write)?;
            ends_in_hole = true;
        }
        let mut length = 0;
        while length < buffer.len() {
            match content.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CopyError::Read(error)),
            }
        }
        if length == 0 {
            break;
        }
        ends_in_hole = length == buffer.len() && buffer.iter().all(|byte| *byte == 0);
        if ends_in_hole {
            let length = i64::try_from(length).expect("a buffer is small");
            file.seek(SeekFrom::Current(length)).map_err(CopyError::Write)?;
        } else {
            file.write_all(&buffer[..length]).map_err(CopyError::Write)?;
        }
    }
    if ends_in_hole {
        let size = file.stream_position().map_err(CopyError::Write)?;
        file.set_len(size).map_err(CopyError::Write)?;
    }
    Ok(())
}
