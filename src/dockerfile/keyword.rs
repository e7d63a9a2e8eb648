//! Keywords: the names of the instructions.

/// The name of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
}

const KEYWORDS: [(&str, Keyword); 18] = [
    ("ADD", Keyword::Add),
    ("ARG", Keyword::Arg),
    ("CMD", Keyword::Cmd),
    ("COPY", Keyword::Copy),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("ENV", Keyword::Env),
    ("EXPOSE", Keyword::Expose),
    ("FROM", Keyword::From),
    ("HEALTHCHECK", Keyword::Healthcheck),
    ("LABEL", Keyword::Label),
    ("MAINTAINER", Keyword::Maintainer),
    ("ONBUILD", Keyword::OnBuild),
    ("RUN", Keyword::Run),
    ("SHELL", Keyword::Shell),
    ("STOPSIGNAL", Keyword::StopSignal),
    ("USER", Keyword::User),
    ("VOLUME", Keyword::Volume),
    ("WORKDIR", Keyword::Workdir),
];

impl Keyword {
    /// Reads a keyword in any case (rule A012).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let found = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, keyword)| *keyword)
    }

    /// Every keyword's name, for suggestions.
    pub(crate) fn names() -> Vec<&'static str> {
        KEYWORDS.iter().map(|(name, _)| *name).collect()
    }

    /// The name, in upper case.
    pub(crate) fn name(self) -> &'static str {
        let found = KEYWORDS.iter().find(|(_, keyword)| *keyword == self);
        found.expect("every keyword is in the table").0
    }

    /// Whether the instruction can have heredocs of its own (rule A015).
    pub(crate) fn takes_heredocs(self) -> bool {
        matches!(self, Self::Add | Self::Copy | Self::Run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a012_keywords_are_read_in_any_case() {
        assert_eq!(Keyword::parse("oNbUiLd"), Some(Keyword::OnBuild));
        assert_eq!(Keyword::parse("RUNN"), None);
        for (name, keyword) in KEYWORDS {
            assert_eq!((Keyword::parse(name), keyword.name()), (Some(keyword), name));
        }
    }
}
