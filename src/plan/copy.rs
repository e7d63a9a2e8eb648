//! `COPY` and `ADD`: where from, what, where to (rules A068, A069, A106 to A137).
//!
//! Which files that means is not known here; `copy` looks at them.

use crate::dockerfile::{CopyInstruction, CopySource, Heredoc, Word};
use crate::plan::chmod;
use crate::plan::graph::Origin;
use crate::plan::stage::StagePlanner;
use crate::plan::{AddStep, CopyStep, PlanError, PlanErrorKind, Source, StepKind};

/// The name in `--from`, if there is one: it takes no variables (rule A021).
pub(crate) fn from_name(it: &CopyInstruction) -> Result<Option<&str>, PlanErrorKind> {
    let Some(from) = it.from.as_ref().filter(|from| !from.value.is_empty()) else {
        return Ok(None);
    };
    let escape = it.destination.escape;
    let word = Word { raw: from.value.clone(), span: from.span, escape };
    if word.expand(&|_| None)? != from.value {
        return Err(PlanErrorKind::VariableInFrom);
    }
    Ok(Some(&from.value))
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
            return Err(not_supported("ADD --checksum", DOWNLOAD).at(checksum.span));
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
        let Some(name) = from_name(it).map_err(fail)? else { return Ok(None) };
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
        word.expand_body(&|name| self.lookup(&word, name))
            .map_err(|error| PlanErrorKind::from(error).at(span))
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
}
