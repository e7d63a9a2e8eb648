//! The image config: what a container of the image runs, and how the image was made.
//!
//! `oci-spec`'s type knows only the OCI fields, and would drop `Healthcheck`, `Shell`, `OnBuild`
//! and `ArgsEscaped` of a base image without a word. This one knows Docker's fields too and keeps
//! every field that it does not know.
//!
//! Specs: <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>,
//! <https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md>.

#![expect(clippy::zero_sized_map_values, reason = "the format on the wire is a map to `{}`")]

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::oci::{DiffId, Platform, Timestamp};

/// The whole config file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made it (`MAINTAINER`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The platform; on the wire its four fields stand directly in the config.
    #[serde(flatten)]
    pub platform: Platform,
    /// What a container of the image runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How each layer was made.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Every field that this type does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a container of the image runs, and in which surroundings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// User, or user and group, as written in `USER`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports, as `80/tcp`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// The environment, as `NAME=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program. `None` and `Some([])` differ: rule A086.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Whether `Cmd` is one string for a Windows shell; BuildKit sets it with every `CMD`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Directories that hold data of the container's own.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory, as written (rule A100).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to stop.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// How to see whether the container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions, where `SHELL` set one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Instructions for images built from this one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Every field that this type does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An empty JSON object: the value type of the sets `ExposedPorts` and `Volumes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's health check. Durations are nanoseconds on the wire; zero means "inherit".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub timeout: Duration,
    /// How long the container may take to start.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub start_period: Duration,
    /// Time between two checks while it starts.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Duration::is_zero")]
    pub start_interval: Duration,
    /// How many failures in a row make it unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The list of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

/// How a layer, or a change of the config alone, was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark of the builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes an empty list or map as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `Duration` as Go's: a whole number of nanoseconds.
mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let nanoseconds = i64::deserialize(deserializer)?;
        // A negative duration means nothing; Docker treats it like an unset one.
        Ok(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_fields_and_unknown_ones_survive() {
        let text = r#"{"architecture":"arm64","variant":"v8","os":"linux","config":{"Env":null,
            "Healthcheck":{"Test":["CMD-SHELL","x"],"Interval":5000000000,"Retries":3},
            "Shell":["/bin/bash","-c"],"OnBuild":["RUN x"],"StopTimeout":5},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"docker_version":"1.2"}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("a valid config");
        let check = config.config.healthcheck.clone().expect("a health check");
        assert_eq!((check.interval, check.retries), (Duration::from_secs(5), 3));
        assert_eq!(config.config.shell, ["/bin/bash", "-c"]);
        assert_eq!(config.platform.variant.as_deref(), Some("v8"));

        let again: Value = serde_json::to_value(&config).expect("serialisable");
        assert_eq!(again["config"]["StopTimeout"], 5);
        assert_eq!(again["config"]["Healthcheck"]["Interval"], 5_000_000_000_u64);
        assert_eq!(again["docker_version"], "1.2");
        assert_eq!(again["variant"], "v8");
        assert_eq!(again["rootfs"]["diff_ids"], Value::Array(vec![]));
    }

    #[test]
    fn a086_an_empty_entrypoint_is_not_a_missing_one() {
        let config = ContainerConfig { cmd: Some(vec![]), ..ContainerConfig::default() };
        assert_eq!(serde_json::to_string(&config).expect("serialisable"), r#"{"Cmd":[]}"#);
    }
}
