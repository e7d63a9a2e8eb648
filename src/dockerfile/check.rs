//! Checks: which warnings a Dockerfile wants to hear, and whether they are fatal.
//!
//! `# check=skip=A,B;error=true;experimental=C` at the top speaks for the whole file; a comment
//! `# check=skip=A` directly above an instruction speaks for that one. The checks themselves are in
//! `lint`, in the parsers, and, for those that need to know values, in `plan`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#check>; rules A163 and A164.

use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::{RULES, Rule, Span, suggest};

/// Something that works but should not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// BuildKit's name of the check, such as `MaintainerDeprecated`.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// What the `# check=` lines say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// Whether any warning that remains makes the build fail.
    pub fatal: bool,
    skip: Rules,
    experimental: Rules,
    /// What comments above single instructions skip.
    local: Vec<(Span, Rules)>,
}

/// A set of checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Rules {
    #[default]
    None,
    All,
    These(Vec<String>),
}

impl Rules {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            text => Self::These(text.split(',').map(|rule| rule.trim().to_owned()).collect()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::None | Self::All => [].as_slice(),
            Self::These(names) => names,
        };
        names.iter().map(String::as_str)
    }

    fn contains(&self, rule: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(rules) => rules.iter().any(|it| it.eq_ignore_ascii_case(rule)),
        }
    }
}

impl Checks {
    /// Reads the value of a `# check=` line, or of the build argument that takes its place.
    ///
    /// # Errors
    ///
    /// [`ParseErrorKind::InvalidCheckOption`] and [`ParseErrorKind::InvalidCheckValue`].
    pub fn parse(text: &str) -> Result<Self, ParseErrorKind> {
        let mut checks = Self::default();
        for option in text.trim().split(';').filter(|_| !text.trim().is_empty()) {
            let unknown =
                |option: &str| ParseErrorKind::InvalidCheckOption { option: option.to_owned() };
            let (name, value) = option.split_once('=').ok_or_else(|| unknown(option))?;
            match name.trim() {
                "skip" => checks.skip = Rules::parse(value),
                "experimental" => checks.experimental = Rules::parse(value),
                "error" => {
                    checks.fatal = parse_bool(value.trim()).ok_or_else(|| {
                        ParseErrorKind::InvalidCheckValue { option: option.to_owned() }
                    })?;
                }
                name => return Err(unknown(name)),
            }
        }
        Ok(checks)
    }

    /// Notes the comments above an instruction. One that is malformed is an ordinary comment.
    pub(crate) fn note_comments(&mut self, comments: &[String], instruction: Span) {
        for comment in comments {
            let option = comment.strip_prefix("check").map(str::trim_start);
            let Some(value) = option.and_then(|it| it.strip_prefix('=')) else { continue };
            if let Ok(local) = Self::parse(value) {
                self.local.push((instruction, local.skip));
            }
        }
    }

    /// Whether to show a warning of `rule` that stands at `span`.
    pub fn wants(&self, rule: &str, span: Span) -> bool {
        let here = |it: &Span| it.start <= span.start && span.start < it.end.max(it.start + 1);
        if self.local.iter().any(|(place, rules)| here(place) && rules.contains(rule)) {
            return false;
        }
        // `skip=all;experimental=X` leaves X, as in BuildKit: who names a check wants it.
        match Rule::find(rule) {
            Some(rule) if rule.experimental => self.experimental.contains(rule.name),
            _ => !self.skip.contains(rule),
        }
    }

    /// The names in `skip` and `experimental` that are no checks, with what was perhaps meant.
    /// They are ignored, but a person who misspelled one wants to know.
    pub fn unknown(&self) -> Vec<(&str, Option<&'static str>)> {
        let local = self.local.iter().map(|(_, rules)| rules);
        let names =
            [&self.skip, &self.experimental].into_iter().chain(local).flat_map(Rules::names);
        let unknown = names.filter(|name| !name.is_empty() && Rule::find(name).is_none());
        let known = RULES.map(|rule| rule.name);
        unknown.map(|name| (name, suggest::nearest(name, &known))).collect()
    }
}

/// What Go's `strconv.ParseBool` reads.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a164_options_select_the_checks() {
        let check = |options: &str, rule: &str, wanted| {
            let checks = Checks::parse(options).expect("the options are well formed");
            assert_eq!(checks.wants(rule, Span::default()), wanted, "{options}");
        };
        check("", "StageNameCasing", true);
        check("skip=all", "StageNameCasing", false);
        check("skip=all;experimental=InvalidDefinitionDescription", "StageNameCasing", false);
        check(
            "skip=all;experimental=InvalidDefinitionDescription",
            "InvalidDefinitionDescription",
            true,
        );
        check("skip=A, StageNameCasing ;error=true", "StageNameCasing", false);
        check("skip=A", "StageNameCasing", true);
        check("error=true", "InvalidDefinitionDescription", false);
        check("experimental=all", "InvalidDefinitionDescription", true);
        check("experimental=InvalidDefinitionDescription", "InvalidDefinitionDescription", true);
    }

    #[test]
    fn a164_names_that_are_no_checks_are_told() {
        let checks = Checks::parse("skip=StageNameCasin,all,Nonsense,UndefinedVar");
        let checks = checks.expect("the options are well formed");
        let expected =
            [("StageNameCasin", Some("StageNameCasing")), ("all", None), ("Nonsense", None)];
        assert_eq!(checks.unknown(), expected);
    }

    #[test]
    fn a164_mistakes_in_options_are_found() {
        let check = |options: &str, message: &str| {
            let error = Checks::parse(options).expect_err("the options are malformed");
            assert_eq!(error.to_string(), message);
        };
        check("skipp=all", "invalid check option \"skipp\"");
        check("skip", "invalid check option \"skip\"");
        check("error=perhaps", "failed to parse check option \"error=perhaps\": invalid syntax");
    }

    #[test]
    fn a164_a_comment_speaks_for_the_instruction_below() {
        let mut checks = Checks::default();
        checks.note_comments(&["check=skip=A".to_owned()], Span::new(10..20));
        assert!(!checks.wants("A", Span::new(10..12)));
        assert!(checks.wants("A", Span::new(20..21)));
        assert!(checks.wants("B", Span::new(10..12)));
    }
}
