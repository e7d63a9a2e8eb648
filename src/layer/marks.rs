//! The marks by which one layer's directory hides what is in the layers below.
//!
//! A whiteout is the device 0:0 where such can be made. An overlay file system makes none, as they
//! mean something to itself: there an empty file with an attribute stands for one, and the directory
//! around it has an attribute that says that there are such files.
//!
//! Spec: <https://docs.kernel.org/filesystems/overlayfs.html>.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::layer::OverlayFormat;
use crate::sys::xattr;

/// The value of the opaque attribute of a directory that shows nothing of those below.
pub(crate) const OPAQUE: &[u8] = b"y";
/// The value where some empty files in the directory are whiteouts.
pub(crate) const HAS_WHITEOUT_FILES: &[u8] = b"x";

/// Hides the name `name` of the layers below, in an open directory where nothing has that name.
pub(crate) fn hide(directory: impl AsFd, name: &[u8], format: OverlayFormat) -> io::Result<()> {
    let directory = directory.as_fd();
    match rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {}
        result => return Ok(result?),
    }
    let here = Path::new(".");
    if xattr::get(directory, here, format.opaque())?.is_none_or(|value| value != OPAQUE) {
        xattr::set(directory, here, format.opaque(), HAS_WHITEOUT_FILES)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    drop(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let name = Path::new(OsStr::from_bytes(name));
    xattr::set(directory, name, format.whiteout(), OPAQUE)
}

/// Lets an open directory show nothing of those below it.
pub(crate) fn make_opaque(directory: impl AsFd, format: OverlayFormat) -> io::Result<()> {
    xattr::set(directory, Path::new("."), format.opaque(), OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{LayerDir, Owners, Sidecar, Stored};
    use crate::oci::ImagePath;
    use crate::sys::beneath;

    #[test]
    fn a_hidden_name_is_a_whiteout_and_an_empty_file_is_none() {
        let directory = tempfile::tempdir().expect("writable");
        std::fs::write(directory.path().join("empty"), "").expect("writable");
        let format = OverlayFormat::User;
        hide(beneath::open_root(directory.path()).expect("open"), b"gone", format).expect("hidden");
        let layer = LayerDir::open(directory.path(), Owners::Recorded, format, Sidecar::default());
        let names = layer.expect("open").read_dir(&ImagePath::root()).expect("readable");
        assert_eq!(names, [(b"empty".to_vec(), false), (b"gone".to_vec(), true)]);
    }

    #[test]
    fn where_there_are_no_devices_a_file_is_the_whiteout() {
        let directory = tempfile::tempdir().expect("writable");
        let at = |name: &str| directory.path().join(name);
        for name in ["gone", "empty"] {
            std::fs::write(at(name), "").expect("writable");
        }
        let root = beneath::open_root(directory.path()).expect("open");
        let format = OverlayFormat::User;
        xattr::set(&root, Path::new("gone"), format.whiteout(), OPAQUE).expect("attributes");
        xattr::set(&root, Path::new("."), format.opaque(), HAS_WHITEOUT_FILES).expect("attributes");
        let layer = LayerDir::open(directory.path(), Owners::Recorded, format, Sidecar::default());
        let layer = layer.expect("open");
        let look = |path: &str| layer.lookup(&ImagePath::new(path)).expect("readable");
        assert!(matches!(look("/gone"), Stored::Whiteout));
        assert!(matches!(look("/empty"), Stored::Present { opaque: false, .. }));
    }
}
