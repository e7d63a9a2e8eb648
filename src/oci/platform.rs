//! Platforms: which machine an image is for, and which of several images fits a machine best.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md>; rule B051.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Operating system and processor. Names are Go's (`linux`, `amd64`), normalised by [`FromStr`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, as Go names it.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, as Go names it.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system (Windows alone uses it).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed.
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// The variant of the processor, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was compiled for.
    pub fn host() -> Self {
        let (architecture, variant) = normalise_architecture(std::env::consts::ARCH, None);
        Self { architecture, os: "linux".to_owned(), variant, ..Self::default() }
    }

    /// The same platform with aliases resolved: `aarch64` is `arm64`, `arm` alone is `v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let (architecture, variant) =
            normalise_architecture(&self.architecture, self.variant.as_deref());
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            "" => "linux".to_owned(),
            other => other.to_owned(),
        };
        Self { architecture, os, variant, ..self.clone() }
    }

    /// How well an image for `offered` runs here: 0 is exactly right, more is an older variant,
    /// `None` is not at all.
    pub fn fit(&self, offered: &Self) -> Option<usize> {
        let (wanted, offered) = (self.normalised(), offered.normalised());
        let same = wanted.os == offered.os && wanted.architecture == offered.architecture;
        if !same {
            return None;
        }
        wanted.variants().iter().position(|variant| *variant == offered.variant)
    }

    /// The variants that run here, best first.
    fn variants(&self) -> Vec<Option<String>> {
        let own = self.variant.clone();
        let number = own.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok());
        let older: Vec<Option<String>> = match (self.architecture.as_str(), number) {
            ("arm", Some(number)) => (5..number).rev().map(|n| Some(format!("v{n}"))).collect(),
            ("amd64", Some(number)) => {
                (2..number).rev().map(|n| Some(format!("v{n}"))).chain([None]).collect()
            }
            ("arm64", Some(_)) => vec![None],
            _ => vec![],
        };
        [own].into_iter().chain(older).collect()
    }
}

fn normalise_architecture(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_ascii_lowercase);
    let variant = variant.as_deref();
    let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
        "i386" | "x86" => ("386".to_owned(), None),
        "x86_64" | "x86-64" => ("amd64".to_owned(), variant),
        "aarch64" => ("arm64".to_owned(), variant),
        "armhf" => ("arm".to_owned(), Some("v7")),
        "armel" => ("arm".to_owned(), Some("v6")),
        other => (other.to_owned(), variant),
    };
    let variant = match (architecture.as_str(), variant) {
        ("arm64", Some("8" | "v8")) | ("amd64", Some("v1")) => None,
        ("arm", None | Some("7")) => Some("v7".to_owned()),
        ("arm", Some(number @ ("5" | "6" | "8"))) => Some(format!("v{number}")),
        (_, variant) => variant.map(str::to_owned),
    };
    (architecture, variant)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; write it as `os/architecture` or `os/architecture/variant`")]
pub struct ParsePlatformError(pub String);

impl FromStr for Platform {
    type Err = ParsePlatformError;

    /// Reads `os/arch[/variant]`, or an operating system or architecture alone.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePlatformError(text.to_owned());
        let is_name = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| is_name(part)) {
            return Err(error());
        }
        let platform = |os: &str, architecture: &str, variant: Option<&str>| Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        };
        let parsed = match parts[..] {
            [only] if KNOWN_OS.contains(&only.to_ascii_lowercase().as_str()) => {
                Self { os: only.to_owned(), ..Self::host() }
            }
            [only] if is_known_architecture(only) => platform("linux", only, None),
            [os, architecture] => platform(os, architecture, None),
            [os, architecture, variant] => platform(os, architecture, Some(variant)),
            _ => return Err(error()),
        };
        Ok(parsed.normalised())
    }
}

const KNOWN_OS: [&str; 10] = [
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "android", "solaris", "aix",
    "wasip1",
];

fn is_known_architecture(text: &str) -> bool {
    const KNOWN: [&str; 14] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
        "ppc64le", "riscv64", "s390x", "wasm",
    ];
    KNOWN.contains(&normalise_architecture(text, None).0.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect(text)
    }

    #[test]
    fn b051_aliases_are_normalised() {
        let check = |text: &str, expected: &str| assert_eq!(platform(text).to_string(), expected);
        check("linux/x86_64", "linux/amd64");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("linux/armhf", "linux/arm/v7");
        check("arm64", "linux/arm64");
    }

    #[test]
    fn b051_an_older_variant_fits_less_well_and_a_newer_one_not_at_all() {
        let check = |wanted: &str, offered: &str, fit| {
            assert_eq!(platform(wanted).fit(&platform(offered)), fit, "{offered} for {wanted}");
        };
        check("linux/arm/v7", "linux/arm/v7", Some(0));
        check("linux/arm/v7", "linux/arm/v6", Some(1));
        check("linux/arm/v6", "linux/arm/v7", None);
        check("linux/amd64", "linux/arm64", None);
        check("linux/arm64", "linux/arm64/v8", Some(0));
        check("linux/amd64/v3", "linux/amd64", Some(2));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "linux/", "linux/a/b/c", "foo", "linux/a b"] {
            assert_eq!(text.parse::<Platform>(), Err(ParsePlatformError(text.into())));
        }
    }
}
