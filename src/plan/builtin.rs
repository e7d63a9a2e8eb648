//! Arguments that nobody has to declare: the platforms (rule A045), the proxies (rule A046), and what
//! is said to the builder itself.

use std::collections::BTreeMap;

use crate::oci::Platform;
use crate::plan::scope::Scope;

/// What the ids of all caches begin with.
pub(crate) const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// What is said to the builder, and not to the Dockerfile. Those about histories and names of builds
/// are for the tools around BuildKit.
///
/// Source: <https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args>.
const TO_THE_BUILDER: [&str; 8] = [
    "BUILDKIT_BUILD_NAME",
    CACHE_NAMESPACE,
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_HISTORY_PROVENANCE_V1",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "SOURCE_DATE_EPOCH",
];

const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether a build argument counts without an `ARG`. The platforms' do not: they are global arguments.
pub(crate) fn counts_undeclared(name: &str) -> bool {
    TO_THE_BUILDER.contains(&name) || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// The automatic global arguments, each of them overridden by a build argument of its name.
pub(crate) fn platform_args(
    build: &Platform,
    target: &Platform,
    stage: &str,
    build_args: &BTreeMap<String, String>,
) -> Scope {
    let mut scope = Scope::default();
    let mut set = |name: &str, value: &str| {
        scope.set(name, build_args.get(name).map_or(value, String::as_str));
    };
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        set(&format!("{prefix}PLATFORM"), &platform.to_string());
        set(&format!("{prefix}OS"), &platform.os);
        set(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or_default());
        set(&format!("{prefix}ARCH"), &platform.architecture);
        set(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or_default());
    }
    set("TARGETSTAGE", if stage.is_empty() { "default" } else { stage });
    scope
}

/// The proxy variables for `RUN`, in both spellings, except those that the Dockerfile sets.
pub(crate) fn proxy_environment(
    build_args: &BTreeMap<String, String>,
    scope: &Scope,
) -> Vec<String> {
    let mut environment = Vec::new();
    for name in PROXIES {
        let given = build_args.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name));
        let Some((_, value)) = given else { continue };
        for spelling in [name.to_owned(), name.to_ascii_lowercase()] {
            if scope.get(&spelling).is_none() {
                environment.push(format!("{spelling}={value}"));
            }
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a045_platforms_and_the_target_stage_are_arguments() {
        let build: Platform = "linux/amd64".parse().expect("a platform");
        let target: Platform = "linux/arm/v7".parse().expect("a platform");
        let scope = platform_args(&build, &target, "", &args(&[("TARGETOS", "mine")]));
        let expected = [
            "BUILDPLATFORM=linux/amd64",
            "BUILDOS=linux",
            "BUILDOSVERSION=",
            "BUILDARCH=amd64",
            "BUILDVARIANT=",
            "TARGETPLATFORM=linux/arm/v7",
            "TARGETOS=mine",
            "TARGETOSVERSION=",
            "TARGETARCH=arm",
            "TARGETVARIANT=v7",
            "TARGETSTAGE=default",
        ];
        assert_eq!(scope.to_environment(), expected);
    }

    #[test]
    fn a046_proxies_are_given_in_both_spellings_unless_declared() {
        let mut scope = Scope::default();
        scope.set("NO_PROXY", "x");
        let given = args(&[("http_proxy", "p"), ("NO_PROXY", "n"), ("OTHER", "o")]);
        let environment = proxy_environment(&given, &scope);
        assert_eq!(environment, ["HTTP_PROXY=p", "http_proxy=p", "no_proxy=n"]);
    }
}
