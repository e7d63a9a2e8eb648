//! The store: blobs by digest, images by name, and the places for what is derived from them.
//!
//! A store is one directory, and a valid OCI image layout (`skopeo inspect oci:ROOT:NAME` reads
//! it), with directories of our own beside what the layout asks for:
//!
//! ```text
//! oci-layout           says that this is an image layout
//! index.json           which images there are, by name
//! blobs/sha256/<hex>   manifests, configs, layers
//! snapshots/           unpacked layers (`snapshot`)
//! cache/               what steps have made (`cache`)
//! indexes/<hex>-<hex>  what files a layer has, by blob and diff ID (`layer::LayerIndex`)
//! indexes/<hex>.contents  the same, by the digest of a table of contents that a layer names
//! origins/<hex>        which registries have a blob
//! downloads/<hex>      which blob a URL gave, and how to ask whether it is still the same (`fetch`)
//! git/<hex>            what has been fetched of a git repository (`fetch`)
//! mounts/<hex>/        directories of `RUN --mount=type=cache`
//! tmp/<owner>/         what is not finished yet
//! tmp/partial/         blobs that are being fetched, for whoever fetches them next
//! tmp/uploads/         where interrupted uploads go on
//! lock                 locked while index.json changes
//! users                locked, shared, by every process that has the store open
//! ```
//!
//! # What a kill leaves
//!
//! Everything becomes visible by `rename(2)` alone, when it is complete. A process killed at any
//! moment leaves the store whole and a directory in `tmp/` that the next [`Store::open`] removes.
//!
//! # What a power cut leaves
//!
//! `index.json` is written to the disk before it is renamed, so tags are never lost or cut off.
//! Blobs are not: each can be made or fetched again, and waiting for the disk after every layer
//! would slow every build for the sake of a rare event. A blob written just before a power cut may
//! be empty or short. So every use looks at its size first, whoever must know better verifies the
//! digest ([`Store::open_verified`], [`Store::read`]), and committing a blob replaces a bad one.
//!
//! # Who trusts whom
//!
//! Nothing enters under its digest unless the digest was computed here. The user who owns the
//! store may change its files; documents are therefore bounded and verified when they are read,
//! and layers when they leave the machine.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.

mod blob;
mod contents;
mod error;
mod file_system;
pub(crate) mod index;
mod journal;
mod mounts;
mod origin;
mod partial;
mod prune;
pub(crate) mod publish;
mod remove;
mod verify;
mod workspace;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use blob::BlobWriter;
pub use contents::{Contents, ContentsError};
pub use error::StoreError;
pub use file_system::FileSystem;
pub use index::REF_NAME;
pub use mounts::{HeldMount, Hold};
pub use partial::PartialBlob;
pub use prune::{Alone, Pruned};
pub use remove::remove_tree;
pub use verify::VerifiedReader;
pub use workspace::TempDir;

use publish::Durability;
use workspace::Workspace;

/// The content of the file `oci-layout`.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file has some thirty bytes.
const LAYOUT_LIMIT: u64 = 4096;

/// What every store has, made in this order.
const DIRECTORIES: [&str; 8] =
    ["tmp", "blobs", "blobs/sha256", "snapshots", "cache", "indexes", "origins", "mounts"];

/// What may stand in an empty directory that is to become a store.
const OUR_NAMES: [&str; 14] = [
    "oci-layout",
    "index.json",
    "blobs",
    "snapshots",
    "cache",
    "indexes",
    "origins",
    "downloads",
    "git",
    "mounts",
    "tmp",
    "lock",
    "users",
    // Every freshly made ext4 volume has it.
    "lost+found",
];

/// An open store. Cheap to clone; all clones are one user of the store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    workspace: Arc<Workspace>,
}

impl Store {
    /// Opens the store at `root`, makes it if it is missing (parents with mode 0700), and removes
    /// what killed processes have left in it.
    ///
    /// Waits while another process prunes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`] if the directory holds something else.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        publish::create_dirs(root, 0o700)?;
        // The snapshots' paths are given to mount(2), whoever's working directory that will be.
        let root = fs::canonicalize(root).map_err(|source| StoreError::io("open", root, source))?;
        check_content(&root)?;
        let in_use = publish::open_lock(&root.join("users"))?;
        in_use.lock_shared().map_err(|source| StoreError::io("lock", &root, source))?;
        let lock = lock(&root)?;
        for name in DIRECTORIES {
            publish::create_dir(&root.join(name), 0o755)?;
        }
        for name in ["downloads", "git"] {
            publish::create_dir(&root.join(name), 0o700)?;
        }
        let workspace = Workspace::create(&root.join("tmp"), in_use)?;
        write_layout(&root, &workspace)?;
        drop(lock);
        workspace.remove_orphans();
        Ok(Self { root, workspace: Arc::new(workspace) })
    }

    /// The directory, as an absolute path without symbolic links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where `snapshot` keeps unpacked layers.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where `cache` keeps its records.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Where the indexes of layers are kept. Each can be made again from its layer.
    pub fn indexes_dir(&self) -> PathBuf {
        self.root.join("indexes")
    }

    /// Where `fetch` keeps what it knows of downloads. [`Alone::prune`] empties it of what
    /// speaks of blobs that are gone.
    pub fn downloads_dir(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Where `fetch` keeps git repositories. [`Alone::prune`] empties it.
    pub fn git_dir(&self) -> PathBuf {
        self.root.join("git")
    }

    /// A directory for work in progress, on the same file system as the rest.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn temp_dir(&self) -> Result<TempDir, StoreError> {
        TempDir::create(&self.workspace)
    }

    /// Publishes a small file somewhere in the store, atomically, readable for its owner alone.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written; then `path` is as it was.
    pub fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.workspace.path("file");
        publish::replace(path, &temporary, bytes, 0o600, Durability::Replaceable)
    }
}

/// Waits for the lock that guards `index.json` and `tmp/`. It ends with the file.
pub(crate) fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = publish::open_lock(&path)?;
    file.lock().map_err(|source| StoreError::io("lock", &path, source))?;
    Ok(file)
}

/// Refuses a directory that is something else, before anything is written to it.
fn check_content(root: &Path) -> Result<(), StoreError> {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }

    let foreign = |reason: String| StoreError::NotAStore { path: root.to_owned(), reason };
    let mut bytes = Vec::new();
    let file = File::open(root.join("oci-layout"));
    match file.and_then(|file| file.take(LAYOUT_LIMIT).read_to_end(&mut bytes)) {
        Ok(_) => match serde_json::from_slice::<Layout>(&bytes) {
            Ok(layout) if layout.image_layout_version == "1.0.0" => Ok(()),
            Ok(layout) => Err(foreign(format!(
                "it is an image layout of version {}, not 1.0.0",
                layout.image_layout_version
            ))),
            Err(_) => Err(foreign("its file oci-layout is damaged".to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let entries =
                fs::read_dir(root).map_err(|source| StoreError::io("list", root, source))?;
            let mut names = entries.flatten().map(|entry| entry.file_name());
            match names.find(|name| !OUR_NAMES.iter().any(|ours| name == ours)) {
                None => Ok(()),
                Some(name) => Err(foreign(format!("it has `{}` in it", name.display()))),
            }
        }
        Err(source) => Err(StoreError::io("read", root.join("oci-layout"), source)),
    }
}

/// Writes `oci-layout` and an empty `index.json` where they are missing.
fn write_layout(root: &Path, workspace: &Workspace) -> Result<(), StoreError> {
    let index = root.join("index.json");
    if !index.exists() {
        index::write(&index, &workspace.path("index"), index::empty())?;
    }
    let layout = root.join("oci-layout");
    if layout.exists() {
        return Ok(());
    }
    let temporary = workspace.path("layout");
    publish::replace(&layout, &temporary, LAYOUT.as_bytes(), 0o644, Durability::Precious)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::fs::PermissionsExt,
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::oci::{Digest, MediaType, Reference};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
    }

    fn owners(root: &Path) -> usize {
        fs::read_dir(root.join("tmp")).expect("tmp/ exists").count()
    }

    #[test]
    fn a_new_store_is_a_private_oci_layout() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("a/b");
        let store = Store::open(&root).expect("a new store");
        let layout = fs::read_to_string(root.join("oci-layout")).expect("the layout file");
        assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
        assert_eq!(mode(&directory.path().join("a")), 0o700);
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("index.json")), 0o644);
        assert_eq!(store.images().expect("a new store has a list"), []);
        drop(store);
        Store::open(&root).expect("the same store again");
        assert_eq!(owners(&root), 0);
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("thesis.tex"), "x").expect("writable");
        let error = Store::open(directory.path()).expect_err("not a store");
        assert!(matches!(error, StoreError::NotAStore { .. }));
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_layout_of_another_version_is_left_alone() {
        for text in [r#"{"imageLayoutVersion":"2.0.0"}"#, "", "{}"] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            fs::write(directory.path().join("oci-layout"), text).expect("writable");
            let error = Store::open(directory.path()).expect_err("not our layout");
            assert!(matches!(error, StoreError::NotAStore { .. }), "{text}");
        }
    }

    #[test]
    fn a_volume_with_lost_and_found_can_become_a_store() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("lost+found")).expect("writable");
        Store::open(directory.path()).expect("as good as empty");
    }

    #[test]
    fn a_temporary_directory_goes_with_everything_in_it_unless_it_was_renamed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let temporary = store.temp_dir().expect("a directory");
        let path = temporary.path().to_owned();
        fs::create_dir(path.join("x")).expect("writable");
        fs::set_permissions(path.join("x"), PermissionsExt::from_mode(0o0)).expect("our own");
        drop(temporary);
        assert!(!path.exists());

        let temporary = store.temp_dir().expect("a directory");
        fs::rename(temporary.path(), store.snapshots_dir().join("y")).expect("one file system");
        drop(temporary);
        assert!(store.snapshots_dir().join("y").exists());
    }

    #[test]
    fn directories_of_others_in_tmp_are_never_removed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        drop(Store::open(root.path()).expect("a new store"));
        fs::create_dir(root.path().join("tmp/mine")).expect("writable");
        drop(Store::open(root.path()).expect("the same store"));
        assert!(root.path().join("tmp/mine").exists());
    }

    /// Starts this very test program as another process, to do what `another_process` is told.
    fn start(root: &Path, action: &str) -> Child {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "store::tests::another_process", "--nocapture"])
            .env("CORACLE_TEST_ROOT", root)
            .env("CORACLE_TEST_ACTION", action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started")
    }

    fn wait_for(child: &mut Child, line: &str) {
        let output = child.stdout.take().expect("its output is a pipe");
        let mut lines = BufReader::new(output).lines();
        assert!(lines.any(|text| text.is_ok_and(|text| text.contains(line))), "{line}");
    }

    fn say(line: &str) {
        writeln!(io::stdout(), "{line}").expect("the parent listens");
    }

    #[test]
    fn another_process() {
        let Some(root) = std::env::var_os("CORACLE_TEST_ROOT") else { return };
        let store = Store::open(Path::new(&root)).expect("the parent's store");
        match std::env::var("CORACLE_TEST_ACTION").expect("the parent says it").as_str() {
            "work" => {
                let mut writer = store.writer().expect("a writer");
                writer.write_all(b"half a blob").expect("space");
                let temporary = store.temp_dir().expect("a directory");
                let dark = temporary.path().join("work/work");
                fs::create_dir_all(&dark).expect("writable");
                fs::set_permissions(&dark, PermissionsExt::from_mode(0o0)).expect("our own");
                say("at work");
                let mut line = String::new();
                io::stdin().read_line(&mut line).expect("the parent lives");
            }
            "churn" => {
                for number in 0_u64.. {
                    let layer = vec![u8::try_from(number % 251).expect("small"); 100_000];
                    let image = store.put(&layer, MediaType::OciManifest).expect("space");
                    let reference = format!("churn:{}", number % 7).parse().expect("valid");
                    store.tag(&reference, &image).expect("tagged");
                    store.record_origin(&image.digest, &reference).expect("space");
                    say("round");
                }
            }
            name => {
                let image = store.put(name.as_bytes(), MediaType::OciManifest).expect("space");
                for number in 0..25 {
                    let reference: Reference =
                        format!("{name}:{number}").parse().expect("a reference");
                    store.tag(&reference, &image).expect("tagged");
                }
            }
        }
    }

    #[test]
    fn two_processes_and_two_threads_that_tag_at_once_lose_no_tag() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(root.path()).expect("a new store");
        let children = [start(root.path(), "a"), start(root.path(), "b")];
        let image = store.put(b"c", MediaType::OciManifest).expect("space");
        std::thread::scope(|scope| {
            for name in ["c", "d"] {
                let (store, image) = (&store, &image);
                scope.spawn(move || {
                    for number in 0..25 {
                        let reference = format!("{name}:{number}").parse().expect("a reference");
                        store.tag(&reference, image).expect("tagged");
                    }
                });
            }
        });
        for child in children {
            assert!(child.wait_with_output().expect("it ends").status.success());
        }
        assert_eq!(store.images().expect("a list").len(), 100);
    }

    #[test]
    fn a_running_process_keeps_its_files_and_a_killed_one_leaves_none() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let mut child = start(root.path(), "work");
        wait_for(&mut child, "at work");
        let mut store = Store::open(root.path()).expect("the same store");
        assert_eq!(owners(root.path()), 2);
        assert!(matches!(store.alone(), Err(StoreError::InUse(_))));

        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        let second = Store::open(root.path()).expect("the same store");
        assert_eq!(owners(root.path()), 2, "the two open stores of this process");
        drop(second);
        assert_eq!(
            store.alone().and_then(|alone| alone.prune()).expect("nobody else"),
            Pruned::default()
        );
        drop(store);
        assert_eq!(owners(root.path()), 0);
        let blobs = fs::read_dir(root.path().join("blobs/sha256")).expect("readable");
        assert_eq!(blobs.count(), 0);
    }

    #[test]
    fn a_kill_at_any_moment_leaves_the_store_whole() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for rounds in 1..5 {
            let mut child = start(root.path(), "churn");
            let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
            let lines = output.lines().map_while(Result::ok);
            assert_eq!(lines.filter(|line| line.contains("round")).take(rounds).count(), rounds);
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");

            let store = Store::open(root.path()).expect("the same store");
            assert_eq!(owners(root.path()), 1);
            for (_, image) in store.images().expect("a list") {
                store.read(&image, image.size).expect("whole");
            }
            for entry in fs::read_dir(root.path().join("blobs/sha256")).expect("readable") {
                let path = entry.expect("readable").path();
                let digest = Digest::of(fs::read(&path).expect("readable"));
                assert!(path.ends_with(digest.hex()), "a blob that is not whole");
            }
        }
    }

    #[test]
    fn a_full_disk_is_an_error_of_its_own() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return; // Only root can make a file system that is soon full.
        }
        let store = Store::open(directory.path()).expect("room for a store");
        let error = store.put(&vec![7; 1 << 20], MediaType::OciConfig).expect_err("too much");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(error.hint().is_some());
        store.put(b"small", MediaType::OciConfig).expect("the failed blob is gone");
        drop(store);
        let status = Command::new("umount").arg(directory.path()).status();
        assert!(status.expect("umount exists").success());
    }
}
