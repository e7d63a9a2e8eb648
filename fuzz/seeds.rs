//! Writes the seeds of every fuzz target into `fuzz/corpus`, out of `testdata`.
//!
//! A program without dependencies, run in the main directory: `scripts/fuzz` compiles it by itself.

use std::fs;
use std::path::{Path, PathBuf};

/// The variables that the tables in `testdata/words` refer to.
const VARIABLES: &str = "A=alpha\0E=\0S=two words\0T=foobarfoo\0P=/usr/lib/libz.so.1.tar.gz\0V=1.2.3\
    \0STAR=a*b*c\0MARK=a?b?c\0CLASS=[x]y\0DOLLAR=$A\0QUOTE=\"q\"\0BACK=a\\b\0PATTERN=foo*\
    \0LINES=one\ntwo\0größe=groß\0a_1=under\x007=seven";

fn main() {
    let mut dockerfiles = files("dockerfiles");
    dockerfiles.extend(files("demo"));
    for table in ["lines/lines.txt", "lines/forms.txt", "heredocs/heredocs.txt"] {
        let cells = column(table, 0).into_iter();
        dockerfiles.extend(cells.map(|lines| format!("FROM x\n{lines}").into_bytes()));
    }
    for table in ["lines/directives.txt", "errors/errors.txt"] {
        dockerfiles.extend(column(table, 0).into_iter().map(String::into_bytes));
    }
    write("dockerfile", dockerfiles);

    let mut words = Vec::new();
    for (table, escape) in [("words", 'b'), ("split", 'b'), ("body", 'b'), ("backtick", 'e')] {
        let cells = column(&format!("words/{table}.txt"), 0).into_iter();
        words.extend(cells.map(|word| format!("{escape}{word}\0{VARIABLES}").into_bytes()));
    }
    write("word", words);

    let ignore = rows("ignore/ignore.txt").into_iter().map(|row| {
        let paths: Vec<&str> = row[1..].iter().flat_map(|cell| cell.split(' ')).collect();
        format!("{}\0{}", row[0], paths.join("\0")).into_bytes()
    });
    let ignore: Vec<_> = ignore.collect();
    let globs = rows("globs/match.txt").into_iter().map(|row| {
        let paths: Vec<&str> = row[1..].iter().flat_map(|cell| cell.split(' ')).collect();
        format!("{}\0{}", row[0], paths.join("\0")).into_bytes()
    });
    write("glob", globs.chain(ignore.iter().cloned()));
    write("dockerignore", ignore);

    let references = column("references/references.txt", 0).into_iter();
    write("reference", references.map(String::into_bytes));
    let challenges = column("challenges/challenges.txt", 0).into_iter();
    write("challenge", challenges.map(String::into_bytes));
    write("layer", files("layers"));
    write("manifest", files("documents"));
    write("archive", files("archives"));
}

fn testdata() -> PathBuf {
    PathBuf::from("testdata")
}

/// The contents of all files directly in a directory of the test data.
fn files(directory: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(testdata().join(directory)).expect("the test data is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// The rows of a table, as their cells.
fn rows(table: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(testdata().join(table)).expect("the table is there");
    let cell = |cell: &str| {
        let signs = [("␤", "\n"), ("␉", "\t"), ("␍", "\r"), ("␠", " ")];
        signs
            .iter()
            .fold(cell.trim_end().to_owned(), |text, (sign, meant)| text.replace(sign, meant))
    };
    let rows = text.lines().filter(|line| line.contains(" | "));
    rows.map(|line| line.split(" | ").map(cell).collect()).collect()
}

fn column(table: &str, index: usize) -> Vec<String> {
    rows(table).into_iter().map(|mut row| row.swap_remove(index)).collect()
}

fn write(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) {
    let directory = Path::new("fuzz/corpus").join(target);
    fs::create_dir_all(&directory).expect("the corpus can be written");
    let mut count = 0;
    for (index, seed) in seeds.into_iter().enumerate() {
        fs::write(directory.join(format!("seed-{index:03}")), seed).expect("it can be written");
        count = index + 1;
    }
    assert!(count > 0, "no seeds for {target}");
}
