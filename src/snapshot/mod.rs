//! Snapshots: root file systems, each the stack of layers that its chain ID names.
//!
//! A [`Snapshotter`] unpacks layers, each into a directory of its own, and gives out [`Committed`]
//! stacks. On top of one it prepares an [`Active`], which a step may change, and whose changes
//! become the next layer. A [`View`] reads a stack without a mount. In what shape a step gets its root
//! file system, in layers or in one directory, is the snapshotter's [`Style`].
//!
//! ```text
//! <root>/<owners>-<format>/<chain ID>/fs        the top layer of that chain, in overlayfs's format
//!                                     records   owners of its links and pipes, if it needs them
//! ```
//!
//! A snapshot is made in a temporary directory and published by one rename: it is there whole or
//! not at all, and where two processes make the same one, the first wins.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid>.

mod active;
mod error;
mod prune;
mod unpack;
mod view;
mod whole;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::layer::{LayerDir, OverlayFormat, Owners, Sidecar, Target, apply};
use crate::oci::{ChainId, DiffId, ImagePath, Layer};
use crate::sandbox::Style;
use crate::sys::beneath;

pub use active::Active;
pub use error::SnapshotError;
pub use prune::prune;
pub use view::View;

/// Where the blob of a layer comes from.
pub(crate) type OpenLayer<'a> = &'a (dyn Fn(&Layer) -> io::Result<Box<dyn io::Read + Send>> + Sync);

/// Makes and keeps snapshots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshotter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Holds the published snapshots of this kind.
    root: PathBuf,
    /// Holds what is being made, on the same file system.
    temporary: PathBuf,
    owners: Owners,
    format: OverlayFormat,
    style: Style,
    /// Trees of steps that are done.
    warm: Mutex<whole::Warm>,
    /// Numbers the directories in `temporary`.
    count: AtomicU64,
    /// Held while layers are unpacked, so that two builds do not unpack the same ones.
    unpacking: Mutex<()>,
}

/// A finished stack of layers. Nothing changes it any more. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    chain: Option<ChainId>,
    /// Bottom first.
    paths: Vec<PathBuf>,
    layers: Vec<Arc<LayerDir>>,
}

impl Snapshotter {
    /// A snapshotter that keeps snapshots below `root`.
    ///
    /// `temporary` is an existing directory on the same file system that nobody else uses. Whoever
    /// made it removes it in the end; only then is what was thrown away really deleted, because
    /// ext4 is slow to make files where many were just deleted.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`] if the directory cannot be made.
    pub fn new(
        root: &Path,
        temporary: PathBuf,
        owners: Owners,
        format: OverlayFormat,
        style: Style,
    ) -> Result<Self, SnapshotError> {
        // What one kind of sandbox has unpacked, another cannot mount.
        let kind = match (owners, format) {
            (Owners::Real, OverlayFormat::User) => "real-user",
            (Owners::Real, OverlayFormat::Trusted) => "real-trusted",
            (Owners::Recorded, OverlayFormat::User) => "recorded-user",
            (Owners::Recorded, OverlayFormat::Trusted) => "recorded-trusted",
        };
        let root = root.join(kind);
        // Setuid programs lie in there: no other user may reach them.
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&root);
        made.map_err(SnapshotError::io("create", &root))?;
        let (count, unpacking) = (AtomicU64::new(0), Mutex::new(()));
        let warm = Mutex::default();
        Ok(Self(Arc::new(Inner { root, temporary, owners, format, style, warm, count, unpacking })))
    }

    /// The stack of `layers`, bottom first. Those that are missing are unpacked, several at a time.
    ///
    /// `open` gives the compressed blob of a layer, and is asked for missing ones alone.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; of the layers that were missing, any number may still be.
    pub fn ensure(
        &self,
        layers: &[Layer],
        open: OpenLayer<'_>,
    ) -> Result<Committed, SnapshotError> {
        let guard = self.0.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = unpack::ensure(self, layers, open);
        drop(guard);
        stack
    }

    /// Unpacks a layer that needs no other below it into the empty directory `into`, which is not
    /// a snapshot afterwards but the caller's own.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Unpack`] if the layer is not the one that `diff_id` names, or cannot be
    /// unpacked there.
    pub fn unpack_alone(
        &self,
        layer: impl io::Read + Send + 'static,
        diff_id: DiffId,
        into: &Path,
    ) -> Result<(), SnapshotError> {
        let (owners, format) = (self.0.owners, self.0.format);
        let target = Target { directory: into, owners, format, lower: None };
        match apply(layer, &target, diff_id) {
            Ok(_) => Ok(()),
            Err(source) => Err(SnapshotError::Unpack { layer: diff_id.0, source }),
        }
    }

    /// Whether the top layer of `chain` is unpacked already.
    pub fn contains(&self, chain: ChainId) -> bool {
        self.path(chain).join("fs").is_dir()
    }

    /// A new layer on top of `parent`, for a step to change.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`], [`SnapshotError::Prepare`].
    pub fn prepare(&self, parent: &Committed) -> Result<Active, SnapshotError> {
        Active::new(self.clone(), parent.clone())
    }

    /// In what shape steps get their root file systems.
    pub fn style(&self) -> Style {
        self.0.style
    }

    /// Copies the directory or file at `path` of `files`, which is no link, to `to`, where nothing is.
    /// The copy is the caller's own.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Merge`], [`SnapshotError::Tree`], [`SnapshotError::Io`].
    pub fn copy_part(
        &self,
        files: &Committed,
        path: &ImagePath,
        to: &Path,
    ) -> Result<(), SnapshotError> {
        whole::copy_part(&files.view(), path, to, self.0.owners)
    }

    /// Copies a directory or file of this machine to `to`, where nothing is.
    ///
    /// # Errors
    ///
    /// As for [`copy_part`](Self::copy_part).
    pub fn copy_of(&self, path: &Path, to: &Path) -> Result<(), SnapshotError> {
        let (around, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
        let (owners, format) = (self.0.owners, self.0.format);
        let layer = LayerDir::open(around, owners, format, Sidecar::default());
        let layer = layer.map_err(SnapshotError::io("open", around))?;
        let view = View::new(vec![Arc::new(layer)]);
        whole::copy_part(&view, &ImagePath::new(name.as_encoded_bytes()), to, owners)
    }

    /// Trees that a next step may take over.
    fn warm(&self) -> MutexGuard<'_, whole::Warm> {
        self.0.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the snapshot of `chain` is, or will be.
    fn path(&self, chain: ChainId) -> PathBuf {
        self.0.root.join(chain.hex())
    }

    /// A new, empty directory that a rename can publish.
    fn temporary(&self, purpose: &str) -> Result<PathBuf, SnapshotError> {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        let path = self.0.temporary.join(format!("{purpose}-{number}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(SnapshotError::io("create", &path))?;
        Ok(path)
    }

    /// Moves a finished directory to its place. If somebody was faster, ours is as good.
    fn publish(&self, finished: &Path, chain: ChainId) -> Result<(), SnapshotError> {
        match fs::rename(finished, self.path(chain)) {
            Err(_) if self.contains(chain) => Ok(()),
            result => result.map_err(SnapshotError::io("publish", finished)),
        }
    }

    /// Puts the published layer `diff_id` on top of `stack`.
    fn stack(&self, stack: &Committed, diff_id: DiffId) -> Result<Committed, SnapshotError> {
        let chain = above(stack.chain, diff_id);
        let (path, records) = (self.path(chain).join("fs"), self.path(chain).join("records"));
        let sidecar = match fs::read(&records) {
            Ok(bytes) => Sidecar::decode(&bytes).ok_or(SnapshotError::Damaged(records))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Sidecar::default(),
            Err(error) => return Err(SnapshotError::io("read", &records)(error)),
        };
        let layer = LayerDir::open(&path, self.0.owners, self.0.format, sidecar);
        let layer = layer.map_err(SnapshotError::io("open", &path))?;
        let mut stack = stack.clone();
        stack.chain = Some(chain);
        stack.paths.push(path);
        stack.layers.push(Arc::new(layer));
        Ok(stack)
    }
}

impl Committed {
    /// The stack without layers: what `FROM scratch` begins with.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// The stack's name; `None` without layers.
    pub fn chain(&self) -> Option<ChainId> {
        self.chain
    }

    /// The layers' directories, bottom first.
    pub fn lower(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Its files.
    pub fn view(&self) -> View {
        View::new(self.layers.clone())
    }
}

/// The chain with one more layer on top.
fn above(chain: Option<ChainId>, layer: DiffId) -> ChainId {
    chain.map_or_else(|| ChainId::base(layer), |chain| chain.with(layer))
}

/// Removes a directory of ours, whatever modes are in it. What cannot be removed stays until the
/// directory around it goes.
fn discard(path: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(parent) = beneath::open_root(parent)
    {
        drop(beneath::remove_tree(parent, name.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    mod contract;

    use std::{
        io::Cursor,
        process::{Command, Stdio},
        sync::atomic::AtomicUsize,
    };

    use super::*;
    use crate::layer::testing::*;
    use crate::layer::{Entry, Kind, LayerError, LayerWriter, Tree};
    use crate::oci::{Compression, Descriptor, Digest, MediaType, Timestamp};
    use crate::sandbox::{OverlayDirs, RootFs};

    type Entries = Vec<(Entry, &'static str)>;

    /// A snapshotter with directories of its own, and blobs.
    struct Bench {
        directory: tempfile::TempDir,
        snapshotter: Snapshotter,
        blobs: Vec<(Layer, Vec<u8>)>,
        opened: AtomicUsize,
    }

    impl Bench {
        fn new(owners: Owners, format: OverlayFormat) -> Self {
            Self::styled(owners, format, Style::Overlay)
        }

        fn styled(owners: Owners, format: OverlayFormat, style: Style) -> Self {
            let directory = tempfile::tempdir().expect("writable");
            let temporary = directory.path().join("tmp");
            fs::create_dir(&temporary).expect("writable");
            let root = directory.path().join("snapshots");
            let snapshotter = Snapshotter::new(&root, temporary, owners, format, style);
            let snapshotter = snapshotter.expect("writable");
            Self { directory, snapshotter, blobs: Vec::new(), opened: AtomicUsize::new(0) }
        }

        fn with_layers(owners: Owners, format: OverlayFormat, layers: &[Entries]) -> Self {
            let mut bench = Self::new(owners, format);
            for entries in layers {
                let (bytes, diff_id) = archive(entries);
                bench.add(bytes, diff_id);
            }
            bench
        }

        fn add(&mut self, bytes: Vec<u8>, diff_id: DiffId) {
            let media_type = MediaType::OciLayer(Compression::Gzip);
            let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
            self.blobs.push((Layer { descriptor, diff_id }, bytes));
        }

        fn ensure(&self) -> Result<Committed, SnapshotError> {
            let layers: Vec<Layer> = self.blobs.iter().map(|(layer, _)| layer.clone()).collect();
            self.snapshotter.ensure(&layers, &|layer| {
                self.opened.fetch_add(1, Ordering::Relaxed);
                let blob = self.blobs.iter().find(|(other, _)| other == layer);
                Ok(Box::new(Cursor::new(blob.expect("it was added").1.clone())))
            })
        }

        /// How many directories of unfinished steps there are.
        fn left_over(&self) -> usize {
            let entries = fs::read_dir(self.directory.path().join("tmp")).expect("readable");
            let names = entries.map(|entry| entry.expect("readable").file_name());
            names.filter(|name| name.to_string_lossy().starts_with("active")).count()
        }
    }

    /// Runs a shell script in the root, mounted if need be, and gives its output.
    fn run(root: &RootFs, script: &str) -> String {
        let mut command = match root {
            RootFs::Directory(tree) => {
                let mut command = Command::new("sh");
                command.args(["-euc", script]).current_dir(&tree.directory);
                command
            }
            RootFs::Overlay(dirs) => on_overlay(dirs, script),
        };
        let output = command.stdin(Stdio::null()).output().expect("unshare is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn on_overlay(root: &OverlayDirs, script: &str) -> Command {
        let lower: Vec<&str> =
            root.lower.iter().rev().map(|path| path.to_str().expect("text")).collect();
        // The kernel refuses `redirect_dir=off` with `userxattr`, which implies it.
        let is_user = lower.iter().any(|path| path.contains("-user/"));
        let options = if is_user { "userxattr" } else { "redirect_dir=off,metacopy=off" };
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-euc"]).arg(format!(
            "m=$(mktemp -d); trap 'cd /; umount $m; rmdir $m' EXIT
            mount -t overlay overlay -o index=off,{} \
            -o lowerdir={},upperdir={},workdir={} $m; cd $m; {script}",
            options,
            lower.join(":"),
            root.upper.display(),
            root.work.display(),
        ));
        command
    }

    /// What a mount shows, in the format of `list`.
    const LIST: &str = r#"find . | sed 's,^\.,,' | LC_ALL=C sort | while IFS= read -r f; do
        p=".$f"; k=$(stat -c %A "$p" | cut -c1); o=$(stat -c '%a %u:%g' "$p"); m=
        case $k in l) m=$(readlink "$p");; -) m=$(cat "$p");;
        [bc]) m=$(stat -c '%Hr.%Lr' "$p");; esac
        echo "$k$o ${f:-/} $m" | sed 's, *$,,'; done"#;

    fn sorted(text: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable_by_key(|line| line.splitn(3, ' ').nth(2));
        lines
    }

    fn three_layers() -> [Entries; 3] {
        let owned = |(entry, content): (Entry, &'static str), uid| {
            (Entry { uid, gid: uid + 1, mode: 0o2750, ..entry }, content)
        };
        [
            vec![
                directory("/etc"),
                file("/etc/a", "a"),
                file("/etc/b", "b"),
                owned(directory("/srv"), 5),
                file("/srv/old", "old"),
                owned(file("/srv/owned", "x"), 7),
                directory("/usr"),
                directory("/usr/lib"),
                symlink("/lib", "usr/lib"),
                file("/file-or-dir", "file"),
                directory("/dir-or-link"),
                file("/dir-or-link/x", ""),
                (entry("/null", Kind::CharDevice { major: 1, minor: 3 }), ""),
                (entry("/pipe", Kind::Fifo), ""),
            ],
            vec![
                whiteout("/etc/a"),
                file("/etc/c", "c"),
                opaque("/srv"),
                file("/srv/new", "new"),
                // Its parent is a link in the layer below.
                file("/lib/libc.so", "elf"),
                hard_link("/etc/b2", "/etc/b"),
                directory("/file-or-dir"),
                file("/file-or-dir/in", "in"),
                symlink("/dir-or-link", "etc"),
            ],
            vec![file("/srv/newer", "newer"), whiteout("/null"), file("/etc/a", "again")],
        ]
    }

    const MERGED: &str = "\
        d755 0:0 /\n\
        l777 0:0 /dir-or-link etc\n\
        d755 0:0 /etc\n\
        -644 0:0 /etc/a again\n\
        -644 0:0 /etc/b b\n\
        -644 0:0 /etc/b2 b\n\
        -644 0:0 /etc/c c\n\
        d755 0:0 /file-or-dir\n\
        -644 0:0 /file-or-dir/in in\n\
        l777 0:0 /lib usr/lib\n\
        p644 0:0 /pipe\n\
        d2750 5:6 /srv\n\
        -644 0:0 /srv/new new\n\
        -644 0:0 /srv/newer newer\n\
        d755 0:0 /usr\n\
        d755 0:0 /usr/lib\n\
        -644 0:0 /usr/lib/libc.so elf\n";

    #[test]
    fn a_view_shows_what_an_overlay_shows() {
        if is_root() {
            view_and_overlay(OverlayFormat::User);
            view_and_overlay(OverlayFormat::Trusted);
        }
    }

    fn view_and_overlay(format: OverlayFormat) {
        let bench = Bench::with_layers(Owners::Real, format, &three_layers());
        let stack = bench.ensure().expect("valid layers");
        assert_eq!(list(&stack.view()), MERGED);
        let active = bench.snapshotter.prepare(&stack).expect("writable");
        assert_eq!(sorted(&run(&active.root(), LIST)), sorted(MERGED));
        let etc = stack.view().lookup(&ImagePath::new("/etc/b2")).expect("readable");
        assert!(etc.expect("there").inode.is_some(), "a hard link across layers stays one");
    }

    #[test]
    fn one_user_sees_the_same_view() {
        let bench = Bench::with_layers(Owners::Recorded, OverlayFormat::User, &three_layers());
        assert_eq!(list(&bench.ensure().expect("valid layers").view()), MERGED);
        // The records beside the layers are read again.
        assert_eq!(list(&bench.ensure().expect("valid layers").view()), MERGED);
    }

    #[test]
    fn each_layer_is_unpacked_once() {
        let bench = Bench::with_layers(Owners::Recorded, OverlayFormat::User, &three_layers()[..1]);
        let stack = bench.ensure().expect("valid layers");
        assert!(bench.snapshotter.contains(stack.chain().expect("a layer")));
        bench.ensure().expect("valid layers");
        assert_eq!(bench.opened.load(Ordering::Relaxed), 1);
        assert!(stack.lower()[0].starts_with(bench.directory.path().join("snapshots")));
    }

    #[test]
    fn nothing_of_a_wrong_layer_is_kept() {
        let mut bench = Bench::with_layers(Owners::Recorded, OverlayFormat::User, &three_layers());
        bench.blobs[1].0.diff_id = DiffId(Digest::of("other"));
        let error = bench.ensure().expect_err("a wrong diff ID");
        let SnapshotError::Unpack { source, .. } = error else { panic!("{error}") };
        assert!(matches!(source, LayerError::WrongDiffId { .. }));
        let published = bench.directory.path().join("snapshots/recorded-user");
        assert_eq!(fs::read_dir(published).expect("readable").count(), 0);
    }

    /// Lists a layer's archive: name, and for links where to.
    fn names(bytes: &[u8]) -> Vec<String> {
        let mut reader =
            crate::layer::LayerReader::new(bytes, crate::layer::Names::Plain).expect("valid");
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().expect("valid") {
            names.push(match entry.kind {
                Kind::Hardlink { target } => format!("{} = {target}", entry.path),
                _ => entry.path.to_string(),
            });
        }
        names
    }

    const CHANGES: &str =
        "rm etc/a; rm -r srv; mkdir srv; echo 1 > srv/1; ln srv/1 srv/2; chmod u+s srv/1
            touch etc/new; rm etc/new; mkdir -p brand/new; ln -s x brand/link
            cat etc/c > etc/c2; ln etc/b brand/b; ln brand/link brand/link2
            rm lib; mkdir lib; mkfifo lib/pipe; mknod lib/null c 1 3; chown 3:4 -h dir-or-link
            python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"pipe2\")'
            chmod 0711 usr/lib/libc.so; setfattr -n user.x -v y etc/c2 || true
            printf '' > \"$(printf 'n\\377')\"; mkdir usr/empty; rmdir usr/empty";

    #[test]
    fn the_changes_of_a_step_become_a_layer_that_unpacks_to_the_same() {
        if is_root() {
            changes_survive(OverlayFormat::User);
            changes_survive(OverlayFormat::Trusted);
        }
    }

    fn changes_survive(format: OverlayFormat) {
        let mut bench = Bench::with_layers(Owners::Real, format, &three_layers());
        let stack = bench.ensure().expect("valid layers");
        let active = bench.snapshotter.prepare(&stack).expect("writable");
        run(&active.root(), CHANGES);
        let written = |threads| {
            let (sink, gzip) = (Vec::new(), Compression::Gzip);
            let mut writer = LayerWriter::with_threads(sink, gzip, None, threads);
            let summary = active.diff(&mut writer).expect("readable");
            let written = writer.finish().expect("a Vec takes all");
            assert_eq!(written.entries, summary.entries);
            written
        };
        let one = written(1);
        assert!(one.sink == written(4).sink, "the number of threads does not matter");
        let expected = [
            "/brand",
            "/brand/b",
            "/brand/link",
            "/brand/link2 = /brand/link",
            "/brand/new",
            "/dir-or-link",
            "/etc",
            "/etc/.wh.a",
            "/etc/c2",
            "/lib",
            "/lib/null",
            "/lib/pipe",
            "/n\u{fffd}",
            "/srv",
            "/srv/.wh..wh..opq",
            "/srv/1",
            "/srv/2 = /srv/1",
            "/usr",
            "/usr/lib",
            "/usr/lib/libc.so",
        ];
        assert_eq!(names(&one.sink), expected);
        let committed = active.commit(one.diff_id).expect("published");
        // The socket stays as long as this snapshot does, but is in no layer.
        let listing = list(&committed.view()).replace("?755 0:0 /pipe2 Socket\n", "");
        assert!(listing.contains("-4644 0:0 /srv/1 1"), "{listing}");
        // Somebody else who pulls the layer gets the same root file system.
        let mut other = Bench::new(Owners::Real, format);
        other.blobs = std::mem::take(&mut bench.blobs);
        other.add(one.sink, one.diff_id);
        let pulled = other.ensure().expect("valid layers");
        assert_eq!(list(&pulled.view()), listing);
        assert_eq!(pulled.chain(), committed.chain());
        let again = other.snapshotter.prepare(&pulled).expect("writable");
        assert_eq!(sorted(&run(&again.root(), LIST)), sorted(&listing));
    }

    #[test]
    fn a_step_that_only_touches_leaves_no_layer() {
        if !is_root() {
            return;
        }
        let bench = Bench::with_layers(Owners::Real, OverlayFormat::Trusted, &three_layers());
        let stack = bench.ensure().expect("valid layers");
        let active = bench.snapshotter.prepare(&stack).expect("writable");
        run(&active.root(), "(exec 3>>etc/b 4>>etc/c); touch usr/x; rm usr/x; ln etc/c y; rm y");
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, None);
        active.diff(&mut writer).expect("readable");
        let names = names(&writer.finish().expect("a Vec takes all").sink);
        assert_eq!(names, Vec::<String>::new());
        drop(active);
        assert_eq!(bench.left_over(), 0, "what is dropped is removed, modes or no modes");
    }

    #[test]
    fn changes_that_time_and_size_do_not_show_are_found() {
        if !is_root() {
            return;
        }
        let bench = Bench::with_layers(Owners::Real, OverlayFormat::Trusted, &three_layers());
        let stack = bench.ensure().expect("valid layers");
        let active = bench.snapshotter.prepare(&stack).expect("writable");
        run(&active.root(), "touch -r etc/c t; printf C > etc/c; touch -r t etc/c; rm t");
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, None);
        active.diff(&mut writer).expect("readable");
        let names = names(&writer.finish().expect("a Vec takes all").sink);
        assert_eq!(names, ["/etc", "/etc/c"]);
    }

    #[test]
    fn an_opaque_root_hides_everything_below() {
        let layers = [
            vec![file("/a", ""), file("/b/c", "")],
            vec![file("/b/new", ""), opaque("/"), file("/d", "")],
        ];
        let bench = Bench::with_layers(Owners::Recorded, OverlayFormat::User, &layers);
        let view = bench.ensure().expect("valid layers").view();
        let expected = "d755 0:0 /\nd755 0:0 /b\n-644 0:0 /b/new\n-644 0:0 /d\n";
        assert_eq!(list(&view), expected);
    }

    #[test]
    fn implied_directories_are_what_they_are_below() {
        let mut below = directory("/d");
        (below.0.mode, below.0.uid) = (0o1711, 9);
        let bench = Bench::with_layers(
            Owners::Recorded,
            OverlayFormat::User,
            &[vec![below], vec![file("/d/f", "")]],
        );
        let stack = bench.ensure().expect("valid layers");
        let node = stack.view().lookup(&ImagePath::new("/d")).expect("readable").expect("there");
        assert_eq!((node.mode, node.uid, node.mtime.seconds), (0o1711, 9, 1_000_000_000));
    }

    #[test]
    fn scratch_is_an_empty_root() {
        let bench = Bench::new(Owners::Recorded, OverlayFormat::User);
        let stack = bench.ensure().expect("nothing to do");
        assert_eq!(stack.chain(), None);
        assert_eq!(list(&stack.view()), "d755 0:0 /\n");
        let active = bench.snapshotter.prepare(&stack).expect("writable");
        fs::write(active.upper().join("f"), "x").expect("writable");
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, None);
        assert_eq!(active.diff(&mut writer).expect("readable").entries, 1);
        let diff_id = writer.finish().expect("a Vec takes all").diff_id;
        let stack = active.commit(diff_id).expect("published");
        assert_eq!(stack.chain(), Some(ChainId::base(diff_id)));
        assert_eq!(list(&stack.view()), "d755 0:0 /\n-644 0:0 /f x\n");
    }

    #[test]
    fn two_that_make_the_same_snapshot_both_get_it() {
        let bench = Bench::new(Owners::Recorded, OverlayFormat::User);
        let diff_id = DiffId(Digest::of("whatever the writer said"));
        let make = || {
            let active = bench.snapshotter.prepare(&Committed::scratch()).expect("writable");
            fs::write(active.upper().join("f"), "x").expect("writable");
            active
        };
        let (first, second) = (make(), make());
        let first = first.commit(diff_id).expect("published");
        let second = second.commit(diff_id).expect("the first one's");
        assert_eq!(first.lower(), second.lower());
        assert_eq!(bench.left_over(), 0);
    }
}
