//! Tests of [`BuildContext`] over real directories.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use super::*;

struct Host(tempfile::TempDir);

impl Host {
    fn new(files: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().expect("a temporary directory"));
        for file in files {
            let path = host.path(file);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, *file).expect("written");
        }
        host
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn context(&self, ignore: &str) -> BuildContext {
        let ignore = Some((".dockerignore".to_owned(), ignore.to_owned()));
        BuildContext::open(self.0.path(), ignore).expect("opens")
    }
}

fn all(tree: &dyn Tree) -> Vec<String> {
    fn walk(tree: &dyn Tree, path: &ImagePath, out: &mut Vec<String>) {
        for name in tree.read_dir(path).expect("read") {
            let child = path.join(name);
            out.push(child.to_string());
            if tree.lookup(&child).expect("read").expect("listed").kind == Kind::Directory {
                walk(tree, &child, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(tree, &ImagePath::root(), &mut out);
    out
}

fn text(tree: &dyn Tree, path: &str) -> Option<String> {
    let bytes = tree.read(&ImagePath::new(path), 1000).expect("read")?;
    Some(String::from_utf8(bytes).expect("text"))
}

#[test]
fn a145_ignored_files_do_not_exist() {
    let host = Host::new(&["a.txt", "b.txt", "docs/c.md", "docs/deep/d"]);
    assert_eq!(all(&host.context("a.txt\ndocs/deep")), ["/b.txt", "/docs", "/docs/c.md"]);
    assert_eq!(all(&host.context("*")), [""; 0]);
    assert_eq!(text(&host.context("a.txt"), "/a.txt"), None);
    assert_eq!(text(&host.context("a.txt"), "/b.txt").as_deref(), Some("b.txt"));
}

#[test]
fn a146_an_ignored_directory_exists_where_something_below_is_taken_back() {
    let host = Host::new(&["a/b/c", "a/d", "e/f", "g"]);
    assert_eq!(all(&host.context("*\n!a/b/c")), ["/a", "/a/b", "/a/b/c"]);
    assert_eq!(all(&host.context("*\n!e/missing")), [""; 0]);
    assert_eq!(all(&host.context("a\n!**/c")), ["/a", "/a/b", "/a/b/c", "/e", "/e/f", "/g"]);
}

#[test]
fn the_pattern_that_hides_a_path_is_named() {
    let host = Host::new(&["a.log"]);
    let context = host.context("# logs\n*.log\n");
    let path = ImagePath::new("/a.log");
    assert_eq!(context.ignored_by(&path).as_deref(), Some("*.log"));
    assert_eq!(
        context.hidden_by(&path).as_deref(),
        Some("the pattern `*.log` in line 2 of `.dockerignore`")
    );
    assert_eq!(context.ignored_by(&ImagePath::new("/b")), None);
}

#[test]
fn a106_nothing_outside_can_be_reached() {
    let host = Host::new(&["in/real"]);
    symlink("/etc", host.path("out")).expect("made");
    symlink("../../../etc/passwd", host.path("in/up")).expect("made");
    symlink("/in/real", host.path("abs")).expect("made");
    let context = host.context("");
    assert_eq!(text(&context, "/out/passwd"), None);
    assert_eq!(text(&context, "/in/up"), None);
    assert_eq!(text(&context, "/abs").as_deref(), Some("in/real"));
    assert!(context.lookup(&ImagePath::new("/out/passwd")).expect("read").is_none());
    assert!(context.open(&ImagePath::new("/abs")).is_err(), "links are not followed by `open`");
}

#[test]
fn a118_the_hosts_owners_and_names_of_one_file() {
    let host = Host::new(&["a", "dir/c"]);
    fs::hard_link(host.path("a"), host.path("b")).expect("linked");
    fs::set_permissions(host.path("a"), fs::Permissions::from_mode(0o4751)).expect("set");
    let context = host.context("");
    let node = |path: &str| context.lookup(&ImagePath::new(path)).expect("read").expect("there");
    assert_eq!((node("/a").mode, node("/a").uid, node("/a").gid), (0o4751, 0, 0));
    assert!(node("/a").inode.is_some());
    assert_eq!(node("/a").inode, node("/b").inode);
    assert_eq!(node("/dir").inode, None);
    assert_eq!(node("/dir/c").inode, None);
    assert_eq!(node("/a").kind, Kind::File { size: 1 });
}

#[test]
fn a120_a_socket_is_an_empty_file() {
    let host = Host::new(&[]);
    let _listener = UnixListener::bind(host.path("s")).expect("bound");
    let context = host.context("");
    let node = context.lookup(&ImagePath::new("/s")).expect("read").expect("there");
    assert_eq!(node.kind, Kind::File { size: 0 });
    assert_eq!(text(&context, "/s").as_deref(), Some(""));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let host = Host::new(&["a"]);
    let context = host.context("");
    let mut reader = context.open(&ImagePath::new("/a")).expect("opens");
    fs::write(host.path("a"), "other").expect("written");
    let error = io::copy(&mut reader, &mut io::sink()).expect_err("it changed");
    assert_eq!(error.to_string(), "`/a` changed while it was read");
}

#[test]
fn what_is_no_directory_is_no_context() {
    let host = Host::new(&["a"]);
    for name in ["a", "missing"] {
        let error = BuildContext::open(&host.path(name), None).expect_err("no directory");
        assert!(matches!(error, ContextError::NotADirectory(_)), "{error:?}");
    }
}
