//! One repository: what its references name, its objects in the store, a checkout of one commit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::context::HostDirectory;
use crate::fetch::git::command::{Answer, Git, GitError, GitSettings};
use crate::fetch::git::tree::Checkout;
use crate::layer::Tree as _;
use crate::oci::{Digest, ImagePath, Timestamp};
use crate::plan::GitSource;
use crate::store::{Store, StoreError, TempDir, remove_tree};

/// Where a checkout's files are in its temporary directory.
const FILES: &str = "files";

/// A repository, and what of it is wanted.
#[derive(Debug)]
pub(crate) struct Repository {
    store: Store,
    source: GitSource,
    git: Git,
    /// The home of `git`, which stays empty, and later the checkout.
    directory: TempDir,
}

impl Repository {
    pub(crate) fn new(
        store: &Store,
        settings: Arc<GitSettings>,
        source: GitSource,
        agent: Option<&Path>,
    ) -> Result<Self, GitError> {
        let directory = store.temp_dir()?;
        let home = directory.path().join("home");
        fs::create_dir(&home).map_err(|error| StoreError::io("create", &home, error))?;
        let known_hosts = store.git_dir().join("known_hosts");
        let git = Git::new(settings, &source.remote, &home, &known_hosts, agent);
        Ok(Self { store: store.clone(), source, git, directory })
    }

    /// The repository's name, without what must not be shown.
    pub(crate) fn shown(&self) -> &str {
        self.git.remote()
    }

    /// The repository and what of it is wanted, in `BuildKit`'s form.
    fn uri(&self) -> String {
        let GitSource { reference, subdir, .. } = &self.source;
        let subdir = if subdir.is_empty() { String::new() } else { format!(":{subdir}") };
        let fragment = format!("{reference}{subdir}");
        let hash = if fragment.is_empty() { "" } else { "#" };
        format!("{}{hash}{fragment}", self.shown())
    }

    /// What the reference names. A commit's own name is not asked about.
    pub(crate) fn resolve(&self) -> Result<Found, GitError> {
        let reference = &self.source.reference;
        if is_commit(reference) {
            let commit = reference.clone();
            let found = Found { object: commit.clone(), commit, name: None };
            return self.verify(found);
        }
        let wanted = if reference.is_empty() { "HEAD" } else { reference };
        let peeled = format!("{wanted}^{{}}");
        let args = ["ls-remote", "origin", wanted, &peeled];
        let listing = self.git.run("ask", self.directory.path(), &args)?;
        let Some(found) = choose(&listing, wanted) else {
            let (reference, remote) = (wanted.to_owned(), self.shown().to_owned());
            return Err(GitError::NoReference { reference, remote });
        };
        self.verify(found)
    }

    /// Whether it is what the checksum asks for: the commit, or the annotated tag.
    fn verify(&self, found: Found) -> Result<Found, GitError> {
        let is_it = |expected: &String| {
            [&found.commit, &found.object].iter().any(|name| name.starts_with(expected.as_str()))
        };
        match self.source.checksum.as_ref().filter(|expected| !is_it(expected)) {
            Some(expected) => {
                Err(GitError::Mismatch { expected: expected.clone(), actual: found.commit })
            }
            None => Ok(found),
        }
    }

    /// The files of a commit.
    pub(crate) fn checkout(self, found: &Found) -> Result<Checkout, GitError> {
        let commit = &*found.commit;
        let (bare, lock) = self.bare()?;
        self.fetch(&bare, found)?;
        let files = self.directory.path().join(FILES);
        let keeps = self.source.keep_git_dir.unwrap_or(false) && self.source.subdir.is_empty();
        if keeps {
            self.clone_from(&bare, &files, found)?;
        } else {
            self.borrow_from(&bare, &files)?;
        }
        let args =
            ["-c", "core.symlinks=true", "checkout", "--quiet", "--force", "--detach", commit];
        self.git.run("check out", &files, &args)?;
        let time = self.git.run("read", &files, &["show", "--no-patch", "--format=%ct", commit])?;
        drop(lock);
        if self.source.submodules && files.join(".gitmodules").exists() {
            let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            self.git.run("fetch the submodules of", &files, &args)?;
        }
        if keeps {
            self.tidy_git_dir(&files)?;
        } else {
            remove_git_dirs(&files)?;
        }
        let time = Timestamp::from_seconds(time.trim().parse().unwrap_or_default());
        let files = self.subdirectory(&files, commit)?;
        let name = (self.uri(), found.commit.clone());
        Ok(Checkout::new(files, name, time, self.directory))
    }

    /// The bare repository in the store, and the lock that makes it ours.
    fn bare(&self) -> Result<(PathBuf, File), GitError> {
        let name = Digest::of(&self.source.remote).hex();
        let lock = self.store.git_dir().join(format!("{name}.lock"));
        let path = self.store.git_dir().join(name);
        let file = File::create(&lock).map_err(|error| StoreError::io("create", &lock, error))?;
        file.lock().map_err(|error| StoreError::io("lock", &lock, error))?;
        if !path.join("HEAD").exists() {
            let new = self.directory.path().join("bare");
            let text = new.display().to_string();
            self.git.run(
                "prepare",
                self.directory.path(),
                &["init", "--quiet", "--bare", &text],
            )?;
            remove_tree(&path)?;
            fs::rename(&new, &path).map_err(|error| StoreError::io("create", &path, error))?;
        }
        // What a killed `git` has left: nobody else is at work here.
        for name in ["shallow.lock", "packed-refs.lock", "config.lock"] {
            fs::remove_file(path.join(name)).ok();
        }
        Ok((path, file))
    }

    /// Makes sure that the commit is in the bare repository: by its name, if the server allows
    /// that; else by the reference; else with all of the history.
    fn fetch(&self, bare: &Path, found: &Found) -> Result<(), GitError> {
        let object = &*found.object;
        let is_there =
            || Ok::<_, GitError>(self.git.ask(bare, &["cat-file", "-e", object])?.is_success);
        if is_there()? {
            return Ok(());
        }
        let by_name = found.name.as_ref().map(|name| format!("+{name}:refs/coracle/last"));
        let is_shallow = bare.join("shallow").exists();
        let all: &[&str] = if is_shallow { &["--unshallow"] } else { &[] };
        let mut attempts = vec![vec!["--depth=1", "--no-tags", "origin", object]];
        attempts.extend(by_name.iter().map(|name| vec!["--depth=1", "--no-tags", "origin", name]));
        attempts.push([all, &["--tags", "origin", "+refs/heads/*:refs/coracle/heads/*"]].concat());
        let mut refused = None;
        for attempt in &attempts {
            let args = [&["fetch", "--quiet", "--no-write-fetch-head"], &attempt[..]].concat();
            let answer = self.git.ask(bare, &args)?;
            if answer.is_success && is_there()? {
                // With a reference, the server is told next time that we have it.
                let kept = format!("refs/coracle/{object}");
                self.git.run("keep", bare, &["update-ref", &kept, object])?;
                return Ok(());
            }
            if !answer.is_success && !may_go_otherwise(&answer) {
                return Err(self.git.failed("fetch", &answer));
            }
            refused = Some(answer).filter(|answer| !answer.is_success);
        }
        Err(match refused {
            Some(answer) => self.git.failed("fetch", &answer),
            None => GitError::NoReference {
                reference: found.commit.clone(),
                remote: self.shown().to_owned(),
            },
        })
    }

    /// A repository that reads the bare one's objects where they are.
    fn borrow_from(&self, bare: &Path, files: &Path) -> Result<(), GitError> {
        self.init(files)?;
        let write = |name: &str, text: &[u8]| {
            let path = files.join(".git").join(name);
            fs::write(&path, text).map_err(|error| StoreError::io("write", &path, error))
        };
        let objects = format!("{}\n", bare.join("objects").display());
        write("objects/info/alternates", objects.as_bytes())?;
        if let Ok(shallow) = fs::read(bare.join("shallow")) {
            write("shallow", &shallow)?;
        }
        Ok(())
    }

    /// A repository with the commit's objects in it, as `--keep-git-dir` shows it.
    fn clone_from(&self, bare: &Path, files: &Path, found: &Found) -> Result<(), GitError> {
        self.init(files)?;
        // By way of the protocol, so that only what belongs to the commit is taken.
        let url = format!("file://{}", bare.display());
        let git = self.git.with("GIT_ALLOW_PROTOCOL", "file");
        let name = found.name.as_deref().filter(|name| name.starts_with("refs/"));
        let from = format!("refs/coracle/{}", found.object);
        let refspec = name.map_or_else(|| from.clone(), |name| format!("+{from}:{name}"));
        let args =
            ["fetch", "--quiet", "--update-head-ok", "--depth=1", "--no-tags", &url, &refspec];
        git.run("copy", files, &args)?;
        Ok(())
    }

    fn init(&self, files: &Path) -> Result<(), GitError> {
        let text = files.display().to_string();
        self.git.run("prepare", self.directory.path(), &["init", "--quiet", &text])?;
        Ok(())
    }

    /// Makes `.git` what it would be after a clone from the remote, without its secrets.
    fn tidy_git_dir(&self, files: &Path) -> Result<(), GitError> {
        let url = self.shown().to_owned();
        self.git.run("prepare", files, &["config", "--local", "remote.origin.url", &url])?;
        self.git.run("prepare", files, &["reflog", "expire", "--all", "--expire=now"])?;
        fs::remove_file(files.join(".git/FETCH_HEAD")).ok();
        Ok(())
    }

    /// The directory that is wanted. Links in its name stay inside.
    fn subdirectory(&self, files: &Path, commit: &str) -> Result<HostDirectory, GitError> {
        let missing = || GitError::NoSubdir {
            remote: self.shown().to_owned(),
            subdir: self.source.subdir.clone(),
            commit: commit.to_owned(),
        };
        let all = HostDirectory::open(files).map_err(|_| missing())?;
        if self.source.subdir.is_empty() {
            return Ok(all);
        }
        let path = all.resolve(&ImagePath::new(&self.source.subdir)).map_err(|_| missing())?;
        HostDirectory::open(&files.join(path.relative())).map_err(|_| missing())
    }
}

/// A commit, written out: with SHA-1 or SHA-256.
fn is_commit(name: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(name.len(), 40 | 64) && name.bytes().all(is_hex)
}

/// Whether the server would perhaps give the commit if it were asked for in another way.
fn may_go_otherwise(answer: &Answer) -> bool {
    let reasons =
        ["not our ref", "unadvertised object", "shallow", "depth", "dumb http", "no such ref"];
    let said = answer.stderr.to_lowercase();
    reasons.iter().any(|reason| said.contains(reason)) || said.contains("find remote ref")
}

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) commit: String,
    /// The annotated tag, or the commit itself.
    pub(crate) object: String,
    /// The whole name of the reference, if it is one.
    pub(crate) name: Option<String>,
}

/// Picks from a listing of references: a branch before a tag, as `git checkout` does.
fn choose(listing: &str, wanted: &str) -> Option<Found> {
    let find = |name: &str| {
        let line = listing.lines().find(|line| line.split('\t').nth(1) == Some(name))?;
        let object = line.split('\t').next()?;
        is_commit(object).then(|| object.to_owned())
    };
    let names = [
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
        wanted.to_owned(),
        format!("refs/{wanted}"),
    ];
    names.into_iter().find_map(|name| {
        let object = find(&name)?;
        let commit = find(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
        Some(Found { commit, object, name: Some(name) })
    })
}

/// Takes away `.git`, the repository's and those of its submodules.
fn remove_git_dirs(files: &Path) -> Result<(), GitError> {
    let found = walkdir::WalkDir::new(files).follow_links(false).into_iter().flatten();
    let found: Vec<PathBuf> = found
        .filter(|entry| entry.file_name() == ".git")
        .map(walkdir::DirEntry::into_path)
        .collect();
    for path in found {
        remove_tree(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn a_branch_goes_before_a_tag_and_a_tag_is_peeled() {
        let check = |lines: &[(&str, &str)], wanted: &str, expected: Option<(&str, &str)>| {
            let listing: Vec<String> =
                lines.iter().map(|(id, name)| format!("{id}\t{name}")).collect();
            let listing = listing.join("\n");
            let found = choose(&listing, wanted).map(|found| (found.commit, found.object));
            let expected = expected.map(|(commit, object)| (commit.into(), object.into()));
            assert_eq!(found, expected, "{wanted}");
        };
        check(&[(ONE, "HEAD")], "HEAD", Some((ONE, ONE)));
        check(&[(ONE, "refs/tags/v"), (TWO, "refs/heads/v")], "v", Some((TWO, TWO)));
        check(&[(ONE, "refs/tags/v"), (TWO, "refs/tags/v^{}")], "v", Some((TWO, ONE)));
        check(&[(ONE, "refs/tags/v")], "refs/tags/v", Some((ONE, ONE)));
        check(&[(ONE, "refs/pull/1/head")], "pull/1/head", Some((ONE, ONE)));
        check(&[(ONE, "refs/heads/feature/v")], "v", None);
        check(&[], "v", None);
    }

    #[test]
    fn a_commit_is_written_out() {
        assert!(is_commit(ONE) && is_commit(&"a0".repeat(32)));
        assert!(!is_commit("main") && !is_commit(&ONE[1..]) && !is_commit(&"A".repeat(40)));
    }
}
