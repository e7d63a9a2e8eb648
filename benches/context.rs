//! How fast a large build context is walked, and digested for the cache.

mod support;

use std::fs;
use std::path::Path;

use coracle::context::BuildContext;
use coracle::copy::digest;
use coracle::plan::{CopyFrom, CopyStep, Source};

const DIRECTORIES: usize = 200;
const FILES: usize = 100;

fn fill(directory: &Path) {
    for outer in 0..DIRECTORIES {
        let path = directory.join(format!("d{outer:03}"));
        fs::create_dir(&path).expect("a directory");
        for inner in 0..FILES {
            let text = format!("file {inner} of {outer}\n").repeat(20);
            fs::write(path.join(format!("f{inner:03}.txt")), text).expect("a file");
        }
    }
}

fn step(source: &str) -> CopyStep {
    CopyStep {
        from: CopyFrom::Context,
        sources: vec![Source::Path(source.to_owned())],
        destination: "/".to_owned(),
        cwd: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
    }
}

fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path());
    let open = |ignore: &str| {
        let ignore = Some((".dockerignore".to_owned(), ignore.to_owned()));
        BuildContext::open(directory.path(), ignore).expect("a context")
    };
    let all = open("");
    support::measure("digest, 20000 files", None, || {
        digest(&step("."), Some(&all)).expect("readable files");
    });
    let few = open("**/*.txt\n!d000/*.txt\n");
    support::measure("walk, all but 100 ignored", None, || {
        digest(&step("."), Some(&few)).expect("readable files");
    });
    let none = open("d*\n");
    support::measure("walk, whole directories pruned", None, || {
        digest(&step("."), Some(&none)).expect("readable files");
    });
}
