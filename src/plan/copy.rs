//! `COPY` and `ADD`: where from, what, where to (rules A068, A069, A106 to A137).
//!
//! Which files that means is not known here; `copy` looks at them.

use crate::dockerfile::{CopyInstruction, CopySource, Heredoc, Word};
use crate::plan::chmod;
use crate::plan::graph::Origin;
use crate::plan::stage::StagePlanner;
use crate::plan::{AddStep, CopyStep, PlanError, PlanErrorKind, Source, StepKind};

/// The name in `--from`, if there is one. The parser lets no variables through (rule A021).
pub(crate) fn from_name(it: &CopyInstruction) -> Option<&str> {
    it.from.as_ref().map(|from| from.value.as_str()).filter(|name| !name.is_empty())
}

impl StagePlanner<'_> {
    /// `COPY`
    pub(crate) fn copy(&mut self, it: &CopyInstruction) -> Result<(), PlanError> {
        let (step, words) = self.copy_step(it, |source| match kind_of(source) {
            SourceKind::Local => Ok(()),
            SourceKind::Url => Err(PlanErrorKind::CopyUrl),
            SourceKind::Git => Err(PlanErrorKind::CopyGit),
        })?;
        let title = match &it.from {
            Some(from) => format!("COPY --from={}{words}", from.value),
            None => format!("COPY{words}"),
        };
        self.step(format!("COPY{words} # buildkit"), &title, StepKind::Copy(step));
        Ok(())
    }

    /// `ADD`
    pub(crate) fn add(&mut self, it: &CopyInstruction) -> Result<(), PlanError> {
        if let Some(checksum) = &it.checksum {
            return Err(self.checksum(it).at(checksum.span));
        }
        if let Some(flag) = &it.keep_git_dir {
            return Err(not_supported("ADD --keep-git-dir", CLONE).at(flag.span));
        }
        let (copy, words) = self.copy_step(it, |source| match kind_of(source) {
            SourceKind::Local => Ok(()),
            SourceKind::Url => Err(not_supported("ADD of a URL", DOWNLOAD)),
            SourceKind::Git => Err(not_supported("ADD of a git repository", CLONE)),
        })?;
        let unpack = it.unpack.as_ref().map(|flag| flag.value);
        let kind = StepKind::Add(AddStep { copy, unpack });
        self.step(format!("ADD{words} # buildkit"), &format!("ADD{words}"), kind);
        Ok(())
    }

    /// What is wrong with a checksum.
    fn checksum(&self, it: &CopyInstruction) -> PlanErrorKind {
        let is_local = |word: &Word| {
            self.expand_word(word).is_ok_and(|path| kind_of(&path) == SourceKind::Local)
        };
        match it.sources.as_slice() {
            [CopySource::Path(word)] if !is_local(word) => {
                not_supported("ADD --checksum", DOWNLOAD)
            }
            [CopySource::Path(_)] => PlanErrorKind::ChecksumOfLocal,
            _ => PlanErrorKind::ChecksumOfSeveral,
        }
    }

    /// The step, and what history says of it after the keyword: `--from`, `--link` and
    /// `--exclude` are not told.
    fn copy_step(
        &self,
        it: &CopyInstruction,
        check: impl Fn(&str) -> Result<(), PlanErrorKind>,
    ) -> Result<(CopyStep, String), PlanError> {
        let origin = self.copy_origin(it)?;
        let sources = self.sources(it, check)?;
        let destination = self.expand(&it.destination)?;
        let chown = self.expand_flag(it.chown.as_ref())?;
        let chmod_text = self.expand_flag(it.chmod.as_ref())?;
        let chmod_span = it.chmod.as_ref().map_or(self.span, |word| word.span);
        let chmod = chmod_text.as_deref().map(chmod::parse).transpose();
        let chmod = chmod.map_err(|kind| kind.at(chmod_span))?;
        let parents = it.parents.as_ref().is_some_and(|flag| flag.value);

        let mut words = String::new();
        if parents {
            words.push_str(" --parents");
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod_text)] {
            words.extend(value.iter().map(|value| format!(" --{flag}={value}")));
        }
        for source in &sources {
            match source {
                Source::Path(path) => words.extend([" ", path]),
                Source::Inline { name, .. } => words.extend([" <<", name]),
            }
        }
        words.extend([" ", &destination]);

        let step = CopyStep {
            from: self.copy_from(origin.as_ref()),
            sources,
            destination,
            cwd: self.cwd(),
            chown,
            // With --chmod it is a plain copy (rule A127).
            link: it.link.as_ref().is_some_and(|flag| flag.value) && chmod.is_none(),
            chmod,
            parents,
            excludes: it.excludes.iter().map(|exclude| exclude.value.clone()).collect(),
        };
        Ok((step, words))
    }

    /// Stages can be copied from only if they come before this one (rule A054).
    fn copy_origin(&self, it: &CopyInstruction) -> Result<Option<Origin>, PlanError> {
        let fail = |kind: PlanErrorKind| kind.at(it.from.as_ref().map_or(self.span, |it| it.span));
        let Some(name) = from_name(it) else { return Ok(None) };
        let origin = self.graph.copy_source(name).map_err(fail)?;
        let node = &self.graph.nodes[self.index];
        match origin {
            // Only a trigger can get here: the graph has refused all others.
            Origin::Stage(index) if index == self.index => {
                Err(fail(PlanErrorKind::Circular(node.name.clone())))
            }
            Origin::Stage(index) if index > self.index => {
                let current = match &node.stage.name {
                    Some(name) => name.value.clone(),
                    None => format!("stage-{}", self.index),
                };
                let from = name.to_owned();
                Err(fail(PlanErrorKind::CopyFromLaterStage { from, current }))
            }
            origin => Ok(Some(origin)),
        }
    }

    /// Paths first, then heredocs, whatever their order on the line: as BuildKit does it.
    fn sources(
        &self,
        it: &CopyInstruction,
        check: impl Fn(&str) -> Result<(), PlanErrorKind>,
    ) -> Result<Vec<Source>, PlanError> {
        let mut sources = Vec::new();
        for source in &it.sources {
            if let CopySource::Path(word) = source {
                let path = self.expand(word)?;
                check(&path).map_err(|kind| kind.at(word.span))?;
                sources.push(Source::Path(path));
            }
        }
        for source in &it.sources {
            if let CopySource::Heredoc(heredoc) = source {
                let text = self.heredoc_text(heredoc)?;
                sources.push(Source::Inline { name: heredoc.name.clone(), text });
            }
        }
        Ok(sources)
    }

    /// The body, expanded unless its name was quoted (rule A033).
    fn heredoc_text(&self, heredoc: &Heredoc) -> Result<String, PlanError> {
        if !heredoc.expand {
            return Ok(heredoc.body.clone());
        }
        let span = heredoc.span;
        let word = Word { raw: heredoc.body.clone(), span, escape: '\\' };
        word.expand_body(&self.lookup(&word)).map_err(|error| PlanErrorKind::from(error).at(span))
    }

    /// A flag that is empty after expansion counts as not given.
    fn expand_flag(&self, flag: Option<&Word>) -> Result<Option<String>, PlanError> {
        let value = flag.map(|word| self.expand(word)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }
}

const DOWNLOAD: &str = "download it in a RUN step, or COPY a file that was downloaded before";
const CLONE: &str = "clone it in a RUN step, or COPY a clone that was made before";

fn not_supported(feature: &str, alternative: &'static str) -> PlanErrorKind {
    PlanErrorKind::NotSupported { feature: feature.to_owned(), alternative }
}

/// What a source is.
#[derive(Debug, PartialEq, Eq)]
enum SourceKind {
    Local,
    Url,
    Git,
}

/// BuildKit's way to tell: `https://x/y.git` is a repository, `https://x/y` a download.
fn kind_of(source: &str) -> SourceKind {
    let is_web = source.starts_with("http://") || source.starts_with("https://");
    if is_web {
        let path = source.split(['#', '?']).next().unwrap_or_default();
        let is_repository = path.strip_suffix(".git").is_some();
        return if is_repository { SourceKind::Git } else { SourceKind::Url };
    }
    if source.starts_with("git://") || source.starts_with("ssh://") || is_scp(source) {
        return SourceKind::Git;
    }
    SourceKind::Local
}

/// `git@host:path`
fn is_scp(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_name = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_name(user, "-_") && is_name(host, "-.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a130_urls_and_repositories_are_told_from_paths() {
        let check = |source: &str, expected| assert_eq!(kind_of(source), expected, "{source}");
        check("a.txt", SourceKind::Local);
        check("./http://x", SourceKind::Local);
        check("user@file", SourceKind::Local);
        check("a b@c:d", SourceKind::Local);
        check("https://x/y.tar.gz", SourceKind::Url);
        check("https://x/y.git#main:sub", SourceKind::Git);
        check("git@127.0.0.1:group/project.git", SourceKind::Git);
        check("git://x/y", SourceKind::Git);
        check("ssh://git@x/y", SourceKind::Git);
    }

    use crate::plan::testing::Setup;
    use crate::plan::{Chmod, CopyFrom, StageId};

    /// The last step of a stage after `FROM busybox AS src` and `FROM busybox`.
    #[track_caller]
    fn last(instructions: &str) -> (StepKind, String, String) {
        let text = format!("FROM busybox AS src\nRUN x\nFROM busybox\n{instructions}\n");
        let mut target = Setup::default().target_of(&text);
        let step = target.steps.pop().expect("a step");
        let created_by = target.config.history.pop().and_then(|it| it.created_by);
        (step.kind, step.title, created_by.unwrap_or_default())
    }

    #[track_caller]
    fn check_error(instruction: &str, expected: &str) {
        let text = format!("FROM busybox AS one\n{instruction}\nFROM busybox AS two\nFROM one\n");
        assert_eq!(Setup::default().errors(&text), [format!("2: {expected}")]);
    }

    #[test]
    fn a068_history_tells_some_flags_and_values_after_expansion() {
        let (kind, title, created_by) = last(
            "ENV D=dest O=1:2\nWORKDIR /w\nCOPY --from=SRC --chown=$O --chmod=0644 --exclude=*.x --parents a b ./$D/",
        );
        assert_eq!(created_by, "COPY --parents --chown=1:2 --chmod=0644 a b ./dest/ # buildkit");
        assert_eq!(title, "COPY --from=SRC --parents --chown=1:2 --chmod=0644 a b ./dest/");
        let expected = CopyStep {
            from: CopyFrom::Stage(StageId(0)),
            sources: vec![Source::Path("a".into()), Source::Path("b".into())],
            destination: "./dest/".into(),
            cwd: "/w".into(),
            chown: Some("1:2".into()),
            chmod: Some(Chmod::Octal(0o644)),
            link: false,
            parents: true,
            excludes: vec!["*.x".into()],
        };
        let StepKind::Copy(step) = kind else { panic!("not a COPY") };
        assert_eq!(step, expected);
    }

    #[test]
    fn a033_a131_heredocs_are_files_expanded_unless_quoted() {
        let (kind, _, created_by) =
            last("ENV V=1\nADD --unpack=false <<a <<'b' /d/\nv=$V \"q\"\na\nv=$V\nb");
        assert_eq!(created_by, "ADD <<a <<b /d/ # buildkit");
        let StepKind::Add(step) = kind else { panic!("not an ADD") };
        let inline =
            |name: &str, text: &str| Source::Inline { name: name.into(), text: text.into() };
        assert_eq!(step.copy.sources, [inline("a", "v=1 \"q\"\n"), inline("b", "v=$V\n")]);
        assert_eq!((step.unpack, step.copy.from), (Some(false), CopyFrom::Context));
    }

    #[test]
    fn a032_words_do_not_split_after_expansion() {
        let (kind, ..) = last("ENV F=\"a b\"\nCOPY --link $F /d/");
        let StepKind::Copy(step) = kind else { panic!("not a COPY") };
        assert_eq!((step.sources, step.link), (vec![Source::Path("a b".into())], true));
    }

    #[test]
    fn a127_link_is_no_link_with_chmod() {
        let (kind, ..) = last("COPY --link --chmod=+x a /d/");
        let StepKind::Copy(step) = kind else { panic!("not a COPY") };
        assert_eq!((step.link, step.chmod), (false, Some(Chmod::Symbolic("+x".into()))));
    }

    #[test]
    fn a054_a126_a130_what_cannot_be_copied() {
        check_error("COPY --from=7 a b", "invalid stage index 7");
        check_error(
            "COPY --from=two a b",
            "cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
        );
        check_error("COPY --from=one a b", "circular dependency detected on stage: one");
        check_error(
            "COPY --chmod=64a a b",
            "invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777",
        );
        check_error("COPY https://x/y /", "source can't be a URL for COPY");
        check_error("COPY git@x:y.git /", "source can't be a git ref for COPY");
        check_error("ADD https://x/y /", "ADD of a URL is not supported");
        check_error("ADD https://x/y.git /", "ADD of a git repository is not supported");
        check_error("ADD --checksum=sha256:1 a /", "checksum requires HTTP(S) or Git sources");
        check_error(
            "ADD --checksum=sha256:1 a b /",
            "checksum can't be specified for multiple sources",
        );
        check_error("ADD --checksum=sha256:1 http://x/y /", "ADD --checksum is not supported");
        check_error("ADD --keep-git-dir=true a /", "ADD --keep-git-dir is not supported");
    }
}
