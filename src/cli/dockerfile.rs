//! The Dockerfile, and the ignore file that goes with it: where they are and what they say.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::args::BuildArguments;
use crate::cli::context::Files;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::context;
use crate::context::BuildContext;
use crate::dockerfile::Source;
use crate::layer::Tree;
use crate::oci::ImagePath;

/// Dockerfiles beyond this size are a mistake.
const LIMIT: u64 = 16 << 20;

/// The Dockerfile, and the context without what its ignore file excludes.
pub(crate) fn read(
    arguments: &BuildArguments,
    files: Files,
) -> Result<(Source, BuildContext), Failure> {
    let file = arguments.file.as_deref();
    let is_stdin = |path: &Path| path == Path::new("-");
    if file.is_some_and(is_stdin) && is_stdin(&arguments.context) {
        let title = "standard input cannot be both the build context and the Dockerfile";
        let hint = "name a directory or an archive as the context";
        return Err(usage(title, Some(hint)));
    }
    match files {
        Files::Directory(directory) => of_directory(&directory, file),
        Files::Tree(tree, _) => of_tree(tree, file),
        Files::Dockerfile(text, alone) => {
            if let Some(file) = file {
                let title = format!(
                    "`--file {}`: the build context is a Dockerfile itself",
                    file.display()
                );
                return Err(usage(&title, Some("leave out `--file`")));
            }
            Ok((source_of("Dockerfile", text, "the build context")?, over(alone, None)?))
        }
    }
}

/// In a directory: `--file` is a path of this machine.
fn of_directory(directory: &Path, file: Option<&Path>) -> Result<(Source, BuildContext), Failure> {
    let path = match file {
        Some(path) if path == Path::new("-") => {
            return Ok((standard_input()?, local(directory, None)?));
        }
        Some(path) => path.to_owned(),
        None => directory.join("Dockerfile"),
    };
    let name = path.display().to_string();
    let opened = File::open(&path).map_err(|error| {
        let title = format!("cannot read the Dockerfile `{name}`");
        let hint = "name it with `--file`; it is looked for in the context as `Dockerfile`";
        let diagnostic = Diagnostic::new(title).note("cause", error.to_string());
        Failure::new(Exit::Usage, diagnostic.hinted(Some(hint.to_owned())))
    })?;
    // People look for `Dockerfile:12`, not for a path that they have just typed.
    let shown = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
    Ok((source_of(&shown, opened, &name)?, local(directory, Some(&path))?))
}

/// The directory, less what the ignore file excludes. `dockerfile` is the Dockerfile, if it is a
/// file that may have an ignore file of its own.
pub(crate) fn local(directory: &Path, dockerfile: Option<&Path>) -> Result<BuildContext, Failure> {
    let read = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => ignore_text(path, bytes).map(Some),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => Ok(None),
            // What it excludes must not be copied, so nobody may go on without it.
            _ => Err(usage(&format!("cannot read `{}`: {error}", path.display()), None)),
        },
    };
    let found = context::dockerignore(dockerfile, directory, read)?;
    BuildContext::open(directory, found).map_err(|error| failed(&error))
}

/// In other files: `--file` is a path in them.
fn of_tree(tree: Box<dyn Tree>, file: Option<&Path>) -> Result<(Source, BuildContext), Failure> {
    let read = |path: &Path| {
        let path = ImagePath::new(path.as_os_str().as_encoded_bytes());
        tree.read(&path, LIMIT).map_err(|error| {
            let diagnostic = Diagnostic::of(&error);
            Failure::new(Exit::Usage, diagnostic.prefixed("cannot read the build context: "))
        })
    };
    let path = match file {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.to_owned()),
        None => Some(PathBuf::from("Dockerfile")),
    };
    let source = match &path {
        None => standard_input()?,
        Some(path) => {
            let name = path.display().to_string();
            let bytes = read(path)?.ok_or_else(|| {
                let title = format!("the build context has no Dockerfile `{name}`");
                let hint = "`--file` names a file in the context, or `-` for standard input";
                usage(&title, Some(hint))
            })?;
            source_of(&name, &*bytes, &name)?
        }
    };
    let read = |path: &Path| read(path)?.map(|bytes| ignore_text(path, bytes)).transpose();
    let ignore = context::dockerignore(path.as_deref(), Path::new(""), read)?;
    Ok((source, over(tree, ignore)?))
}

/// The text of an ignore file. A pattern with something else in place of a letter would not exclude
/// what it is there for.
fn ignore_text(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        usage(&format!("line {line} of `{name}` is not UTF-8"), Some("save the file as UTF-8"))
    })
}

fn over(tree: Box<dyn Tree>, ignore: Option<(String, String)>) -> Result<BuildContext, Failure> {
    BuildContext::over(tree, ignore).map_err(|error| failed(&error))
}

fn standard_input() -> Result<Source, Failure> {
    source_of("Dockerfile", std::io::stdin().lock(), "standard input")
}

/// The Dockerfile that errors will call `shown`, from a file called `name`.
fn source_of(shown: &str, reader: impl Read, name: &str) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    let read = reader.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| usage(&format!("cannot read `{name}`: {error}"), None))?;
    if bytes.len() as u64 > LIMIT {
        let title = format!("`{name}` is larger than 16 MiB, which no Dockerfile is");
        return Err(usage(&title, None));
    }
    if [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)) {
        return Err(usage(&format!("`{name}` is UTF-16"), Some("save it as UTF-8")));
    }
    if bytes.contains(&0) && std::str::from_utf8(&bytes).is_err() {
        return Err(usage(
            &format!("`{name}` is not a text"),
            Some("name a Dockerfile with `--file`"),
        ));
    }
    Ok(Source::decode(shown, &bytes))
}

fn failed(error: &context::ContextError) -> Failure {
    Failure::from_error(Exit::Usage, error, error.hint())
}

fn usage(title: &str, hint: Option<&str>) -> Failure {
    Failure::new(Exit::Usage, Diagnostic::new(title).hinted(hint.map(str::to_owned)))
}
