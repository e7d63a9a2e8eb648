//! The build context of the command line: a directory, an archive, a URL, a repository.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::build::ContextOrigin;
use crate::build::Workshop;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::copy;
use crate::copy::ArchiveTree;
use crate::copy::CopyError;
use crate::fetch::DownloadedFile;
use crate::layer::EmptyTree;
use crate::layer::Tree;
use crate::plan::GitSource;
use crate::plan::UrlSource;

/// A tar has a header of this size; less is no archive.
const BEGINNING: u64 = 512;

/// What a downloaded context that is no archive is called in the context, as in `BuildKit`.
pub(crate) const DOWNLOADED: &str = "context";

/// Where a build context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `-`: an archive, or a Dockerfile.
    StandardInput,
    /// A directory, also one that is not there.
    Directory(PathBuf),
    /// A file, which has to be an archive.
    Archive(PathBuf),
    /// A URL of an archive, or of a Dockerfile.
    Url(UrlSource),
    /// A repository.
    Git(GitSource),
}

/// A context that can be read.
pub(crate) enum Files {
    /// A directory.
    Directory(PathBuf),
    /// Other files, and where they came from if somebody should know.
    Tree(Box<dyn Tree>, Option<ContextOrigin>),
    /// The Dockerfile itself came, and perhaps under a name that can be copied.
    Dockerfile(Box<dyn Read>, Box<dyn Tree>),
}

impl Place {
    /// Reads the argument.
    pub(crate) fn of(argument: &Path) -> Result<Self, Failure> {
        if argument == Path::new("-") {
            return Ok(Self::StandardInput);
        }
        let text = argument.to_str().filter(|_| !argument.is_dir()).unwrap_or_default();
        if let Some(source) = GitSource::parse_context(text) {
            let source = source.map_err(|error| Failure::from_error(Exit::Usage, &error, None))?;
            return Ok(Self::Git(source));
        }
        Ok(match UrlSource::parse(text) {
            Some(source) => Self::Url(source),
            None if argument.exists() && !argument.is_dir() => Self::Archive(argument.to_owned()),
            None => Self::Directory(argument.to_owned()),
        })
    }

    /// Whether it can be read without a store to keep it in.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// Fetches what is elsewhere.
    pub(crate) fn open(self, session: &Session<'_>, workshop: &Workshop) -> Result<Files, Failure> {
        match self {
            Self::Directory(path) => Ok(Files::Directory(path)),
            Self::StandardInput => tell_apart(
                Box::new(std::io::stdin()),
                "standard input",
                workshop,
                Box::new(EmptyTree),
            ),
            Self::Archive(path) => {
                let name = path.display().to_string();
                let file = std::fs::File::open(&path).map_err(|error| {
                    unreadable(&name).map_diagnostic(|it| it.note("cause", error.to_string()))
                })?;
                match tell_apart(Box::new(file), &name, workshop, Box::new(EmptyTree))? {
                    Files::Dockerfile(..) => Err(no_archive(&name)),
                    files => Ok(files),
                }
            }
            Self::Url(source) => {
                let download = block_on(&workshop.cancel, async {
                    let download = workshop.fetcher.download(&source).await;
                    download.map_err(|error| failure::fetch(&error))
                })?;
                let file = workshop.store.open_blob(&download.blob.digest);
                let file = file.map_err(|error| failure::store(&error))?;
                let alone = DownloadedFile::new(&workshop.store, DOWNLOADED, &download);
                tell_apart(Box::new(file), &source.name, workshop, Box::new(alone))
            }
            Self::Git(source) => checkout(&source, session, workshop),
        }
    }
}

/// The files of a repository. Whoever names one on the command line lends it the agent of `ssh`.
pub(crate) fn checkout(
    source: &GitSource,
    session: &Session<'_>,
    workshop: &Workshop,
) -> Result<Files, Failure> {
    let agent = session.environment.path("SSH_AUTH_SOCK").filter(|_| source.is_ssh());
    let checkout = block_on(&workshop.cancel, async {
        let checkout = workshop.fetcher.checkout(source, agent.as_deref()).await;
        checkout.map_err(|error| failure::fetch(&error))
    })?;
    let origin =
        ContextOrigin { uri: checkout.uri().to_owned(), commit: checkout.commit().to_owned() };
    Ok(Files::Tree(Box::new(checkout), Some(origin)))
}

/// Archive or Dockerfile? `alone` is the context that belongs to the latter.
fn tell_apart(
    mut content: Box<dyn Read + Send>,
    name: &str,
    workshop: &Workshop,
    alone: Box<dyn Tree>,
) -> Result<Files, Failure> {
    let mut beginning = Vec::new();
    let read = content.by_ref().take(BEGINNING).read_to_end(&mut beginning);
    read.map_err(|error| {
        unreadable(name).map_diagnostic(|it| it.note("cause", error.to_string()))
    })?;
    let is_archive = copy::begins_archive(&beginning);
    let content = std::io::Cursor::new(beginning).chain(content);
    if !is_archive {
        return Ok(Files::Dockerfile(Box::new(content), alone));
    }
    let spool = workshop.store.temp_dir().map_err(|error| failure::store(&error))?;
    let tree = ArchiveTree::read(Box::new(content), name, spool.path());
    let tree = tree.map_err(|error| match error {
        CopyError::Archive { source, .. } => {
            unreadable(name).map_diagnostic(|it| it.note("cause", source.to_string()))
        }
        error => Failure::from_error(Exit::Usage, &error, None),
    })?;
    Ok(Files::Tree(Box::new(tree), None))
}

fn unreadable(name: &str) -> Failure {
    let title = format!("cannot read the build context `{name}`");
    Failure::new(Exit::Usage, Diagnostic::new(title))
}

fn no_archive(name: &str) -> Failure {
    let title = format!("the build context `{name}` is neither a directory nor an archive");
    let hint = "a context is a directory, a tar, a URL of a tar, or a git repository; a Dockerfile \
                is named with `--file`";
    Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(hint.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_known_by_its_form_and_a_directory_before_all_else() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let tar = directory.path().join("a.tar");
        std::fs::write(&tar, "").expect("writable");
        let check = |argument: &str, expected: &str| {
            let place = Place::of(Path::new(argument)).expect(argument);
            let debug = format!("{place:?}");
            assert!(debug.starts_with(expected), "{argument}: {debug}");
        };
        check("-", "StandardInput");
        check(".", "Directory");
        check("nowhere", "Directory");
        check(&tar.display().to_string(), "Archive");
        check("https://x/y.tar.gz", "Url");
        check("https://x/y.git#main:sub", "Git");
        check("git@x:y.git", "Git");
        check("github.com/x/y", "Git");
    }
}
