//! `COPY` and `ADD`: where from, what, where to (rules A068, A069, A106 to A137).
//!
//! Which files that means is not known here; `copy` looks at them.

use crate::dockerfile::{CopyInstruction, CopySource, Heredoc, Spanned, Word};
use crate::plan::chmod;
use crate::plan::graph::Origin;
use crate::plan::remote;
use crate::plan::stage::StagePlanner;
use crate::plan::{
    AddStep, CopyFrom, CopyStep, GitSource, PlanError, PlanErrorKind, Remote, Source, StepKind,
    StepWords, UrlSource,
};

/// The name in `--from`, if there is one. The parser lets no variables through (rule A021).
pub(crate) fn from_name(it: &CopyInstruction) -> Option<&Spanned<String>> {
    it.from.as_ref().filter(|name| !name.value.is_empty())
}

impl StagePlanner<'_> {
    /// `FROM` a `--build-context` that is files: all of them, above nothing.
    pub(crate) fn of_files(&mut self, context: &str) {
        let all = CopyStep {
            from: CopyFrom::NamedContext(context.to_owned()),
            sources: vec![Source::Path("/".to_owned())],
            destination: "/".to_owned(),
            cwd: "/".to_owned(),
            chown: None,
            chmod: None,
            link: true,
            parents: false,
            excludes: Vec::new(),
        };
        let title = format!("FROM {context}");
        self.step(title.clone(), &title, StepKind::Copy(all), StepWords::default());
    }

    /// `COPY`
    pub(crate) fn copy(&mut self, it: &CopyInstruction) -> Result<(), PlanError> {
        let (step, words) = self.copy_step(it, |remote| match remote {
            Remote::Url(_) => Err(PlanErrorKind::CopyUrl),
            Remote::Git(_) => Err(PlanErrorKind::CopyGit),
        })?;
        let title = match &it.from {
            Some(from) => format!("COPY --from={}{words}", from.value),
            None => format!("COPY{words}"),
        };
        let places = self.places(it, &step);
        self.step(format!("COPY{words} # buildkit"), &title, StepKind::Copy(step), places);
        Ok(())
    }

    /// `ADD`
    pub(crate) fn add(&mut self, it: &CopyInstruction) -> Result<(), PlanError> {
        let checksum = self.expand_flag(it.checksum.as_ref())?;
        if let (Some(_), Some(word)) = (&checksum, &it.checksum) {
            self.check_checksum(it).map_err(|kind| kind.at(word.span))?;
        }
        let keep_git_dir = it.keep_git_dir.as_ref().map(|flag| flag.value);
        let copied = self.copy_step(it, |remote| match remote {
            Remote::Url(source) => {
                let checksum = checksum.as_deref().map(remote::checksum).transpose();
                let checksum = checksum.map_err(PlanErrorKind::BadChecksum)?;
                Ok(Remote::Url(UrlSource { checksum, ..source }))
            }
            Remote::Git(source) => with_flags(source, checksum.as_ref(), keep_git_dir),
        });
        let (copy, words) = copied.map_err(|error| match (&error.kind, &it.checksum) {
            (PlanErrorKind::BadChecksum(_), Some(word)) => error.kind.at(word.span),
            _ => error,
        })?;
        let unpack = it.unpack.as_ref().map(|flag| flag.value);
        let places = self.places(it, &copy);
        let kind = StepKind::Add(AddStep { copy, unpack });
        self.step(format!("ADD{words} # buildkit"), &format!("ADD{words}"), kind, places);
        Ok(())
    }

    /// A checksum is for one source, which has to be a remote one (rule A140).
    fn check_checksum(&self, it: &CopyInstruction) -> Result<(), PlanErrorKind> {
        let paths = it.sources.iter().filter_map(|source| match source {
            CopySource::Path(word) => Some(word),
            CopySource::Heredoc(_) => None,
        });
        let [word] = paths.collect::<Vec<_>>()[..] else {
            return Err(PlanErrorKind::ChecksumOfSeveral);
        };
        match Remote::parse(&self.expand_word(word)?) {
            Some(_) => Ok(()),
            None => Err(PlanErrorKind::ChecksumOfLocal),
        }
    }

    /// The step, and what history says of it after the keyword: `--from`, `--link` and
    /// `--exclude` are not told.
    fn copy_step(
        &self,
        it: &CopyInstruction,
        remote: impl Fn(Remote) -> Result<Remote, PlanErrorKind>,
    ) -> Result<(CopyStep, String), PlanError> {
        let origin = self.copy_origin(it)?;
        let sources = self.sources(it, remote)?;
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
                Source::Remote(remote) => words.extend([" ", remote.text()]),
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

    /// Where the words of the step are.
    fn places(&self, it: &CopyInstruction, step: &CopyStep) -> StepWords {
        let paths = it.sources.iter().filter_map(|source| match source {
            CopySource::Path(word) => Some(self.error_place(word.span)),
            CopySource::Heredoc(_) => None,
        });
        // Paths come before heredocs in the step too.
        let texts = step.sources.iter().map(|source| match source {
            Source::Path(text) => text.clone(),
            Source::Remote(remote) => remote.text().to_owned(),
            Source::Inline { name, .. } => name.clone(),
        });
        StepWords {
            sources: texts.zip(paths).collect(),
            chown: it.chown.as_ref().map(|word| self.error_place(word.span)),
            destination: Some(self.error_place(it.destination.span)),
            mounts: Vec::new(),
        }
    }

    /// Stages can be copied from only if they come before this one (rule A054).
    fn copy_origin(&self, it: &CopyInstruction) -> Result<Option<Origin>, PlanError> {
        let Some(name) = from_name(it) else { return Ok(None) };
        let fail = |kind: PlanErrorKind| kind.at(name.span);
        let origin = self.graph.copy_source(&name.value).map_err(fail)?;
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
                let from = name.value.clone();
                Err(fail(PlanErrorKind::CopyFromLaterStage { from, current }))
            }
            origin => Ok(Some(origin)),
        }
    }

    /// Paths first, then heredocs, whatever their order on the line: as BuildKit does it.
    fn sources(
        &self,
        it: &CopyInstruction,
        remote: impl Fn(Remote) -> Result<Remote, PlanErrorKind>,
    ) -> Result<Vec<Source>, PlanError> {
        let mut sources = Vec::new();
        for source in &it.sources {
            if let CopySource::Path(word) = source {
                let path = self.expand(word)?;
                let source = match Remote::parse(&path) {
                    None => Ok(Source::Path(path)),
                    Some(source) => {
                        source.map_err(PlanErrorKind::from).and_then(&remote).map(Source::Remote)
                    }
                };
                sources.push(source.map_err(|kind| kind.at(word.span))?);
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

/// The repository with what the flags of `ADD` say about it (rule A141).
fn with_flags(
    mut source: GitSource,
    checksum: Option<&String>,
    keep_git_dir: Option<bool>,
) -> Result<Remote, PlanErrorKind> {
    if let (Some(flag), Some(query)) = (checksum, &source.checksum)
        && flag != query
    {
        let (flag, query) = (flag.clone(), query.clone());
        return Err(PlanErrorKind::TwoChecksums { flag, query });
    }
    if keep_git_dir.is_some_and(|flag| source.keep_git_dir.is_some_and(|query| query != flag)) {
        return Err(PlanErrorKind::TwoKeepGitDirs);
    }
    source.keep_git_dir = source.keep_git_dir.or(keep_git_dir);
    source.checksum = source.checksum.or_else(|| checksum.cloned());
    Ok(Remote::Git(source))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check_error("ADD https://x/y.git?x=1 /", "unexpected query \"x\"");
        check_error("ADD --checksum=sha256:1 a /", "checksum requires HTTP(S) or Git sources");
        check_error(
            "ADD --checksum=sha256:1 a b /",
            "checksum can't be specified for multiple sources",
        );
        check_error("ADD --checksum=sha256:1 http://x/y /", "invalid checksum digest format");
        check_error("ADD --checksum=md5:1 http://x/y /", "unsupported digest algorithm");
        check_error(
            "ADD --checksum=abc https://x/y.git?commit=def /",
            "checksum mismatch \"abc\" != \"def\"",
        );
        check_error(
            "ADD --keep-git-dir=true https://x/y.git?keep-git-dir=false /",
            "inconsistent keep-git-dir configuration",
        );
    }

    #[test]
    fn a139_a140_a141_remote_sources_keep_their_place_and_take_the_flags() {
        let (kind, _, created_by) =
            last("ARG U=https://x\nADD b $U/f?q#g $U/r.git#main:d <<h /d/\nh");
        assert_eq!(created_by, "ADD b https://x/f?q#g https://x/r.git#main:d <<h /d/ # buildkit");
        let StepKind::Add(step) = kind else { panic!("not an ADD") };
        let [Source::Path(_), Source::Remote(url), Source::Remote(git), Source::Inline { .. }] =
            &step.copy.sources[..]
        else {
            panic!("{:?}", step.copy.sources)
        };
        let Remote::Url(url) = url else { panic!("{url:?}") };
        assert_eq!((&*url.name, url.checksum), ("f", None));
        let Remote::Git(git) = git else { panic!("{git:?}") };
        assert_eq!((&*git.reference, &*git.subdir), ("main", "d"));

        let sum = format!("sha256:{}", "1".repeat(64));
        let (kind, ..) = last(&format!("ARG S={sum}\nADD --checksum=$S http://x/f /d/"));
        let StepKind::Add(step) = kind else { panic!("not an ADD") };
        let [Source::Remote(Remote::Url(url))] = &step.copy.sources[..] else { panic!("{step:?}") };
        assert_eq!(url.checksum.map(|it| it.to_string()), Some(sum));

        let (kind, ..) = last("ADD --checksum=abc --keep-git-dir git://x/y /d/");
        let StepKind::Add(step) = kind else { panic!("not an ADD") };
        let [Source::Remote(Remote::Git(git))] = &step.copy.sources[..] else { panic!("{step:?}") };
        assert_eq!((git.checksum.as_deref(), git.keep_git_dir), (Some("abc"), Some(true)));
    }
}
