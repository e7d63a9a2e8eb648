//! Options of other builders that coracle does not have, and what to write in their place.
//!
//! Sources: `docker buildx build --help`, `buildah build --help`, kaniko's README.

use std::ffi::OsString;

use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;

use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;

/// Options, each with the advice for whoever is used to it.
const OPTIONS: [(&[&str], &str); 22] = [
    (
        &["--cache-from", "--cache-to", "--cache", "--cache-dir", "--cache-repo", "--layers"],
        "steps are always cached, in the store: keep the directory of `--root` between builds",
    ),
    (
        &["--load"],
        "the image is in the store without it; for Docker, write `--output type=docker,dest=x.tar` \
         and `docker load -i x.tar`",
    ),
    (
        &["--provenance", "--sbom", "--attest"],
        "coracle makes no attestations: leave it out; `--metadata-file` says what was built from what",
    ),
    (&["--annotation"], "write `--label`"),
    (&["--squash", "--squash-all", "--single-snapshot"], "every step is a layer: leave it out"),
    (
        &["--rm", "--force-rm", "--compress", "--cleanup", "--force", "--builder"],
        "there is nothing like it here: leave it out",
    ),
    (&["-q", "--quiet"], "write `--progress quiet`"),
    (
        &["--cgroup-parent", "--cpu-shares", "--cpu-period", "--cpu-quota", "--cpuset-cpus"],
        "coracle makes no control groups: run all of it in one, as with `systemd-run --scope`",
    ),
    (
        &["--volume", "-v", "--device"],
        "write `RUN --mount=type=bind` or `type=cache` in the Dockerfile, with `--build-context` \
         for files of elsewhere",
    ),
    (&["--security-opt", "--cap-add", "--cap-drop"], "only `--allow security.insecure` is there"),
    (&["--dns", "--dns-search"], "commands see your own /etc/resolv.conf; `--add-host` adds names"),
    (&["--destination", "-d"], "write `--tag NAME --push`"),
    (&["--context", "-c"], "the context is an argument of its own: `coracle build CONTEXT`"),
    (&["--dockerfile"], "write `--file`"),
    (&["--no-push"], "only `--push` pushes: leave it out"),
    (&["--digest-file", "--image-name-with-digest-file"], "write `--metadata-file`"),
    (&["--tar-path", "--tarPath"], "write `--output type=docker,dest=FILE`"),
    (&["--oci-layout-path"], "write `--output type=oci,tar=false,dest=DIRECTORY`"),
    (&["--reproducible", "--timestamp"], "write `--build-arg SOURCE_DATE_EPOCH=0`"),
    (
        &["--insecure", "--insecure-pull", "--skip-tls-verify", "--skip-tls-verify-pull"],
        "write `--insecure-registry HOST`, or `--tls-verify=false`",
    ),
    (
        &[
            "--snapshot-mode",
            "--snapshotMode",
            "--use-new-run",
            "--ignore-path",
            "--storage-driver",
        ],
        "the kernel says what a step has changed: leave it out",
    ),
    (&["--skip-unused-stages"], "only what the target needs is ever built: leave it out"),
];

/// What to say of an option that `build` does not have and others do; `None` for all other mistakes.
/// `words` is the command line.
pub(crate) fn explain(
    error: &clap::Error,
    mut words: impl Iterator<Item = OsString>,
) -> Option<Failure> {
    if error.kind() != ErrorKind::UnknownArgument || !words.any(|word| word == "build") {
        return None;
    }
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let (_, advice) = OPTIONS.iter().find(|(names, _)| names.contains(&option.as_str()))?;
    let diagnostic = Diagnostic::new(format!("there is no option `{option}`"));
    Some(Failure::new(Exit::Usage, diagnostic.hinted(Some((*advice).to_owned()))))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Arguments;

    #[test]
    fn an_option_that_coracle_has_is_none_of_others() {
        let command = Arguments::command();
        let build = command.find_subcommand("build").expect("there is a build");
        for (names, _) in OPTIONS {
            for name in names {
                let word = name.trim_start_matches('-');
                let has = |it: &clap::Arg| {
                    it.get_long() == Some(word)
                        || it.get_short().map(String::from) == Some(word.into())
                };
                assert!(!build.get_arguments().any(has), "{name}");
            }
        }
    }

    #[test]
    fn only_unknown_options_of_others_are_explained() {
        let explained = |words: &[&str]| {
            let error = Arguments::command().try_get_matches_from(words).expect_err("a mistake");
            explain(&error, words.iter().map(OsString::from)).is_some()
        };
        assert!(explained(&["coracle", "build", "--cache-from=x", "."]));
        assert!(explained(&["coracle", "build", "--destination", "x", "."]));
        assert!(!explained(&["coracle", "build", "--no-cahce", "."]));
        assert!(!explained(&["coracle", "build"]));
        assert!(!explained(&["coracle", "images", "-v"]));
    }
}
