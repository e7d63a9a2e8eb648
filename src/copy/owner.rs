//! Owners: what `--chown` and `USER` name, in numbers.
//!
//! Names are looked up in the files of the stage that is built (rules A105 and A124), never in
//! those of the machine. A name that is not there is an error, as the documentation says; `BuildKit`
//! silently takes 0 (rule A125).

use crate::copy::CopyError;
use crate::layer::Tree;
use crate::oci::ImagePath;

/// How large `/etc/passwd` may be (rule A105).
const LIMIT: u64 = 10 << 20;

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// Nobody in particular.
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Reads `user[:group]`, with names as `tree` knows them.
///
/// A number alone is the group as well; a name alone brings its primary group; `user:` means group
/// 0, and so does `root`.
pub(crate) fn resolve(text: &str, tree: &dyn Tree) -> Result<Owner, CopyError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let known_group = group.and_then(number);
    let owner = match (number(user), known_group) {
        (Some(id), _) => Owner { uid: id, gid: id },
        (None, _) => find_user(user, tree)?,
    };
    let gid = match (group, known_group) {
        (None, _) => owner.gid,
        (_, Some(gid)) => gid,
        (Some(name), None) => find_group(name, tree)?,
    };
    Ok(Owner { gid, ..owner })
}

/// Whether [`resolve`] would look at no file.
pub(crate) fn is_numeric(text: &str) -> bool {
    text.split(':').all(|part| number(part).is_some())
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || text == "root" { Some(0) } else { text.parse().ok() }
}

fn find_user(name: &str, tree: &dyn Tree) -> Result<Owner, CopyError> {
    let found = find("/etc/passwd", name, tree, |fields| {
        Some(Owner { uid: field(fields, 2)?, gid: field(fields, 3)? })
    })?;
    found.ok_or_else(|| CopyError::UnknownUser { name: name.to_owned() })
}

fn find_group(name: &str, tree: &dyn Tree) -> Result<u32, CopyError> {
    let found = find("/etc/group", name, tree, |fields| field(fields, 2))?;
    found.ok_or_else(|| CopyError::UnknownGroup { name: name.to_owned() })
}

/// What `read` makes of the first line of `file` that is about `name`.
fn find<T>(
    file: &str,
    name: &str,
    tree: &dyn Tree,
    read: impl Fn(&[&[u8]]) -> Option<T>,
) -> Result<Option<T>, CopyError> {
    let Some(text) = tree.read(&ImagePath::new(file), LIMIT)? else { return Ok(None) };
    Ok(text.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.trim_ascii().split(|byte| *byte == b':').collect();
        if fields[0] == name.as_bytes() { read(&fields) } else { None }
    }))
}

fn field(fields: &[&[u8]], index: usize) -> Option<u32> {
    str::from_utf8(fields.get(index)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::memory::MemoryTree;
    use crate::layer::EmptyTree;

    #[test]
    fn a124_numbers_and_names() {
        let tree = MemoryTree::new()
            .file("/etc/passwd", "root:x:0:0::/:/bin/sh\n\nbad:x\napp:x:501:502::/:/bin/sh\n")
            .file("/etc/group", "root:x:0:\nstaff:x:503:app\n");
        let check = |text: &str, uid, gid| {
            assert_eq!(resolve(text, &tree).expect(text), Owner { uid, gid }, "{text}");
        };
        check("11", 11, 11);
        check("11:22", 11, 22);
        check("app", 501, 502);
        check("app:staff", 501, 503);
        check("app:77", 501, 77);
        check("11:staff", 11, 503);
        check("501", 501, 501);
        check("root", 0, 0);
        check("root:root", 0, 0);
    }

    #[test]
    fn a125_an_empty_group_is_0_and_unknown_names_are_errors() {
        let tree = MemoryTree::new().file("/etc/passwd", "app:x:1:2::/:\n");
        let check = |text: &str, gid| assert_eq!(resolve(text, &tree).expect(text).gid, gid);
        check("11:", 0);
        check("app:", 0);
        let error = |text: &str| resolve(text, &tree).expect_err(text).to_string();
        assert_eq!(
            error("nosuch"),
            "unable to find user nosuch: no matching entries in passwd file"
        );
        assert_eq!(
            error("7:nosuch"),
            "unable to find group nosuch: no matching entries in group file"
        );
        assert!(resolve("app", &EmptyTree).is_err());
        assert_eq!(resolve("5:6", &EmptyTree).expect("no file needed"), Owner { uid: 5, gid: 6 });
    }
}
