//! `RUN --mount`: its fields (rules A156 to A159).
//!
//! The fields are read twice, as in BuildKit: once for `from`, before it is known which variables
//! are in force, and once with all of them expanded. The messages are BuildKit's.

use crate::dockerfile::{ExpandError, Word, nearest};
use crate::plan::csv::{self, CsvError};
use crate::plan::error::suggestion;
use crate::plan::{Access, Sharing};

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
];

/// Ours: BuildKit looks for the source in the new and empty cache when the command runs.
const SOURCE_WITHOUT_FROM: &str = "cache mount with a source should have a from";

/// What is wrong with the fields of a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not comma-separated values.
    #[error("failed to parse csv mounts: {0}")]
    Csv(CsvError),
    /// A value cannot be expanded.
    #[error(transparent)]
    Expand(ExpandError),
    /// `from=$X` (rule A021).
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableInFrom,
    /// A key without `=` that needs a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// No such key.
    #[error("unexpected key '{key}' in '{field}'{}", suggestion(.nearest.as_ref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// With its value.
        field: String,
        /// The key that was perhaps meant.
        nearest: Option<String>,
    },
    /// A key that this type of mount does not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherType {
        /// The key.
        key: String,
        /// The type.
        kind: String,
    },
    /// No such type.
    #[error("unsupported mount type \"{kind}\"{}", suggestion(.nearest.as_ref()))]
    UnknownType {
        /// As written.
        kind: String,
        /// The type that was perhaps meant.
        nearest: Option<String>,
    },
    /// No such way to share a cache.
    #[error("unsupported sharing value \"{sharing}\"{}", suggestion(.nearest.as_ref()))]
    UnknownSharing {
        /// As written.
        sharing: String,
        /// The value that was perhaps meant.
        nearest: Option<String>,
    },
    /// `ro=maybe`
    #[error("invalid value for {key}: {value}")]
    BadValue {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// `mode=rwx`
    #[error("invalid value {value} for {key}")]
    BadNumber {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// `mode`, `uid` or `gid` of a mount that has no file of its own.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    NoFile {
        /// The key.
        key: &'static str,
        /// The type.
        kind: String,
    },
    /// `sharing` of something that is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfOtherType(String),
    /// The mount would hide everything (rule A157).
    #[error("invalid mount target \"/\"")]
    RootTarget,
    /// Fields that do not go together, in BuildKit's words.
    #[error("{0}")]
    Together(&'static str),
}

impl MountError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Expand(error) => error.hint(),
            Self::VariableInFrom => {
                Some("write `FROM image AS name` with an ARG, and `from=name` here".to_owned())
            }
            Self::RootTarget => Some("give the mount a target, such as target=/src".to_owned()),
            Self::UnknownType { .. } => Some(format!("the types are {}", TYPES.join(", "))),
            Self::NoValue(field) if TYPES.contains(&field.as_str()) => {
                Some(format!("write type={field}"))
            }
            Self::UnknownSharing { nearest: None, .. } => {
                Some("the values are shared, private and locked".to_owned())
            }
            Self::BadValue { key, .. } if key == "size" => {
                Some("write bytes, or a number with k, m or g: size=64m".to_owned())
            }
            Self::BadNumber { key, .. } if key == "mode" => {
                Some("write it in octal: mode=0755".to_owned())
            }
            Self::BadNumber { .. } => Some("write a number: names are not looked up".to_owned()),
            Self::KeyOfOtherType { kind, .. } | Self::NoFile { kind, .. } => {
                Some(format!("leave it out, or use another type than {kind}"))
            }
            Self::Together(SOURCE_WITHOUT_FROM) => {
                Some("name the stage or image that the cache starts as: from=NAME".to_owned())
            }
            _ => None,
        }
    }
}

/// The fields of one mount, expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
    pub(crate) kind: String,
    /// `from`; empty is the build context.
    pub(crate) from: String,
    /// `source`, not cleaned.
    pub(crate) source: String,
    /// `target`, not joined to anything.
    pub(crate) target: String,
    /// Whether writes work: what was written, or what the type has.
    pub(crate) writable: bool,
    /// `size` in bytes; 0 is none.
    pub(crate) size: u64,
    /// `id`; empty if it is not given.
    pub(crate) id: String,
    /// `required`
    pub(crate) required: bool,
    /// `env`
    pub(crate) env: Option<String>,
    /// `sharing`
    pub(crate) sharing: Option<Sharing>,
    /// `mode`, `uid` and `gid`
    pub(crate) access: Access,
}

/// The value of `from`, if there is one: it takes no variables (rule A021).
pub(crate) fn from_name(mount: &Word) -> Result<Option<String>, MountError> {
    let mut from = None;
    for field in csv::fields(&mount.raw).map_err(MountError::Csv)? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if key.eq_ignore_ascii_case("from") {
            // BuildKit looks for a `$` with anything behind it.
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                return Err(MountError::VariableInFrom);
            }
            from = Some(value.to_owned()).filter(|it| !it.is_empty());
        }
    }
    Ok(from)
}

/// Reads all fields.
pub(crate) fn parse(
    mount: &Word,
    expand: &dyn Fn(&Word) -> Result<String, ExpandError>,
) -> Result<Fields, MountError> {
    let mut fields = Fields { kind: "bind".to_owned(), ..Fields::default() };
    let mut writable = None;
    for field in csv::fields(&mount.raw).map_err(MountError::Csv)? {
        let Some((key, value)) = field.split_once('=') else {
            match field.to_lowercase().as_str() {
                "readonly" | "ro" => writable = Some(false),
                "readwrite" | "rw" => writable = Some(true),
                "required" => {
                    fields.check_type("required", &["secret", "ssh"])?;
                    fields.required = true;
                }
                _ => return Err(MountError::NoValue(field)),
            }
            continue;
        };
        let word = Word { raw: value.to_owned(), ..mount.clone() };
        let value = expand(&word).map_err(MountError::Expand)?;
        let key = key.to_lowercase();
        match key.as_str() {
            "readonly" | "ro" => writable = Some(!boolean(&key, &value)?),
            "readwrite" | "rw" => writable = Some(boolean(&key, &value)?),
            _ => fields.set(&key, value, &field)?,
        }
    }
    fields.writable = writable.unwrap_or(matches!(fields.kind.as_str(), "cache" | "tmpfs"));
    fields.validate()?;
    Ok(fields)
}

impl Fields {
    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), MountError> {
        match key {
            "type" => self.kind = mount_type(value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            "env" => {
                self.check_type(key, &["secret"])?;
                if value.is_empty() || value.contains('=') {
                    return Err(MountError::BadValue { key: key.to_owned(), value });
                }
                self.env = Some(value);
            }
            "required" => {
                self.check_type(key, &["secret", "ssh"])?;
                self.required = boolean(key, &value)?;
            }
            "size" => {
                self.check_type(key, &["tmpfs"])?;
                let bad = || MountError::BadValue { key: key.to_owned(), value: value.clone() };
                self.size = parse_size(&value).ok_or_else(bad)?;
            }
            "sharing" => self.sharing = Some(sharing(value)?),
            "mode" => self.access.mode = Some(number(key, &value, 8)?),
            "uid" => self.access.uid = Some(number(key, &value, 10)?),
            "gid" => self.access.gid = Some(number(key, &value, 10)?),
            _ => {
                let nearest = nearest(key, &KEYS).map(str::to_owned);
                let (key, field) = (key.to_owned(), field.to_owned());
                return Err(MountError::UnknownKey { key, field, nearest });
            }
        }
        Ok(())
    }

    fn check_type(&self, key: &str, types: &[&str]) -> Result<(), MountError> {
        if types.contains(&self.kind.as_str()) {
            return Ok(());
        }
        Err(MountError::KeyOfOtherType { key: key.to_owned(), kind: self.kind.clone() })
    }

    fn validate(&self) -> Result<(), MountError> {
        let kind = self.kind.as_str();
        let Access { mode, uid, gid } = self.access;
        let given = [("mode", mode), ("uid", uid), ("gid", gid)];
        let given = given.into_iter().find_map(|(key, value)| value.map(|_| key));
        if let ("bind" | "tmpfs", Some(key)) = (kind, given) {
            return Err(MountError::NoFile { key, kind: self.kind.clone() });
        }
        let together = match kind {
            "secret" if !self.from.is_empty() => "secret mount should not have a from",
            "secret" if self.sharing.is_some() => "secret mount should not define sharing",
            "secret" if [&self.source, &self.target, &self.id].iter().all(|it| it.is_empty()) => {
                "invalid secret mount. one of source, target required"
            }
            "secret" if !self.source.is_empty() && !self.id.is_empty() => {
                "both source and id can't be set"
            }
            "ssh" if !self.source.is_empty() => "ssh does not support source",
            "cache" if !self.source.is_empty() && self.from.is_empty() => SOURCE_WITHOUT_FROM,
            _ if self.sharing.is_some() && kind != "cache" => {
                return Err(MountError::SharingOfOtherType(self.kind.clone()));
            }
            _ => return Ok(()),
        };
        Err(MountError::Together(together))
    }
}

fn mount_type(value: String) -> Result<String, MountError> {
    let kind = value.to_lowercase();
    if TYPES.contains(&kind.as_str()) {
        return Ok(kind);
    }
    let nearest = nearest(&value, &TYPES).map(str::to_owned);
    Err(MountError::UnknownType { kind: value, nearest })
}

fn sharing(value: String) -> Result<Sharing, MountError> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let nearest = nearest(&value, &SHARING).map(str::to_owned);
            Err(MountError::UnknownSharing { sharing: value, nearest })
        }
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::BadValue { key: key.to_owned(), value: value.to_owned() }),
    }
}

/// A number of 32 bits.
fn number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    match u32::from_str_radix(value, radix) {
        Ok(number) if !value.starts_with('+') => Ok(number),
        _ => Err(MountError::BadNumber { key: key.to_owned(), value: value.to_owned() }),
    }
}

/// The number of bytes in a size such as `64k`, `1m` or `1.5GiB`, in powers of 1024; `None` if
/// it is none.
pub fn parse_size(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1024_u64.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let part = fraction.parse::<u64>().ok()?;
    let digits = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u64::try_from(u128::from(part) * u128::from(factor) / digits).ok()?;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    fn word(raw: &str) -> Word {
        Word { raw: raw.to_owned(), span: Span::default(), escape: '\\' }
    }

    fn read(raw: &str) -> Result<Fields, MountError> {
        let lookup = |name: &str| (name == "X").then(|| "value".to_owned());
        parse(&word(raw), &|word| word.expand(&lookup))
    }

    #[test]
    fn a156_fields_are_read_in_any_case_and_expanded() {
        let fields = read("TYPE=bind,Source=$X,dst=/${X}2,rw").expect("valid");
        assert_eq!((fields.source.as_str(), fields.target.as_str()), ("value", "/value2"));
        assert!(fields.writable);
    }

    #[test]
    fn a157_bind_is_read_only_unless_it_says_otherwise() {
        let check = |raw: &str, writable| {
            assert_eq!(read(raw).expect(raw).writable, writable, "{raw}");
        };
        check("target=/a", false);
        check("target=/a,rw=true", true);
        check("target=/a,ro=false", true);
        check("target=/a,rw=false", false);
        check("type=tmpfs,target=/a", true);
    }

    #[test]
    fn a157_sizes_are_in_powers_of_1024() {
        let check = |text: &str, expected| assert_eq!(parse_size(text), expected, "{text}");
        check("100", Some(100));
        check("64k", Some(65536));
        check("1m", Some(1 << 20));
        check("1.5GiB", Some(3 << 29));
        check("2 KB", Some(2048));
        check("", None);
        check("x", None);
        check("1x", None);
        check("99999999999999999999p", None);
    }

    #[test]
    fn a156_errors_are_buildkits() {
        let check = |raw: &str, expected: &str| {
            assert_eq!(read(raw).expect_err(raw).to_string(), expected);
        };
        check("typ=bind", "unexpected key 'typ' in 'typ=bind' (did you mean type?)");
        check("type=tmp", "unsupported mount type \"tmp\" (did you mean tmpfs?)");
        check("type=bind,source", "invalid field 'source' must be a key=value pair");
        check("ro=maybe", "invalid value for ro: maybe");
        check(
            "type=cache,sharing=lock",
            "unsupported sharing value \"lock\" (did you mean locked?)",
        );
        check("sharing=locked", "invalid cache sharing set for bind mount");
        check("size=1m", "unexpected key 'size' for mount type 'bind'");
        check("required", "unexpected key 'required' for mount type 'bind'");
        check("type=secret,mode=rw", "invalid value rw for mode");
        check("mode=0400", "mode not allowed for \"bind\" type mounts");
        check("", "failed to parse csv mounts: EOF");
        check("type=secret,from=a,id=b", "secret mount should not have a from");
        check("type=secret,id=a,sharing=locked", "secret mount should not define sharing");
        check("type=secret", "invalid secret mount. one of source, target required");
        check("type=secret,id=a,source=b", "both source and id can't be set");
        check("type=secret,id=a,env=", "invalid value for env: ");
        check("type=ssh,source=b", "ssh does not support source");
        check("type=ssh,sharing=locked", "invalid cache sharing set for ssh mount");
        check("type=cache,source=/b,target=/c", "cache mount with a source should have a from");
    }

    #[test]
    fn a021_from_takes_no_variables() {
        let check = |raw: &str, expected: Result<Option<&str>, MountError>| {
            assert_eq!(from_name(&word(raw)), expected.map(|it| it.map(str::to_owned)), "{raw}");
        };
        check("from=x,target=/m", Ok(Some("x")));
        check("target=$X", Ok(None));
        check("from=$X", Err(MountError::VariableInFrom));
        check("from=x$", Ok(Some("x$")));
    }
}
