//! Which ignore file counts: the Dockerfile's own, or the context's.

use std::path::{Path, PathBuf};

/// Finds the ignore file of a build: its name, for messages, and its text (rule A142).
///
/// `<Dockerfile>.dockerignore` beside the Dockerfile wins, even when it is empty, over
/// `.dockerignore` in the context. They are not merged. A `dockerfile` of `None` has no place where
/// one could be beside it. `read` gives a file's text, or `None` where there is no file.
///
/// # Errors
///
/// What `read` fails with.
pub fn dockerignore<E>(
    dockerfile: Option<&Path>,
    context: &Path,
    read: impl Fn(&Path) -> Result<Option<String>, E>,
) -> Result<Option<(String, String)>, E> {
    let own = dockerfile.map(|dockerfile| {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        PathBuf::from(own)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        if let Some(text) = read(&path)? {
            let name = path.file_name().unwrap_or(path.as_os_str());
            return Ok(Some((name.to_string_lossy().into_owned(), text)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a142_the_file_beside_the_dockerfile_wins() {
        let check = |files: &[&str], expected: Option<&str>| {
            let dockerfile = Some(Path::new("ci/x.Dockerfile"));
            let read = |path: &Path| -> Result<_, ()> {
                let name = path.to_string_lossy();
                Ok(files.contains(&&*name).then(|| name.into_owned()))
            };
            let found = dockerignore(dockerfile, Path::new("/src"), read);
            let text = found.expect("no I/O").map(|(_, text)| text);
            assert_eq!(text.as_deref(), expected);
        };
        let (own, common) = ("ci/x.Dockerfile.dockerignore", "/src/.dockerignore");
        check(&[own, common], Some(own));
        check(&[common], Some(common));
        check(&["ci/.dockerignore", "/src/x.Dockerfile.dockerignore"], None);
    }
}
