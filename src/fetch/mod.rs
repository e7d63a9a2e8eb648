//! Fetching: files and repositories of other machines, for `ADD` and for build contexts.
//!
//! A download goes into the store as a blob, with a record of its URL, so that next time the server
//! may say that nothing has changed. A repository is kept as far as it was fetched. Nothing is used
//! before it is known to be what a checksum asks for.
//!
//! These are not registries: their credentials never come here. A URL is asked with what it holds
//! itself, and errors show no secret of it.
//!
//! Rules A137 and A139 to A141.

mod download;
mod error;
mod file;
mod git;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::http::{Http, HttpConfig};
use crate::layer::Tree;
use crate::oci::Digest;
use crate::plan::{GitSource, Remote, UrlSource};
use crate::progress::{Progress, Task};
use crate::store::Store;

pub use crate::fetch::download::Download;
pub use crate::fetch::error::FetchError;
pub use crate::fetch::file::DownloadedFile;
pub use crate::fetch::git::{Checkout, GitError, GitSettings};

use crate::fetch::git::{Found, Repository};

/// Fetches, each thing once however often it is asked for.
pub struct Fetcher {
    http: Http,
    store: Store,
    git: Arc<GitSettings>,
    progress: Arc<dyn Progress>,
    downloads: Once<Download>,
    commits: Once<Found>,
}

/// What has been asked for, by name.
type Once<T> = Mutex<BTreeMap<String, Arc<OnceCell<T>>>>;

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("git", &self.git).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher that keeps what it gets in `store`.
    ///
    /// # Errors
    ///
    /// [`FetchError::Http`] if no client can be made.
    pub fn new(
        store: Store,
        git: GitSettings,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, FetchError> {
        let http =
            Http::new(HttpConfig::default()).map_err(|source| FetchError::Http { source })?;
        let (downloads, commits) = (Mutex::default(), Mutex::default());
        Ok(Self { http, store, git: Arc::new(git), progress, downloads, commits })
    }

    /// A digest that names what a source holds: the same digest is the same files.
    ///
    /// A download is made for it unless its checksum is known, but no more of a repository than
    /// the name of the commit is asked for. `agent` is the socket of the SSH agent that may be used.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn identify(
        &self,
        remote: &Remote,
        agent: Option<&Path>,
    ) -> Result<Digest, FetchError> {
        Ok(match remote {
            Remote::Url(UrlSource { checksum: Some(checksum), .. }) => {
                Digest::of(format!("download {checksum}"))
            }
            Remote::Url(source) => {
                let download = self.download(source).await?;
                let time = download.modified.map(String::from).unwrap_or_default();
                Digest::of(format!("download {} {time}", download.blob.digest))
            }
            Remote::Git(source) => git::identity(source, &self.commit(source, agent).await?),
        })
    }

    /// The files of a source: one below the root for a download, all of a repository's.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn files(
        &self,
        remote: &Remote,
        agent: Option<&Path>,
    ) -> Result<Arc<dyn Tree>, FetchError> {
        Ok(match remote {
            Remote::Url(source) => {
                let download = self.download(source).await?;
                Arc::new(DownloadedFile::new(&self.store, &source.name, &download))
            }
            Remote::Git(source) => Arc::new(self.checkout(source, agent).await?),
        })
    }

    /// Downloads a file into the store, unless what is there is known to be the same.
    ///
    /// # Errors
    ///
    /// [`FetchError::Mismatch`] if it is not what its checksum asks for, [`FetchError::Status`],
    /// and what can go wrong on the way.
    pub async fn download(&self, source: &UrlSource) -> Result<Download, FetchError> {
        // The fragment is never sent.
        let url = source.url.split('#').next().unwrap_or_default();
        let cell = once(&self.downloads, url);
        let get = || download::get(&self.http, &self.store, url, source.checksum, &self.progress);
        let download = cell.get_or_try_init(get).await?;
        match source.checksum {
            Some(expected) if expected != download.blob.digest => {
                Err(FetchError::Mismatch { actual: download.blob.digest, expected })
            }
            _ => Ok(download.clone()),
        }
    }

    /// The commit that a repository's reference names now.
    async fn commit(&self, source: &GitSource, agent: Option<&Path>) -> Result<Found, FetchError> {
        let name = format!("{}#{}:{:?}", source.remote, source.reference, source.checksum);
        let cell = once(&self.commits, &name);
        let get = || async {
            let repository = self.repository(source, agent)?;
            blocking(move || repository.resolve()).await
        };
        cell.get_or_try_init(get).await.cloned()
    }

    /// The files of a repository.
    ///
    /// # Errors
    ///
    /// [`FetchError::Git`].
    pub async fn checkout(
        &self,
        source: &GitSource,
        agent: Option<&Path>,
    ) -> Result<Checkout, FetchError> {
        let repository = self.repository(source, agent)?;
        let task = Task::start(&self.progress, format!("fetch {}", repository.shown()));
        let commit = self.commit(source, agent).await?;
        task.note(commit.commit.clone());
        let checkout = blocking(move || repository.checkout(&commit)).await?;
        task.finish();
        Ok(checkout)
    }

    fn repository(
        &self,
        source: &GitSource,
        agent: Option<&Path>,
    ) -> Result<Repository, FetchError> {
        let git = Arc::clone(&self.git);
        Ok(Repository::new(&self.store, git, source.clone(), agent)?)
    }
}

fn once<T>(all: &Once<T>, name: &str) -> Arc<OnceCell<T>> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(name.to_owned()).or_default())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GitError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
