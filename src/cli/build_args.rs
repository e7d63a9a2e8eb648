//! Reads `--build-arg` and `--build-arg-file`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;

/// All build arguments. `--build-arg` beats the files, and among each the last one counts.
pub(crate) fn build_args(
    files: &[impl AsRef<Path>],
    arguments: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for path in files {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let title = format!("cannot read the build arguments in `{}`", path.display());
            let diagnostic = Diagnostic::new(title).note("cause", error.to_string());
            Failure::new(Exit::Usage, diagnostic)
        })?;
        all.extend(lines(&text).filter_map(|line| pair(line, environment)));
    }
    all.extend(arguments.iter().filter_map(|argument| pair(argument, environment)));
    Ok(all)
}

/// The lines that say something: neither empty nor comments. Values are taken as they are.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `NAME` alone takes its value from the environment, and is left out where that has none.
fn pair(text: &str, environment: &Environment) -> Option<(String, String)> {
    if let Some((name, value)) = text.split_once('=') {
        return Some((name.to_owned(), value.to_owned()));
    }
    let name = text.trim_end();
    Some((name.to_owned(), environment.text(name)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_an_argument_a_line_and_the_command_line_beats_it() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = "# comment\n\nA=1\n  B=\"2\" # kept\nC=\nCORACLE_UNSET\nD=file\n";
        std::fs::write(file.path(), text).expect("writable");
        let args = build_args(&[file.path()], &["D=line".to_owned()], &Environment::read());
        let args = args.map_err(|_| "a failure").expect("readable");
        let pairs: Vec<(&str, &str)> = args.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "\"2\" # kept"), ("C", ""), ("D", "line")]);
    }
}
