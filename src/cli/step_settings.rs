//! Reads `--add-host`, `--shm-size`, `--ulimit` and `--allow`.

use std::net::IpAddr;

use crate::build::StepLimits;
use crate::cli::diagnostic::Diagnostic;
use crate::cli::diagnostic::Failure;
use crate::cli::exit::Exit;
use crate::cli::step_args::Allow;
use crate::cli::step_args::StepArguments;
use crate::dockerfile::GoDuration;
use crate::dockerfile::parse_duration;
use crate::plan::Allowed;
use crate::plan::RunSettings;
use crate::plan::Ulimit;
use crate::plan::parse_size;
use crate::sandbox::limit_names;

/// What is wrong with one of these options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    /// `--add-host db`
    #[error("`--add-host {0}` is not `NAME:ADDRESS`")]
    NoAddress(String),
    /// `--add-host db:host-gateway`
    #[error("`--add-host {0}`: there is no gateway, as commands use your own network")]
    Gateway(String),
    /// `--add-host db:nowhere`
    #[error("`--add-host {0}`: `{1}` is not an IP address")]
    BadAddress(String, String),
    /// `--shm-size x`
    #[error("`--shm-size {0}` is not a size")]
    BadSize(String),
    /// `--memory x`
    #[error("`--memory {0}` is not a size above 0")]
    BadMemory(String),
    /// `--timeout x`
    #[error("`--timeout {0}` is not a duration above 0")]
    BadTimeout(String),
    /// `--ulimit nofile=x`
    #[error("`--ulimit {0}` is not `NAME=SOFT[:HARD]`")]
    BadLimit(String),
    /// `--ulimit files=1`
    #[error("`--ulimit {0}`: there is no such limit")]
    UnknownLimit(String),
    /// `--ulimit nofile=2:1`
    #[error("`--ulimit {0}`: the soft limit is more than the hard limit")]
    SoftOverHard(String),
}

impl SettingError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoAddress(_) | Self::BadAddress(..) => "write it as `--add-host db:192.0.2.7`",
            Self::Gateway(_) => "use 127.0.0.1: localhost of a command is this machine",
            Self::BadSize(_) => "write it as `128m` or `1g`",
            Self::BadMemory(_) => "write it as `512m` or `2g`",
            Self::BadTimeout(_) => "write it as `90s` or `1h30m`",
            Self::BadLimit(_) => "write it as `nofile=1024:4096`; -1 is no limit",
            Self::UnknownLimit(_) => {
                let names: Vec<&str> = limit_names().collect();
                return Some(format!("the limits are {}", names.join(", ")));
            }
            Self::SoftOverHard(_) => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Self::new(Exit::Usage, Diagnostic::of(&error).hinted(error.hint()))
    }
}

/// What the options say about all commands; `hostname` is what they find as their host's name.
pub(crate) fn settings(
    arguments: &StepArguments,
    hostname: Option<String>,
) -> Result<RunSettings, SettingError> {
    let size = |text: &String| parse_size(text).ok_or_else(|| SettingError::BadSize(text.clone()));
    let shm_size = arguments.shm_size.as_ref().map(size).transpose()?;
    Ok(RunSettings {
        hosts: arguments.add_host.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
        // As with Docker, 0 is the usual size.
        shm_size: shm_size.filter(|size| *size > 0),
        ulimits: arguments.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?,
        hostname,
    })
}

/// What the options say about how much a command may use up.
pub(crate) fn limits(arguments: &StepArguments) -> Result<StepLimits, SettingError> {
    let memory = |text: &String| {
        let size = parse_size(text).filter(|size| *size > 0);
        size.ok_or_else(|| SettingError::BadMemory(text.clone()))
    };
    let timeout = |text: &String| match parse_duration(text) {
        Some(GoDuration::Positive(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err(SettingError::BadTimeout(text.clone())),
    };
    Ok(StepLimits {
        memory: arguments.memory.as_ref().map(memory).transpose()?,
        timeout: arguments.timeout.as_ref().map(timeout).transpose()?,
    })
}

/// What the Dockerfile may do.
pub(crate) fn allowed(arguments: &StepArguments) -> Allowed {
    Allowed {
        network_host: arguments.allow.contains(&Allow::NetworkHost),
        insecure: arguments.allow.contains(&Allow::SecurityInsecure),
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
fn host(text: &str) -> Result<(String, String), SettingError> {
    let pair = text.split_once(['=', ':']).filter(|(name, address)| {
        !name.is_empty() && !address.is_empty() && !name.contains(char::is_whitespace)
    });
    let (name, address) = pair.ok_or_else(|| SettingError::NoAddress(text.to_owned()))?;
    if address == "host-gateway" {
        return Err(SettingError::Gateway(text.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
    let parsed: IpAddr =
        bare.parse().map_err(|_| SettingError::BadAddress(text.to_owned(), address.to_owned()))?;
    Ok((name.to_owned(), parsed.to_string()))
}

/// `NAME=SOFT[:HARD]`; without HARD both are the same.
fn ulimit(text: &str) -> Result<Ulimit, SettingError> {
    let bad = || SettingError::BadLimit(text.to_owned());
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    if !limit_names().any(|known| known == name) {
        return Err(SettingError::UnknownLimit(text.to_owned()));
    }
    let value = |text: &str| match text {
        "-1" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| bad()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(SettingError::SoftOverHard(text.to_owned()));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_and_an_address() {
        let check = |text: &str, expected: Result<(&str, &str), SettingError>| {
            let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
            assert_eq!(host(text), expected, "{text}");
        };
        check("db:192.0.2.7", Ok(("db", "192.0.2.7")));
        check("db=192.0.2.7", Ok(("db", "192.0.2.7")));
        check("db:2001:db8::1", Ok(("db", "2001:db8::1")));
        check("db:[::1]", Ok(("db", "::1")));
        check("db", Err(SettingError::NoAddress("db".into())));
        check(":1.2.3.4", Err(SettingError::NoAddress(":1.2.3.4".into())));
        check("db:x", Err(SettingError::BadAddress("db:x".into(), "x".into())));
        let gateway = "host.docker.internal:host-gateway";
        check(gateway, Err(SettingError::Gateway(gateway.into())));
    }

    #[test]
    fn a_limit_has_a_soft_and_a_hard_value() {
        let check = |text: &str, expected: Result<(Option<u64>, Option<u64>), SettingError>| {
            assert_eq!(ulimit(text).map(|it| (it.soft, it.hard)), expected, "{text}");
        };
        check("nofile=1024", Ok((Some(1024), Some(1024))));
        check("nofile=1:2", Ok((Some(1), Some(2))));
        check("core=-1", Ok((None, None)));
        check("core=0:-1", Ok((Some(0), None)));
        check("nofile=2:1", Err(SettingError::SoftOverHard("nofile=2:1".into())));
        check("nofile=-1:1", Err(SettingError::SoftOverHard("nofile=-1:1".into())));
        check("nofile=x", Err(SettingError::BadLimit("nofile=x".into())));
        check("nofile", Err(SettingError::BadLimit("nofile".into())));
        check("files=1", Err(SettingError::UnknownLimit("files=1".into())));
    }

    #[test]
    fn what_a_command_may_use_is_more_than_nothing() {
        let read = |memory: Option<&str>, timeout: Option<&str>| {
            let (memory, timeout) = (memory.map(str::to_owned), timeout.map(str::to_owned));
            limits(&StepArguments { memory, timeout, ..StepArguments::default() })
        };
        let both = read(Some("512m"), Some("1m30s")).expect("both are sound");
        assert_eq!(both.memory, Some(512 << 20));
        assert_eq!(both.timeout, Some(std::time::Duration::from_secs(90)));
        for memory in ["0", "x", "-1"] {
            assert_eq!(read(Some(memory), None), Err(SettingError::BadMemory(memory.into())));
        }
        for timeout in ["0", "90", "-1s", "soon"] {
            assert_eq!(read(None, Some(timeout)), Err(SettingError::BadTimeout(timeout.into())));
        }
    }

    #[test]
    fn a_size_of_0_is_the_usual_one() {
        let shm_size = |text: &str| {
            let arguments =
                StepArguments { shm_size: Some(text.to_owned()), ..StepArguments::default() };
            settings(&arguments, None).map(|settings| settings.shm_size)
        };
        assert_eq!(shm_size("128m"), Ok(Some(128 << 20)));
        assert_eq!(shm_size("0"), Ok(None));
        assert_eq!(shm_size("big"), Err(SettingError::BadSize("big".into())));
    }
}
