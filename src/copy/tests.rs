//! Whole steps: what is in the layer that a `COPY`, `ADD` or `WORKDIR` writes.

use std::io::Read as _;

use super::*;
use crate::copy::memory::MemoryTree;
use crate::layer::{Node, TreeError};
use crate::oci::{Compression, ImagePath};
use crate::plan::{Chmod, CopyFrom, StageId};

pub(crate) const NOW: Timestamp = Timestamp { seconds: 2_000_000, nanoseconds: 0 };

/// A `COPY` of `sources` to `destination`.
pub(crate) fn step(sources: &[&str], destination: &str) -> CopyStep {
    CopyStep {
        from: CopyFrom::Context,
        sources: sources.iter().map(|source| Source::Path((*source).to_owned())).collect(),
        destination: destination.to_owned(),
        cwd: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
    }
}

/// The entries of a layer, as `tar` sees them: `mode uid:gid name`, and what it is.
pub(crate) fn listing(layer: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(layer);
    let entries = archive.entries().expect("a tar");
    entries
        .map(|entry| {
            let mut entry = entry.expect("a tar");
            let header = entry.header().clone();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let link =
                entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            let link = link.unwrap_or_default();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            let what = match header.entry_type() {
                tar::EntryType::Regular => format!(" = {text}"),
                tar::EntryType::Link => format!(" == {link}"),
                tar::EntryType::Symlink => format!(" -> {link}"),
                tar::EntryType::Fifo => " |".to_owned(),
                _ => String::new(),
            };
            let time = match header.mtime().expect("a number") {
                1_000_000 => "old",
                2_000_000 => "now",
                0 => "epoch",
                _ => "other",
            };
            let (uid, gid) = (header.uid().expect("a number"), header.gid().expect("a number"));
            format!("{:o} {uid}:{gid} {time} {name}{what}", header.mode().expect("a number"))
        })
        .collect()
}

pub(crate) fn writer() -> LayerWriter<Vec<u8>> {
    LayerWriter::with_threads(Vec::new(), Compression::None, None, 1)
}

pub(crate) fn inputs<'a>(
    step: &CopyStep,
    source: &'a dyn Tree,
    below: &'a dyn Tree,
) -> CopyInputs<'a> {
    let from_context = step.from == CopyFrom::Context;
    CopyInputs { source: Some(source), remotes: &[], below, from_context, created: NOW }
}

fn run(step: &CopyStep, source: &dyn Tree, below: &dyn Tree) -> Result<Vec<String>, CopyError> {
    let mut writer = writer();
    copy(step, inputs(step, source, below), &mut writer)?;
    Ok(listing(&writer.finish().expect("a Vec takes all").sink))
}

#[track_caller]
fn check(step: &CopyStep, source: &dyn Tree, below: &dyn Tree, expected: &[&str]) {
    assert_eq!(run(step, source, below).expect("copied"), expected, "{step:?}");
}

#[track_caller]
fn check_error(step: &CopyStep, source: &dyn Tree, below: &dyn Tree, expected: &str) {
    assert_eq!(run(step, source, below).expect_err("an error").to_string(), expected, "{step:?}");
}

fn from_stage(step: CopyStep) -> CopyStep {
    CopyStep { from: CopyFrom::Stage(StageId(0)), ..step }
}

fn some_files() -> MemoryTree {
    MemoryTree::new().file("/a.txt", "a").file("/b.txt", "b").dir("/dir", 0o700).file("/dir/f", "f")
}

#[test]
fn a108_a_file_goes_into_a_directory_or_gets_the_name() {
    let below = MemoryTree::new().dir("/exists", 0o711);
    let check = |destination: &str, expected: &[&str]| {
        check(&step(&["a.txt"], destination), &some_files(), &below, expected);
    };
    check("/renamed", &["644 0:0 old renamed = a"]);
    check("/new/", &["755 0:0 now new/", "644 0:0 old new/a.txt = a"]);
    check("/exists", &["711 0:0 old exists/", "644 0:0 old exists/a.txt = a"]);
    check("/exists/x", &["711 0:0 old exists/", "644 0:0 old exists/x = a"]);
}

#[test]
fn a109_a117_a_directory_gives_its_content_and_its_time() {
    let expected = ["755 0:0 old new/", "644 0:0 old new/f = f"];
    for source in ["dir", "dir/", "dir/."] {
        check(&step(&[source], "/new"), &some_files(), &EmptyTree, &expected);
    }
}

#[test]
fn a116_existing_directories() {
    let source = MemoryTree::new().dir("/tree/sub", 0o775).file("/tree/sub/g", "g");
    let below = MemoryTree::new().dir("/top", 0o711).owner("/top", 7, 8);
    let below = below.dir("/top/sub", 0o700).owner("/top/sub", 7, 8).file("/top/sub/old", "");
    let expected = ["711 7:8 old top/", "775 0:0 old top/sub/", "644 0:0 old top/sub/g = g"];
    check(&step(&["tree"], "/top"), &source, &below, &expected);
}

#[test]
fn a115_made_parents_take_chown_and_the_lower_bits_of_an_octal_chmod() {
    let chown = CopyStep { chown: Some("11:22".to_owned()), ..step(&["a.txt"], "/p/q/f") };
    let expected = ["755 11:22 now p/", "755 11:22 now p/q/", "644 11:22 old p/q/f = a"];
    check(&chown, &some_files(), &EmptyTree, &expected);
    let octal = CopyStep { chmod: Some(Chmod::Octal(0o4711)), ..step(&["a.txt"], "/p/f") };
    let expected = ["711 0:0 now p/", "4711 0:0 old p/f = a"];
    check(&octal, &some_files(), &EmptyTree, &expected);
    let symbolic = Chmod::Symbolic("u=rwx,go=".to_owned());
    let symbolic = CopyStep { chmod: Some(symbolic), ..step(&["a.txt"], "/p/f") };
    let expected = ["755 0:0 now p/", "700 0:0 old p/f = a"];
    check(&symbolic, &some_files(), &EmptyTree, &expected);
}

#[test]
fn a119_hard_links_of_one_tree_are_kept() {
    let source = MemoryTree::new().file("/d/a", "x").hard_link("/d/b", "/d/a");
    let expected = ["755 0:0 old t/", "644 0:0 old t/a = x", "644 0:0 old t/b == t/a"];
    check(&step(&["d"], "/t"), &source, &EmptyTree, &expected);
    let apart = ["755 0:0 now t/", "644 0:0 old t/a = x", "644 0:0 old t/b = x"];
    check(&step(&["d/a", "d/b"], "/t/"), &source, &EmptyTree, &apart);
}

#[test]
fn a119_extended_attributes_are_kept_with_chown_and_chmod() {
    let source = MemoryTree::new()
        .file("/f", "")
        .with("/f", |node| drop(node.xattrs.insert(b"user.x".into(), b"v".into())));
    let step = CopyStep {
        chown: Some("1".to_owned()),
        chmod: Some(Chmod::Octal(0o600)),
        ..from_stage(step(&["f"], "/f"))
    };
    let copier = stage(&step, inputs(&step, &source, &EmptyTree), None).expect("copied");
    let node = copier.staging.lookup(&ImagePath::new("/f")).expect("read").expect("there");
    assert_eq!((node.uid, node.gid, node.mode, node.xattrs.len()), (1, 1, 0o600, 1));
}

#[test]
fn a120_special_files_are_made_again() {
    let source = MemoryTree::new().other("/d/pipe", Kind::Fifo, 0o620).owner("/d/pipe", 3, 4);
    let expected = ["755 0:0 old t/", "620 3:4 old t/pipe |"];
    check(&from_stage(step(&["d"], "/t")), &source, &EmptyTree, &expected);
}

#[test]
fn a121_named_links_are_followed_and_others_are_copied() {
    let source =
        some_files().link("/to-a", "a.txt").link("/tree/l", "nowhere").link("/to-dir", "dir");
    check(
        &step(&["to-a"], "/x/"),
        &source,
        &EmptyTree,
        &["755 0:0 now x/", "644 0:0 old x/to-a = a"],
    );
    check(&step(&["to-dir/f"], "/f"), &source, &EmptyTree, &["644 0:0 old f = f"]);
    let expected = ["755 0:0 old t/", "777 0:0 old t/l -> nowhere"];
    let chmod = Some(Chmod::Octal(0o700));
    check(&step(&["tree"], "/t"), &source, &EmptyTree, &expected);
    let with_mode = CopyStep { chmod, ..step(&["tree"], "/t") };
    let expected = ["700 0:0 old t/", "777 0:0 old t/l -> nowhere"];
    check(&with_mode, &source, &EmptyTree, &expected);
}

#[test]
fn a122_links_in_the_destination_are_followed_inside_the_image() {
    let below = MemoryTree::new()
        .dir("/real", 0o755)
        .link("/alias", "../../real")
        .link("/dangling", "/missing/deep")
        .file("/real/file", "old")
        .link("/to-file", "real/file");
    let check = |destination: &str, expected: &[&str]| {
        check(&step(&["a.txt"], destination), &some_files(), &below, expected);
    };
    check("/alias/x", &["755 0:0 old real/", "644 0:0 old real/x = a"]);
    check("/to-file", &["755 0:0 old real/", "644 0:0 old real/file = a"]);
    check("/dangling", &["755 0:0 now missing/", "644 0:0 old missing/deep = a"]);
    check(
        "/dangling/",
        &[
            "755 0:0 now missing/",
            "755 0:0 now missing/deep/",
            "644 0:0 old missing/deep/a.txt = a",
        ],
    );
}

#[test]
fn a122_a123_links_inside_of_what_is_copied_are_not_followed() {
    let source = MemoryTree::new().file("/t/name", "n").file("/c/conf/x", "");
    let below =
        MemoryTree::new().file("/d/other", "").link("/d/name", "other").link("/d/conf", "real");
    let below = below.dir("/d/real", 0o755);
    let expected = ["755 0:0 old d/", "644 0:0 old d/name = n"];
    check(&step(&["t"], "/d"), &source, &below, &expected);
    let expected = "cannot copy to non-directory: /d/conf";
    check_error(&step(&["c"], "/d"), &source, &below, expected);
}

#[test]
fn a123_files_and_directories_do_not_replace_each_other() {
    let below = MemoryTree::new().file("/taken", "").dir("/d/a.txt", 0o755);
    let check = |source: &str, destination: &str, expected: &str| {
        check_error(&step(&[source], destination), &some_files(), &below, expected);
    };
    check("dir", "/taken", "cannot copy to non-directory: /taken");
    check("a.txt", "/d/", "cannot replace to directory /d/a.txt with file");
    check(".", "/d", "cannot replace to directory /d/a.txt with file");
    check("a.txt", "/taken/sub/f", "`/taken` is not a directory");
}

#[test]
fn a127_link_sees_nothing_below() {
    let below = MemoryTree::new().dir("/tmp", 0o1777).file("/file", "").link("/alias", "tmp");
    let link =
        |sources: &[&str], destination: &str| CopyStep { link: true, ..step(sources, destination) };
    let expected = ["755 0:0 now alias/", "644 0:0 old alias/a.txt = a"];
    check(&link(&["a.txt"], "/alias/"), &some_files(), &below, &expected);
    let expected = ["755 0:0 old file/", "644 0:0 old file/f = f"];
    check(&link(&["dir"], "/file/"), &some_files(), &below, &expected);
    let with_mode = CopyStep { chmod: Some(Chmod::Octal(0o640)), ..link(&["a.txt"], "/tmp/x") };
    let expected = ["1777 0:0 old tmp/", "640 0:0 old tmp/x = a"];
    check(&with_mode, &some_files(), &below, &expected);
    let named = CopyStep { chown: Some("app".to_owned()), ..link(&["a.txt"], "/x") };
    let expected = "invalid user index: -1: `--link` takes a numeric `--chown`, not `app`";
    check_error(&named, &some_files(), &below, expected);
}

#[test]
fn a128_parents_are_kept_from_the_pivot_on() {
    let source = MemoryTree::new().dir("/o", 0o750).owner("/o", 3, 4).file("/o/p/f", "f");
    let parents = |source: &str| CopyStep { parents: true, ..from_stage(step(&[source], "/d/")) };
    let expected =
        ["755 0:0 old d/", "750 3:4 now d/o/", "755 0:0 now d/o/p/", "644 0:0 old d/o/p/f = f"];
    check(&parents("o/p/f"), &source, &EmptyTree, &expected);
    let expected = ["755 0:0 old d/", "755 0:0 now d/p/", "644 0:0 old d/p/f = f"];
    check(&parents("./o/./p/*"), &source, &EmptyTree, &expected);
    let below = MemoryTree::new().dir("/d/o", 0o777).owner("/d/o", 9, 9);
    let expected =
        ["755 0:0 old d/", "750 9:9 now d/o/", "755 0:0 now d/o/p/", "644 0:0 old d/o/p/f = f"];
    check(&parents("o/p/f"), &source, &below, &expected);
    let expected = "\"/o/none\": not found in the stage it is copied from";
    check_error(&parents("o/none"), &source, &EmptyTree, expected);
    check(&parents("o/none*"), &source, &EmptyTree, &["755 0:0 old d/"]);
}

#[test]
fn a129_a_named_file_is_never_excluded() {
    let step = |sources: &[&str]| CopyStep {
        excludes: vec!["*.txt".to_owned(), "f".to_owned()],
        ..step(sources, "/x/")
    };
    let expected = ["755 0:0 now x/", "644 0:0 old x/a.txt = a"];
    check(&step(&["a.txt"]), &some_files(), &EmptyTree, &expected);
    check(&step(&["dir"]), &some_files(), &EmptyTree, &["755 0:0 old x/"]);
}

#[test]
fn a131_heredocs_are_files_and_come_last() {
    let inline = Source::Inline { name: "EOF".to_owned(), text: "hi\n".to_owned() };
    let sources = vec![inline, Source::Path("a.txt".to_owned())];
    let both = CopyStep { sources: sources.clone(), ..step(&[], "/x/") };
    let expected = ["755 0:0 now x/", "644 0:0 now x/EOF = hi\n", "644 0:0 old x/a.txt = a"];
    check(&both, &some_files(), &EmptyTree, &expected);
    let last = CopyStep { sources, ..step(&[], "/one") };
    check(&last, &some_files(), &EmptyTree, &["644 0:0 now one = hi\n"]);
}

#[test]
fn a110_a112_wildcards_merge_directories_or_do_nothing() {
    let source = MemoryTree::new().file("/s/d1/f1", "1").file("/s/d2/f2", "2");
    let expected = ["755 0:0 old all/", "644 0:0 old all/f1 = 1", "644 0:0 old all/f2 = 2"];
    check(&step(&["s/*"], "/all/"), &source, &EmptyTree, &expected);
    check(&step(&["*.none"], "/all/"), &source, &EmptyTree, &[]);
}

#[test]
fn the_root_of_a_context_has_no_time() {
    let source = MemoryTree::new().file("/f", "f");
    let expected = |time| [format!("755 0:0 {time} x/"), "644 0:0 old x/f = f".to_owned()];
    let all = step(&["."], "/x");
    assert_eq!(run(&all, &source, &EmptyTree).expect("copied"), expected("now"));
    assert_eq!(run(&from_stage(all), &source, &EmptyTree).expect("copied"), expected("old"));
}

/// A tree in which files are shorter than they say.
struct Shrinking(MemoryTree);

impl Tree for Shrinking {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        self.0.lookup(path)
    }
    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        self.0.read_dir(path)
    }
    fn open(&self, path: &ImagePath) -> Result<Box<dyn std::io::Read + Send>, TreeError> {
        Ok(Box::new(self.0.open(path)?.take(0)))
    }
}

#[test]
fn a_file_that_changed_is_named_as_in_the_source() {
    let error = run(&step(&["a.txt"], "/x"), &Shrinking(some_files()), &EmptyTree);
    let error = error.expect_err("too short");
    assert!(matches!(error, CopyError::Changed { path } if path == ImagePath::new("/a.txt")));
}
