//! Resource limits by the names that Docker's tools give them.
//!
//! Manual: <https://man7.org/linux/man-pages/man2/setrlimit.2.html>

use rustix::process::{Resource, Rlimit};

use crate::sandbox::Limit;
use crate::sandbox::error::{Failure, While as _};

const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The names of all limits.
pub fn limit_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// As many open files as Docker gives.
const OPEN_FILES: u64 = 1 << 20;

/// Many open files, and no memory dumps that would end up in the layer.
pub(super) fn set_usual() -> std::io::Result<()> {
    let files = rustix::process::getrlimit(Resource::Nofile);
    let most = files.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    let files = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, files)?;
    let dumps = rustix::process::getrlimit(Resource::Core);
    Ok(rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), ..dumps })?)
}

/// Sets a limit for this process and what it will become.
pub(super) fn set(limit: &Limit) -> Result<(), Failure> {
    let Limit { name, soft, hard } = limit;
    let named = NAMES.iter().find(|(known, _)| known == name);
    let unknown = || std::io::Error::from_raw_os_error(libc::EINVAL);
    let (_, resource) = *named.ok_or_else(unknown).to(format!("set the limit `{name}`"))?;
    let most = rustix::process::getrlimit(resource).maximum;
    let set = Rlimit { current: *soft, maximum: *hard };
    rustix::process::setrlimit(resource, set).to(format!(
        "set the limit `{name}` to {}:{}; the most that this user may have is {}",
        text(*soft),
        text(*hard),
        text(most)
    ))
}

fn text(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_one() {
        assert!(limit_names().is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_unknown_limit_is_an_error() {
        let limit = Limit { name: "files".into(), soft: None, hard: None };
        assert_eq!(set(&limit).expect_err("unknown").action, "set the limit `files`");
    }
}
