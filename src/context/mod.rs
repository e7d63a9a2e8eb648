//! The build context: the files that `COPY` and `ADD` may read.
//!
//! [`BuildContext`] is a [`Tree`] over another one: a directory of the host, an archive, a
//! repository. What `.dockerignore` excludes does not exist in it (rules A142 to A149), and nothing
//! outside can be reached. [`ignore`] and [`glob`] are pure.

mod dir;
mod dockerignore;
mod error;
pub mod glob;
pub mod ignore;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::ignore::{Matches, Patterns};
use crate::layer::{Kind, Node, Tree, TreeError};
use crate::oci::ImagePath;

pub use crate::context::dir::HostDirectory;
pub use crate::context::dockerignore::dockerignore;
pub use crate::context::error::ContextError;

/// A file tree without what its ignore file excludes.
///
/// In a directory of the host all owners are 0:0 and there are no extended attributes, so a result
/// does not depend on who checked the files out. A file that changes while it is read is an error
/// that names it.
pub struct BuildContext {
    files: Box<dyn Tree>,
    ignore_file: String,
    patterns: Patterns,
    /// What the patterns say of directories, so that no path is matched from the root each time.
    matches: Mutex<BTreeMap<ImagePath, Arc<Matches>>>,
    /// Whether an excluded directory holds something that was taken back.
    holds_something: Mutex<BTreeMap<ImagePath, bool>>,
}

impl BuildContext {
    /// Opens the directory `dir`. `dockerignore` is the ignore file's name and text, as
    /// [`dockerignore()`] finds them.
    ///
    /// # Errors
    ///
    /// [`ContextError`].
    pub fn open(dir: &Path, dockerignore: Option<(String, String)>) -> Result<Self, ContextError> {
        Self::over(Box::new(HostDirectory::open(dir)?), dockerignore)
    }

    /// The same over any files.
    ///
    /// # Errors
    ///
    /// [`ContextError::Ignore`].
    pub fn over(
        files: Box<dyn Tree>,
        dockerignore: Option<(String, String)>,
    ) -> Result<Self, ContextError> {
        let (ignore_file, text) = dockerignore.unwrap_or_default();
        let patterns = Patterns::parse(&text)
            .map_err(|source| ContextError::Ignore { name: ignore_file.clone(), source })?;
        Ok(Self {
            files,
            ignore_file,
            patterns,
            matches: Mutex::default(),
            holds_something: Mutex::default(),
        })
    }

    /// The pattern of the ignore file that excludes `path`, as written.
    pub fn ignored_by(&self, path: &ImagePath) -> Option<String> {
        let (pattern, _) = self.patterns.decisive(&self.matches_of(path))?;
        Some(pattern.to_owned())
    }

    fn matches_of(&self, path: &ImagePath) -> Arc<Matches> {
        if self.patterns.is_empty() {
            return Arc::default();
        }
        let Some(parent) = path.parent() else { return Arc::default() };
        Arc::new(self.patterns.below(&self.directory_matches(&parent), path))
    }

    fn directory_matches(&self, path: &ImagePath) -> Arc<Matches> {
        if let Some(known) = lock(&self.matches).get(path) {
            return Arc::clone(known);
        }
        let matches = self.matches_of(path);
        lock(&self.matches).insert(path.clone(), Arc::clone(&matches));
        matches
    }

    /// Whether `path`, at which `node` stands, exists in the context. An excluded directory does
    /// if it holds something that a `!` pattern took back (rule A146).
    fn exists(&self, path: &ImagePath, node: &Node) -> Result<bool, TreeError> {
        if !self.matches_of(path).excluded() {
            return Ok(true);
        }
        Ok(node.kind == Kind::Directory && self.holds_something(path)?)
    }

    fn holds_something(&self, directory: &ImagePath) -> Result<bool, TreeError> {
        // Where no pattern can take anything back, the directory is not even read (rule A147).
        if !self.patterns.may_take_back_below(directory) {
            return Ok(false);
        }
        if let Some(known) = lock(&self.holds_something).get(directory) {
            return Ok(*known);
        }
        let mut found = false;
        for name in self.files.read_dir(directory)? {
            let child = directory.join(name);
            if let Some(node) = self.files.lookup(&child)?
                && self.exists(&child, &node)?
            {
                found = true;
                break;
            }
        }
        lock(&self.holds_something).insert(directory.clone(), found);
        Ok(found)
    }
}

impl Tree for BuildContext {
    fn lookup(&self, path: &ImagePath) -> Result<Option<Node>, TreeError> {
        match self.files.lookup(path)? {
            Some(node) if self.exists(path, &node)? => Ok(Some(node)),
            _ => Ok(None),
        }
    }

    fn read_dir(&self, path: &ImagePath) -> Result<Vec<Vec<u8>>, TreeError> {
        let mut names = Vec::new();
        for name in self.files.read_dir(path)? {
            let child = path.join(&name);
            if !self.matches_of(&child).excluded() || self.lookup(&child)?.is_some() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &ImagePath) -> Result<Box<dyn Read + Send>, TreeError> {
        if self.matches_of(path).excluded() {
            return Err(TreeError::NotAFile { path: path.clone() });
        }
        self.files.open(path)
    }

    fn hidden_by(&self, path: &ImagePath) -> Option<String> {
        // A pattern is not to blame for what is not there.
        self.files.lookup(path).ok()??;
        let matches = self.matches_of(path);
        let (pattern, line) = self.patterns.decisive(&matches)?;
        Some(format!("the pattern `{pattern}` in line {line} of `{}`", self.ignore_file))
    }
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildContext").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

/// What a thread that panicked left in the cache is as true as the rest.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
