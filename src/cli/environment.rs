//! The environment variables that coracle heeds, read once.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::oci::Timestamp;

/// What the environment says. README lists the same names.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Whether output may be coloured: `NO_COLOR` is not set.
    pub(crate) colour: bool,
    /// Who runs this, before any namespace is entered.
    pub(crate) uid: u32,
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Self {
        let variables: BTreeMap<_, _> = std::env::vars_os().collect();
        let colour =
            variables.get(&OsString::from("NO_COLOR")).is_none_or(|value| value.is_empty());
        let uid = rustix::process::getuid().as_raw();
        Self { variables, colour, uid }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(&OsString::from(name))?;
        value.to_str().filter(|text| !text.is_empty())
    }

    /// The value of a variable that is set, whatever it is.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(&OsString::from(name)).map(OsString::as_os_str)
    }

    /// The value of a variable that is set, even if it is empty or no text.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(&OsString::from(name)).map(|value| value.as_bytes())
    }

    /// The value of a variable that is set and not empty, as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(&OsString::from(name))?;
        Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty())
    }

    /// `$XDG_DATA_HOME/coracle`, or `~/.local/share/coracle`.
    pub(crate) fn default_root(&self) -> Option<PathBuf> {
        let data = self
            .path("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.path("HOME")?.join(".local/share")))?;
        Some(data.join("coracle"))
    }

    /// `SOURCE_DATE_EPOCH`: seconds since 1970. The text itself where it is not a number.
    pub(crate) fn source_date_epoch(&self) -> Option<Result<Timestamp, String>> {
        let text = self.text("SOURCE_DATE_EPOCH")?;
        Some(text.parse().map(Timestamp::from_seconds).map_err(|_| text.to_owned()))
    }
}
