//! Applying: one layer becomes a directory of its own, in the format that overlayfs stacks.
//!
//! The layer is hostile until its digest is known, which is at its end. Every file is made beneath
//! the directory's descriptor, through parents that are directories and not links; a link among
//! the parents is resolved inside the root. Whoever calls removes the directory if this fails.
//!
//! Layers are unpacked apart from each other, so that many can be at once. A few entries mean
//! something only with the layers below: parents that the layer does not hold, and hard links to
//! files of other layers. [`Applied`] tells of them; with those layers at hand, [`settle`] gives
//! the parents their metadata, and a second `apply` does the rest.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets>,
//! <https://docs.kernel.org/filesystems/overlayfs.html>.

mod make;
mod parents;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use crate::layer::decompress::ReadAhead;
use crate::layer::owners::{OverlayFormat, Owners, Sidecar};
use crate::layer::{Content, Entry, Kind, LayerError, LayerReader, Names, Node, Tree};
use crate::oci::{DiffId, ImagePath, Timestamp};
use crate::sys::beneath;

/// A layer that was applied.
#[derive(Debug)]
pub struct Applied {
    /// The digest of its uncompressed tar, which is the expected one.
    pub diff_id: DiffId,
    /// Directories that had to be made because something lies in them, though the layer does not
    /// say what they are like. The root is one more often than not.
    pub implied: BTreeSet<ImagePath>,
    /// Whether the layer must be applied again with the layers below, because it holds a hard link
    /// to one of their files or hides all of their root.
    pub needs_lower: bool,
    /// Records of files that cannot carry them.
    pub(crate) sidecar: Sidecar,
}

/// What a layer is applied to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// An empty directory of the host.
    pub directory: &'a Path,
    /// How owners are kept.
    pub owners: Owners,
    /// Whose attributes are used.
    pub format: OverlayFormat,
    /// The layers below, if they are known.
    pub lower: Option<&'a dyn Tree>,
}

/// Unpacks the layer that `source` holds in any compression, and verifies its digest.
///
/// # Errors
///
/// [`LayerError`]; the directory then holds nothing that may be used.
pub fn apply(
    source: impl Read + Send + 'static,
    target: &Target<'_>,
    expected: DiffId,
) -> Result<Applied, LayerError> {
    let mut reader = LayerReader::uncompressed(ReadAhead::new(source), Names::Layer);
    let mut applier = Applier::new(target)?;
    while let Some(entry) = reader.next_entry()? {
        applier.entry(&entry, &mut reader)?;
    }
    let ahead = reader.into_inner();
    let actual = ahead.finish().map_err(|source| LayerError::Source { source })?;
    if actual != expected {
        return Err(LayerError::WrongDiffId { expected, actual });
    }
    applier.finish(actual)
}

/// Gives directories that a layer only implied the metadata that they have in `lower`.
///
/// `false` if one of them is a symbolic link there: then what the layer puts into it belongs
/// elsewhere, and the layer must be applied again with `lower` at hand.
///
/// # Errors
///
/// [`LayerError::File`], [`LayerError::Tree`].
pub fn settle(
    target: &Target<'_>,
    implied: &BTreeSet<ImagePath>,
    lower: &dyn Tree,
) -> Result<bool, LayerError> {
    let mut applier = Applier::new(target)?;
    for path in implied {
        match lower.lookup(path)? {
            Some(node @ Node { kind: Kind::Directory, .. }) => {
                let entry = node.into_entry(path.clone());
                applier.directory_metadata(&entry)?;
            }
            Some(Node { kind: Kind::Symlink { .. }, .. }) => return Ok(false),
            _ => {}
        }
    }
    applier.set_directory_times()?;
    Ok(true)
}

/// A layer being applied.
struct Applier<'a> {
    root: Rc<OwnedFd>,
    owners: Owners,
    format: OverlayFormat,
    lower: Option<&'a dyn Tree>,
    /// The last parent: as entries name it, where it is, and its descriptor.
    parent: Option<(ImagePath, ImagePath, Rc<OwnedFd>)>,
    /// Times of directories. They change whenever something is made inside, so they are set last.
    times: BTreeMap<ImagePath, Timestamp>,
    implied: BTreeSet<ImagePath>,
    opaque: BTreeSet<ImagePath>,
    sidecar: Sidecar,
    needs_lower: bool,
    buffer: Vec<u8>,
}

impl<'a> Applier<'a> {
    fn new(target: &Target<'a>) -> Result<Self, LayerError> {
        let path = ImagePath::root();
        let root = beneath::open_root(target.directory).map_err(LayerError::file("open", &path))?;
        Ok(Self {
            root: Rc::new(root),
            owners: target.owners,
            format: target.format,
            lower: target.lower,
            parent: None,
            times: BTreeMap::new(),
            implied: BTreeSet::from([path]),
            opaque: BTreeSet::new(),
            sidecar: Sidecar::default(),
            needs_lower: false,
            buffer: vec![0; 128 << 10],
        })
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Content) -> Result<(), LayerError> {
        match &entry.kind {
            Kind::OpaqueWhiteout => self.opaque_whiteout(&entry.path),
            Kind::Directory if entry.path.is_root() => {
                self.implied.remove(&entry.path);
                self.directory_metadata(entry)
            }
            _ if entry.path.is_root() => Ok(()),
            Kind::Whiteout => self.whiteout(&entry.path),
            Kind::Hardlink { target } => self.hard_link(&entry.path, target),
            Kind::Directory => self.directory(entry),
            Kind::File { .. } => self.file(entry, content),
            _ => self.special(entry),
        }
    }

    fn finish(mut self, diff_id: DiffId) -> Result<Applied, LayerError> {
        if self.opaque.contains(&ImagePath::root()) {
            self.hide_lower_root()?;
        }
        self.set_directory_times()?;
        // What lies in an opaque directory has nothing to do with the layers below.
        let implied = self.implied.iter().filter(|path| !self.is_hidden(path)).cloned().collect();
        Ok(Applied { diff_id, implied, needs_lower: self.needs_lower, sidecar: self.sidecar })
    }

    /// Overlayfs cannot have an opaque root, so every name below is hidden by itself.
    fn hide_lower_root(&mut self) -> Result<(), LayerError> {
        let Some(lower) = self.lower else {
            self.needs_lower = true;
            return Ok(());
        };
        for name in lower.read_dir(&ImagePath::root())? {
            let path = ImagePath::root().join(name);
            self.whiteout(&path)?;
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), LayerError> {
        for (path, time) in std::mem::take(&mut self.times) {
            let times = make::times(time);
            beneath::open_directory(&self.root, path.relative())
                .and_then(|directory| Ok(rustix::fs::futimens(directory, &times)?))
                .map_err(LayerError::file("set the time of", &path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Cursor, os::unix::fs::MetadataExt as _};

    use tempfile::TempDir;

    use super::*;
    use crate::layer::testing::*;
    use crate::layer::{LayerDir, Stored};
    use crate::oci::Digest;

    /// Applies entries alone, as if nothing were below.
    fn apply_to(
        entries: &[(Entry, &'static str)],
        owners: Owners,
    ) -> (TempDir, Result<Applied, LayerError>) {
        let (bytes, diff_id) = archive(entries);
        apply_bytes(bytes, diff_id, owners)
    }

    fn apply_bytes(
        bytes: Vec<u8>,
        diff_id: DiffId,
        owners: Owners,
    ) -> (TempDir, Result<Applied, LayerError>) {
        let directory = tempfile::tempdir().expect("writable");
        let format = OverlayFormat::User;
        let target = Target { directory: directory.path(), owners, format, lower: None };
        let applied = apply(Cursor::new(bytes), &target, diff_id);
        (directory, applied)
    }

    fn look(directory: &TempDir, path: &str) -> Stored {
        let layer =
            LayerDir::open(directory.path(), owners(), OverlayFormat::User, Sidecar::default());
        layer.expect("readable").lookup(&ImagePath::new(path)).expect("readable")
    }

    #[test]
    fn links_among_the_parents_stay_inside() {
        let outside = tempfile::tempdir().expect("writable");
        let escape = outside.path().to_str().expect("text");
        for target in [escape, "../../../../../../../../../..", "/"] {
            let (directory, applied) = apply_to(
                &[symlink("/out", target), file("/out/evil", "x"), file("/out/a/b", "x")],
                owners(),
            );
            applied.expect("resolved inside");
            assert_eq!(fs::read_dir(outside.path()).expect("readable").count(), 0);
            let inside = directory.path().join(ImagePath::new(target).relative());
            assert_eq!(fs::read_to_string(inside.join("evil")).expect("inside"), "x");
        }
    }

    #[test]
    fn names_cannot_climb_out() {
        // Our own writer cleans names, so this archive comes from the tar crate.
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["../../evil", "/abs", "a/../../b"] {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(1);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            builder.append(&header, &b"x"[..]).expect("a Vec takes all");
        }
        let bytes = builder.into_inner().expect("a Vec takes all");
        let diff_id = DiffId(Digest::of(&bytes));
        let (directory, applied) = apply_bytes(bytes, diff_id, owners());
        applied.expect("clamped");
        let root = beneath::open_root(directory.path()).expect("readable");
        let names = beneath::read_names(root).expect("readable");
        assert_eq!(names, [&b"abs"[..], b"b", b"evil"]);
    }

    #[test]
    fn hard_links_outside_the_layer_are_refused_or_left_to_the_layers_below() {
        let (_, applied) = apply_to(&[hard_link("/x", "/../../etc/passwd")], owners());
        assert!(applied.expect("left open").needs_lower);
        let (_, applied) =
            apply_to(&[whiteout("/a"), hard_link("/x", "/a"), directory("/d")], owners());
        assert!(matches!(applied, Err(LayerError::NoLinkTarget { .. })));
        let (_, applied) = apply_to(&[directory("/d"), hard_link("/x", "/d")], owners());
        assert!(matches!(applied, Err(LayerError::NoLinkTarget { .. })));
        let (_, applied) = apply_to(&[hard_link("/x", "/")], owners());
        assert!(matches!(applied, Err(LayerError::NoLinkTarget { .. })));
    }

    #[test]
    fn links_in_a_circle_end() {
        let (_, applied) =
            apply_to(&[symlink("/a", "b"), symlink("/b", "a"), file("/a/x", "")], owners());
        let error = applied.expect_err("a circle");
        assert_eq!(error.to_string(), "cannot resolve `/a`");
    }

    #[test]
    fn attributes_that_steer_overlayfs_are_refused() {
        for name in ["user.overlay.opaque", "trusted.overlay.redirect", "user.coracle.stat"] {
            let mut hostile = directory("/d");
            hostile.0.xattrs.insert(name.into(), b"y".to_vec());
            let (_, applied) = apply_to(&[hostile], owners());
            assert!(matches!(applied, Err(LayerError::ReservedXattr { .. })), "{name}");
        }
    }

    #[test]
    fn a_device_that_would_be_a_whiteout_stays_a_device() {
        let device = entry("/w", Kind::CharDevice { major: 0, minor: 0 });
        let (directory, applied) = apply_to(&[(device.clone(), "")], owners());
        applied.expect("kept as a record");
        let Stored::Present { node, .. } = look(&directory, "/w") else { panic!("a node") };
        assert_eq!(node.kind, device.kind);
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let (directory, applied) = apply_to(
            &[
                file("/a", "1"),
                directory_with_file(),
                (directory("/d").0, ""),
                file("/d/in", "2"),
                file("/d", "file"),
                directory("/a"),
                symlink("/a", "d"),
                file("/a", "last"),
                hard_link("/h", "/a"),
                hard_link("/h", "/d"),
                hard_link("/d", "/d"),
            ],
            owners(),
        );
        applied.expect("valid");
        let read = |name| fs::read_to_string(directory.path().join(name)).expect("a file");
        assert_eq!([read("a"), read("d"), read("h")], ["last", "file", "file"]);
    }

    fn directory_with_file() -> (Entry, &'static str) {
        file("/d/first", "implies its parent")
    }

    #[test]
    fn a_directory_that_comes_back_shows_nothing_old() {
        let cases: [&[(Entry, &'static str)]; 3] = [
            &[whiteout("/d"), directory("/d")],
            &[directory("/d"), whiteout("/d")],
            &[whiteout("/d"), file("/d/x", "")],
        ];
        for entries in cases {
            let (directory, applied) = apply_to(entries, owners());
            assert!(!applied.expect("valid").implied.contains(&ImagePath::new("/d")));
            assert!(matches!(look(&directory, "/d"), Stored::Present { opaque: true, .. }));
        }
        let (directory, applied) = apply_to(&[file("/f", "x"), whiteout("/f")], owners());
        applied.expect("valid");
        assert!(matches!(look(&directory, "/f"), Stored::Present { .. }));
    }

    #[test]
    fn files_below_a_file_are_an_error() {
        let (_, applied) = apply_to(&[file("/f", "x"), file("/f/x", "y")], owners());
        assert_eq!(
            applied.expect_err("not a directory").to_string(),
            "cannot put something into `/f`"
        );
    }

    #[test]
    fn implied_directories_are_told() {
        let (_, applied) = apply_to(
            &[file("/a/b/c", ""), directory("/a"), opaque("/o"), file("/o/p/q", "")],
            owners(),
        );
        let implied: Vec<String> =
            applied.expect("valid").implied.iter().map(ToString::to_string).collect();
        assert_eq!(implied, ["/", "/a/b", "/o"]);
    }

    #[test]
    fn times_and_modes_are_exact_and_long_files_keep_their_holes() {
        if !is_root() {
            return;
        }
        let mut sparse = file("/sparse", "");
        let zeros: &'static str = Box::leak("\0".repeat(1 << 20).into_boxed_str());
        sparse.1 = zeros;
        sparse.0.kind = Kind::File { size: 1 << 20 };
        let mut timed = file("/d/f", "x");
        timed.0.mtime = Timestamp { seconds: -2, nanoseconds: 500_000_000 };
        timed.0.mode = 0o7777;
        let (at, applied) = apply_to(&[directory("/d"), timed, sparse], owners());
        applied.expect("valid");
        let look = |name: &str| fs::metadata(at.path().join(name)).expect("there");
        assert_eq!((look("d").mtime(), look("d").mtime_nsec()), (1_000_000_000, 0));
        assert_eq!((look("d/f").mtime(), look("d/f").mtime_nsec()), (-2, 500_000_000));
        assert_eq!(look("d/f").mode() & 0o7777, 0o7777);
        assert_eq!((look("sparse").size(), look("sparse").blocks()), (1 << 20, 0));
    }

    #[test]
    fn a_wrong_diff_id_is_an_error() {
        let (bytes, _) = archive(&[file("/f", "x")]);
        let (_, applied) = apply_bytes(bytes, DiffId(Digest::of("other")), owners());
        assert!(matches!(applied, Err(LayerError::WrongDiffId { .. })));
    }

    #[test]
    fn broken_archives_are_errors() {
        let (bytes, diff_id) = archive(&[file("/f", "x"), file("/g", "y")]);
        for length in [1, 12, bytes.len() / 2, bytes.len() - 1] {
            let (_, applied) = apply_bytes(bytes[..length].to_vec(), diff_id, owners());
            applied.expect_err("truncated");
        }
        let (_, applied) = apply_bytes(vec![b'x'; 2000], diff_id, owners());
        assert!(matches!(applied, Err(LayerError::Malformed { .. })));
        let mut huge = tar::Header::new_ustar();
        huge.set_entry_type(tar::EntryType::XHeader);
        huge.set_size(1 << 30);
        huge.set_cksum();
        let (_, applied) = apply_bytes(huge.as_bytes().to_vec(), diff_id, owners());
        let error = applied.expect_err("bounded").to_string();
        assert!(error.contains("more than 1 MiB"), "{error}");
    }

    #[test]
    fn what_one_user_cannot_do_is_recorded() {
        let owned = |(entry, content): (Entry, &'static str)| {
            (Entry { uid: 7, gid: 8, mode: 0o4511, ..entry }, content)
        };
        let (at, applied) = apply_to(
            &[
                owned(file("/f", "x")),
                file("/plain", ""),
                owned(directory("/d")),
                owned(symlink("/l", "f")),
                (entry("/null", Kind::CharDevice { major: 1, minor: 3 }), ""),
            ],
            Owners::Recorded,
        );
        let sidecar = applied.expect("valid").sidecar;
        let real = fs::metadata(at.path().join("f")).expect("there").mode() & 0o7777;
        assert_eq!(real, 0o711, "no setuid, and readable");
        let (owners, format) = (Owners::Recorded, OverlayFormat::User);
        let layer = LayerDir::open(at.path(), owners, format, sidecar).expect("readable");
        let check = |path: &str, uid, mode, kind: Option<Kind>| {
            let Ok(Stored::Present { node, .. }) = layer.lookup(&ImagePath::new(path)) else {
                panic!("{path} is there")
            };
            assert_eq!((node.uid, node.mode), (uid, mode), "{path}");
            assert!(kind.is_none_or(|kind| kind == node.kind), "{path}");
            assert!(node.xattrs.is_empty());
        };
        check("/f", 7, 0o4511, None);
        check("/plain", 0, 0o644, None);
        check("/d", 7, 0o4511, None);
        check("/l", 7, 0o777, None);
        check("/null", 0, 0o644, Some(Kind::CharDevice { major: 1, minor: 3 }));
    }
}
