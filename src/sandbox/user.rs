//! Who a `USER` value means, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! Pure: the caller reads the two files inside the image (rule A105: links resolved there, regular
//! files only, 10 MiB at most). Lines whose numbers cannot be read are passed over.
//!
//! Rules A103 to A105, which are those of <https://github.com/moby/sys/tree/main/user>.

use crate::sandbox::User;

/// Where a user without an entry is at home.
const NO_HOME: &str = "/";

/// Why a `USER` value means nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name that `/etc/passwd` does not have.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// A name that `/etc/group` does not have.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number without an entry that is too large.
    #[error("uids and gids must be in range 0-2147483647, and {0} is not")]
    OutOfRange(String),
}

impl UserError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownUser(name) => {
                Some(format!("create the user first, as in `RUN useradd {name}`, or use a number"))
            }
            Self::UnknownGroup(name) => Some(format!(
                "create the group first, as in `RUN groupadd {name}`, or use a number"
            )),
            Self::OutOfRange(_) => None,
        }
    }
}

/// Resolves a `USER` value: empty, `name`, `uid`, and each with `:group` or `:gid` (rule A104).
///
/// `None` stands for a file that the image does not have.
///
/// # Errors
///
/// Fails with `BuildKit`'s words if a name is unknown.
pub fn resolve_user(
    user: &str,
    passwd: Option<&[u8]>,
    group: Option<&[u8]>,
) -> Result<User, UserError> {
    let accounts = Account::all(passwd.unwrap_or_default());
    if let Some((uid, gid)) = both_numeric(user) {
        return Ok(User { uid, gid, groups: Vec::new(), home: home_of(uid, &accounts) });
    }
    let (name, group_name) = user.split_once(':').unwrap_or((user, ""));
    let account = match (name, number(name)) {
        ("", _) => accounts.iter().find(|account| account.uid == 0),
        (_, Some(uid)) => accounts.iter().find(|account| i64::from(account.uid) == uid),
        (_, None) => accounts.iter().find(|account| account.name == name.as_bytes()),
    };
    let (uid, mut gid) = match account {
        Some(account) => (account.uid, account.gid),
        None if name.is_empty() => (0, 0),
        None => match number(name) {
            Some(uid) => (in_range(uid, name)?, 0),
            None => return Err(UserError::UnknownUser(name.to_owned())),
        },
    };
    let mut groups = Vec::new();
    let known = Group::all(group.unwrap_or_default());
    if !group_name.is_empty() {
        gid = explicit_group(group_name, &known)?;
    } else if let Some(account) = account.filter(|_| !name.is_empty()) {
        groups = known.iter().filter(|group| group.has(account.name)).map(|g| g.gid).collect();
    }
    let home = match account {
        Some(account) => text(account.home),
        None => home_of(uid, &accounts),
    };
    Ok(User { uid, gid, groups, home })
}

/// `uid:gid` without a look into any file; `root` counts as 0.
fn both_numeric(user: &str) -> Option<(u32, u32)> {
    let (uid, gid) = user.split_once(':')?;
    let id = |text: &str| if text == "root" { Some(0) } else { text.parse().ok() };
    Some((id(uid)?, id(gid)?))
}

fn explicit_group(name: &str, known: &[Group<'_>]) -> Result<u32, UserError> {
    let wanted = number(name);
    let found = known.iter().find(|group| match wanted {
        Some(gid) => i64::from(group.gid) == gid,
        None => group.name == name.as_bytes(),
    });
    match (found, wanted) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(gid)) => in_range(gid, name),
        (None, None) => Err(UserError::UnknownGroup(name.to_owned())),
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn in_range(id: i64, text: &str) -> Result<u32, UserError> {
    u32::try_from(id)
        .ok()
        .filter(|id| i32::try_from(*id).is_ok())
        .ok_or_else(|| UserError::OutOfRange(text.to_owned()))
}

fn home_of(uid: u32, accounts: &[Account<'_>]) -> String {
    let account = accounts.iter().find(|account| account.uid == uid);
    account.map_or_else(|| NO_HOME.to_owned(), |account| text(account.home))
}

/// A path of the image as text; an account without one is at home in `/`.
fn text(home: &[u8]) -> String {
    if home.is_empty() { NO_HOME.to_owned() } else { String::from_utf8_lossy(home).into_owned() }
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl<'a> Account<'a> {
    fn all(passwd: &'a [u8]) -> Vec<Self> {
        lines(passwd)
            .filter_map(|fields| {
                let at = |index: usize| fields.get(index).copied().unwrap_or_default();
                let (uid, gid) = (id(at(2))?, id(at(3))?);
                Some(Self { name: at(0), uid, gid, home: at(5) })
            })
            .collect()
    }
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> Group<'a> {
    fn all(group: &'a [u8]) -> Vec<Self> {
        lines(group)
            .filter_map(|fields| {
                let at = |index: usize| fields.get(index).copied().unwrap_or_default();
                Some(Self { name: at(0), gid: id(at(2))?, members: at(3) })
            })
            .collect()
    }

    fn has(&self, member: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|name| name == member)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn id(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        broken:x:::\n\n  conform:x:1234:1235::/home/conform:/bin/sh\n\
        twice:x:7:8::/first:\ntwice:x:9:10::/second:\nhomeless:x:20:20\n";
    const GROUP: &[u8] = b"root:x:0:root\nstaff:x:50:conform,other\nextra:x:60:conform\n\
        bad:x:no:conform\nconform:x:1235:\n";

    #[track_caller]
    fn check(user: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let expected = User { uid, gid, groups: groups.to_vec(), home: home.to_owned() };
        assert_eq!(resolve_user(user, Some(PASSWD), Some(GROUP)), Ok(expected), "USER {user}");
    }

    #[track_caller]
    fn check_error(user: &str, expected: &str) {
        let error = resolve_user(user, Some(PASSWD), Some(GROUP)).expect_err(user);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a104_a_name_has_its_groups() {
        check("conform", 1234, 1235, &[50, 60], "/home/conform");
        check("root", 0, 0, &[0], "/root");
    }

    #[test]
    fn a104_a_uid_with_an_entry_is_like_its_name() {
        check("1234", 1234, 1235, &[50, 60], "/home/conform");
    }

    #[test]
    fn a104_a_uid_without_an_entry_has_group_0() {
        check("777", 777, 0, &[], "/");
    }

    #[test]
    fn a104_an_explicit_group_is_the_only_one() {
        check("conform:staff", 1234, 50, &[], "/home/conform");
        check("conform:50", 1234, 50, &[], "/home/conform");
        check("777:conform", 777, 1235, &[], "/");
        check("777:99", 777, 99, &[], "/");
    }

    #[test]
    fn a104_two_numbers_are_used_as_they_are() {
        check("1234:50", 1234, 50, &[], "/home/conform");
        check("4294967294:4294967294", u32::MAX - 1, u32::MAX - 1, &[], "/");
        check("root:root", 0, 0, &[], "/root");
    }

    #[test]
    fn no_user_is_root() {
        check("", 0, 0, &[], "/root");
        check(":staff", 0, 50, &[], "/root");
    }

    #[test]
    fn the_first_of_two_entries_wins() {
        check("twice", 7, 8, &[], "/first");
    }

    #[test]
    fn an_account_without_a_home_is_at_home_in_the_root_directory() {
        check("homeless", 20, 20, &[], "/");
    }

    #[test]
    fn a104_an_unknown_name_is_an_error() {
        check_error("ghost", "unable to find user ghost: no matching entries in passwd file");
        check_error("broken", "unable to find user broken: no matching entries in passwd file");
        check_error(
            "conform:ghosts",
            "unable to find group ghosts: no matching entries in group file",
        );
        check_error("5:ghosts", "unable to find group ghosts: no matching entries in group file");
    }

    #[test]
    fn a_single_number_must_fit_into_31_bits() {
        check_error(
            "4294967294",
            "uids and gids must be in range 0-2147483647, and 4294967294 is not",
        );
        check_error("-1", "uids and gids must be in range 0-2147483647, and -1 is not");
    }

    #[test]
    fn without_files_only_numbers_and_root_by_default_work() {
        let root = User { home: "/".to_owned(), ..User::default() };
        assert_eq!(resolve_user("", None, None), Ok(root.clone()));
        assert_eq!(resolve_user("0", None, None), Ok(root));
        assert_eq!(
            resolve_user("root", None, None),
            Err(UserError::UnknownUser("root".to_owned()))
        );
    }
}
