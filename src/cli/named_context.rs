//! `--build-context NAME=PLACE`: files and images under names of the command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::build::Workshop;
use crate::cli::context;
use crate::cli::context::DOWNLOADED;
use crate::cli::context::Files;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::dockerfile;
use crate::cli::exit::Exit;
use crate::cli::failure;
use crate::cli::session::Session;
use crate::cli::session::block_on;
use crate::context::BuildContext;
use crate::fetch::DownloadedFile;
use crate::image;
use crate::image::LayoutName;
use crate::oci::Reference;
use crate::plan::GitSource;
use crate::plan::NamedContext;
use crate::plan::UrlSource;

/// How a context may be given.
const FORMS: &str = "write it as `name=directory`, `name=docker-image://reference`, \
                     `name=oci-layout://directory[:tag]`, or with the URL of a file or of a git \
                     repository";

/// The registry that images from a directory seem to come from. No such host can exist (RFC 2606).
const NOWHERE: &str = "oci-layout.invalid";

/// Names, and the files of those that are not images.
#[derive(Debug, Default)]
pub(crate) struct NamedContexts {
    /// What each name stands for.
    pub(crate) names: BTreeMap<String, NamedContext>,
    /// The files, by the same names.
    pub(crate) files: BTreeMap<String, Arc<BuildContext>>,
}

/// Where a named context is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NamedPlace<'a> {
    Directory(&'a Path),
    Scratch,
    Image(Reference),
    Layout(&'a str),
    Url(UrlSource),
    Git(GitSource),
}

impl<'a> NamedPlace<'a> {
    /// Reads what stands after the `=`.
    fn of(text: &'a str) -> Result<Self, Failure> {
        let usage = |error: &dyn std::error::Error| Failure::from_error(Exit::Usage, error, None);
        if Path::new(text).is_dir() {
            return Ok(Self::Directory(Path::new(text)));
        }
        if let Some(source) = GitSource::parse(text) {
            return source.map(Self::Git).map_err(|error| usage(&error));
        }
        if let Some(source) = UrlSource::parse(text) {
            // Whatever its own name is, it is called so in the context, as in BuildKit.
            return Ok(Self::Url(UrlSource { name: DOWNLOADED.to_owned(), ..source }));
        }
        match text.split_once("://") {
            Some(("docker-image", "scratch")) => Ok(Self::Scratch),
            Some(("docker-image", name)) => {
                name.parse().map(Self::Image).map_err(|error| usage(&error))
            }
            Some(("oci-layout", place)) => Ok(Self::Layout(place)),
            Some((scheme, _)) => {
                let title = format!("`--build-context` cannot use `{scheme}://`");
                Err(Failure::new(Exit::Usage, Diagnostic::new(title).hinted(Some(FORMS.into()))))
            }
            None => Ok(Self::Directory(Path::new(text))),
        }
    }
}

/// Splits each argument into the name, which ignores case, and the place.
fn split(arguments: &[String]) -> Result<Vec<(String, NamedPlace<'_>)>, Failure> {
    let mut places = Vec::new();
    for argument in arguments {
        let Some((name, place)) = argument.split_once('=') else {
            let title = format!("`--build-context {argument}` has no `=`");
            let diagnostic = Diagnostic::new(title).hinted(Some(FORMS.into()));
            return Err(Failure::new(Exit::Usage, diagnostic));
        };
        places.push((name.to_ascii_lowercase(), NamedPlace::of(place)?));
    }
    Ok(places)
}

/// Whether all of them can be read without a store.
pub(crate) fn are_directories(arguments: &[String]) -> Result<bool, Failure> {
    let is_here = |place: &NamedPlace<'_>| {
        matches!(place, NamedPlace::Directory(_) | NamedPlace::Image(_) | NamedPlace::Scratch)
    };
    Ok(split(arguments)?.iter().all(|(_, place)| is_here(place)))
}

/// Fetches what is elsewhere. Without a workshop everything has to be here.
pub(crate) fn read(
    arguments: &[String],
    session: &Session<'_>,
    workshop: Option<&Workshop>,
) -> Result<NamedContexts, Failure> {
    let mut contexts = NamedContexts::default();
    for (name, place) in split(arguments)? {
        let (context, files) = open(&name, place, session, workshop)?;
        contexts.files.extend(files.map(|files| (name.clone(), Arc::new(files))));
        contexts.names.insert(name, context);
    }
    Ok(contexts)
}

fn open(
    name: &str,
    place: NamedPlace<'_>,
    session: &Session<'_>,
    workshop: Option<&Workshop>,
) -> Result<(NamedContext, Option<BuildContext>), Failure> {
    let needs = || workshop.expect("a workshop is made where not everything is here");
    let whole = |files| BuildContext::over(files, None).expect("no pattern is malformed");
    let files = match place {
        NamedPlace::Scratch => return Ok((NamedContext::Scratch, None)),
        NamedPlace::Image(reference) => return Ok((NamedContext::Image(reference), None)),
        NamedPlace::Layout(place) => {
            let reference = import(name, place, needs())?;
            return Ok((NamedContext::Image(reference), None));
        }
        NamedPlace::Directory(path) => dockerfile::local(path, None)?,
        NamedPlace::Git(source) => match context::checkout(&source, session, needs())? {
            Files::Tree(tree, _) => whole(tree),
            Files::Directory(_) | Files::Dockerfile(..) => unreachable!("a checkout is a tree"),
        },
        NamedPlace::Url(source) => {
            let workshop = needs();
            let download = block_on(&workshop.cancel, async {
                let download = workshop.fetcher.download(&source).await;
                download.map_err(|error| failure::fetch(&error))
            })?;
            let file = DownloadedFile::new(&workshop.store, &source.name, &download);
            whole(Box::new(file))
        }
    };
    Ok((NamedContext::Files, Some(files)))
}

/// Takes an image of a layout into the store. Its name says by digest what it is, so nobody will be
/// asked for it.
fn import(name: &str, place: &str, workshop: &Workshop) -> Result<Reference, Failure> {
    let (directory, wanted) = LayoutName::split(place);
    let descriptor = image::import_one(&workshop.store, directory, &wanted)
        .map_err(|error| failure::image(&error))?;
    let named = |name: &str| format!("{NOWHERE}/{name}@{}", descriptor.digest).parse();
    let reference = named(name).or_else(|_| named("context"));
    Ok(reference.expect("a fixed name and a digest are a reference"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_their_form() {
        let check = |text: &str, expected: &str| {
            let place = NamedPlace::of(text).ok().map(|place| format!("{place:?}"));
            let place = place.as_deref().unwrap_or("error");
            assert!(place.starts_with(expected), "{text}: {place}");
        };
        check("dir", "Directory");
        check("docker-image://busybox", "Image");
        check("docker-image://scratch", "Scratch");
        check("docker-image://UPPER", "error");
        check("oci-layout:///x:tag", "Layout");
        check("https://x/y", "Url");
        check("https://x/y.git#z", "Git");
        check("git@x:y", "Git");
        check("target:x", "Directory");
        check("ftp://x/y", "error");
    }

    #[test]
    fn names_ignore_case_and_places_may_hold_an_equals_sign() {
        let arguments = ["Extra=https://x/y?a=b".to_owned()];
        let places = split(&arguments).expect("well formed");
        assert_eq!(places[0].0, "extra");
        assert!(matches!(&places[0].1, NamedPlace::Url(source) if source.url == "https://x/y?a=b"));
        assert!(split(&["nothing".to_owned()]).is_err());
        assert_eq!(are_directories(&arguments).ok(), Some(false));
        assert_eq!(are_directories(&["a=.".to_owned()]).ok(), Some(true));
    }
}
