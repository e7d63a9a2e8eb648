//! The checks there are, with what BuildKit says of each.
//!
//! Descriptions are BuildKit's, word for word, because people search for them. What a check found
//! in one place is a [`Warning`](crate::dockerfile::Warning).
//!
//! Source: <https://docs.docker.com/reference/build-checks/>; rule A163.

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, such as `StageNameCasing`.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub description: &'static str,
    /// Whether it is off unless the Dockerfile asks for it.
    pub experimental: bool,
}

const fn rule(name: &'static str, description: &'static str) -> Rule {
    Rule { name, description, experimental: false }
}

/// All checks, in the order of BuildKit's documentation.
pub const RULES: [Rule; 22] = [
    rule("StageNameCasing", "Stage names should be lowercase"),
    rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword"),
    rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release"),
    rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    rule("DuplicateStageName", "Stage names should be unique"),
    rule("ReservedStageName", "Reserved words should not be used as stage names"),
    rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    rule("UndefinedArgInFrom", "FROM command must use declared ARGs"),
    rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    rule("UndefinedVar", "Variables should be defined before their use"),
    rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    rule("InvalidBaseImagePlatform", "Base image platform does not match expected target platform"),
    rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    rule("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands"),
    rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value"),
    rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore"),
    Rule {
        experimental: true,
        ..rule(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        )
    },
    rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase"),
    rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
];

impl Rule {
    /// The check of that name, whatever the case of its letters.
    pub fn find(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
    }

    /// Where the check is explained.
    pub fn url(&self) -> String {
        format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.kebab_name())
    }

    /// `JSONArgsRecommended` as `json-args-recommended`.
    fn kebab_name(&self) -> String {
        let letters: Vec<char> = self.name.chars().collect();
        let mut kebab = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let after_small = at > 0 && letters[at - 1].is_lowercase();
            let before_small = at > 0 && letters.get(at + 1).is_some_and(|it| it.is_lowercase());
            if letter.is_uppercase() && (after_small || before_small) {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        kebab
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a163_a_check_has_a_page_of_its_own() {
        let check = |name: &str, page: &str| {
            let rule = Rule::find(name).expect("the check is in the table");
            let url = format!("https://docs.docker.com/go/dockerfile/rule/{page}/");
            assert_eq!(rule.url(), url);
        };
        check("StageNameCasing", "stage-name-casing");
        check("JSONArgsRecommended", "json-args-recommended");
        check("secretsusedinargorenv", "secrets-used-in-arg-or-env");
        check("UndefinedVar", "undefined-var");
        check("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed");
    }

    #[test]
    fn a163_no_check_is_there_twice() {
        let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
        assert_eq!(Rule::find("NoSuchRule"), None);
    }
}
