//! User and group ids: which a namespace has, and which a user may lend to one.
//!
//! Manual: <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>,
//! <https://man7.org/linux/man-pages/man5/subuid.5.html>. Pure.

/// The ids that exist in a user namespace: `/proc/self/uid_map` or `gid_map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdMap(Vec<Run>);

/// Consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first, as counted inside.
    pub(super) inside: u32,
    /// The same one as counted in the namespace around.
    pub(super) outside: u32,
    /// How many.
    pub(super) count: u32,
}

impl IdMap {
    /// Reads the kernel's table; lines that it would never write are passed over.
    pub(super) fn parse(table: &str) -> Self {
        Self(
            table
                .lines()
                .filter_map(|line| {
                    let mut fields = line.split_ascii_whitespace().map(str::parse);
                    let mut next = || fields.next()?.ok();
                    Some(Run { inside: next()?, outside: next()?, count: next()? })
                })
                .collect(),
        )
    }

    /// Every id that there can be, as itself. The last number means "none".
    pub(super) fn all() -> Self {
        Self(vec![Run { inside: 0, outside: 0, count: u32::MAX }])
    }

    /// One id, called 0 inside.
    pub(super) fn single(outside: u32) -> Self {
        Self(vec![Run { inside: 0, outside, count: 1 }])
    }

    /// `own` called 0 inside, and what `lent` has as 1, 2, ….
    pub(super) fn with_lent(own: u32, lent: &[(u32, u32)]) -> Self {
        let mut map = Self::single(own);
        let mut inside = 1_u32;
        for (outside, count) in lent {
            map.0.push(Run { inside, outside: *outside, count: *count });
            inside = inside.saturating_add(*count);
        }
        map
    }

    /// All ids of this map, under the same numbers in a namespace below.
    pub(super) fn same_below(&self) -> Self {
        Self(self.0.iter().map(|run| Run { outside: run.inside, ..*run }).collect())
    }

    /// How many ids there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.count)).sum()
    }

    /// Whether `id` exists inside.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|run| id.checked_sub(run.inside).is_some_and(|at| at < run.count))
    }

    /// The words for `newuidmap` and `newgidmap`, after the process number.
    pub(super) fn arguments(&self) -> Vec<String> {
        let words = |run: &Run| [run.inside, run.outside, run.count].map(|id| id.to_string());
        self.0.iter().flat_map(words).collect()
    }

    /// The text for `uid_map` and `gid_map`.
    pub(super) fn table(&self) -> String {
        let line = |run: &Run| format!("{} {} {}\n", run.inside, run.outside, run.count);
        self.0.iter().map(line).collect()
    }
}

/// What `/etc/subuid` or `/etc/subgid` lends to a user, given by name and number: first id and
/// count, in the order of the file.
pub(super) fn lent(file: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let ours = name == Some(owner) || owner == uid;
            (ours && range.1 > 0 && fields.next().is_none()).then_some(range)
        })
        .collect()
}

/// The first id that no line of `/etc/subuid` or `/etc/subgid` lends to anybody, nor any after it.
/// Those below 100000 are left to the machine's own users, as `useradd` does.
pub(super) fn first_free(files: &str) -> u32 {
    let end = |line: &str| {
        let mut fields = line.trim().split(':').skip(1).map(|field| field.parse::<u32>().ok());
        fields.next()??.checked_add(fields.next()??)
    };
    files.lines().filter_map(end).max().unwrap_or(0).max(100_000)
}

/// The name of the user `uid` in `/etc/passwd`.
pub(super) fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_lent(file: &str, expected: &[(u32, u32)]) {
        assert_eq!(lent(file, Some("alice"), 1000), expected, "{file:?}");
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        check_lent("bob:1:2\nalice:100000:65536\n", &[(100_000, 65_536)]);
        check_lent("1000:300000:10\nalice:100000:65536", &[(300_000, 10), (100_000, 65_536)]);
    }

    #[test]
    fn lines_that_make_no_sense_lend_nothing() {
        check_lent("", &[]);
        check_lent("# alice:1:2\nalice:1\nalice:x:5\nalice:1:0\nalice:1:2:3\nalicea:1:2\n", &[]);
    }

    #[test]
    fn a_new_range_comes_after_all_others() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("alice:100000:65536\n# x\nbob:300000:10\nc:5:5\n"), 300_010);
        assert_eq!(first_free("alice:4294967295:65536\n"), 100_000);
    }

    #[test]
    fn own_id_comes_first() {
        let map = IdMap::with_lent(1000, &[(100_000, 65_536), (900_000, 10)]);
        assert_eq!(map.table(), "0 1000 1\n1 100000 65536\n65537 900000 10\n");
        assert_eq!(map.arguments().join(" "), "0 1000 1 1 100000 65536 65537 900000 10");
        assert_eq!(map.count(), 65_547);
    }

    #[test]
    fn a_map_says_which_ids_exist() {
        let map =
            IdMap::parse("         0       1000          1\n         1     100000      65536\n");
        for (id, exists) in [(0, true), (1, true), (65_536, true), (65_537, false)] {
            assert_eq!(map.contains(id), exists, "{id}");
        }
        assert_eq!(map, IdMap::with_lent(1000, &[(100_000, 65_536)]));
    }

    #[test]
    fn the_whole_machine_is_mapped_to_itself() {
        let map = IdMap::parse("         0          0 4294967295\n");
        assert!(map.contains(u32::MAX - 1));
        assert_eq!(map.same_below(), map);
    }

    #[test]
    fn the_users_name_is_in_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("alice"));
        assert_eq!(name_of(passwd, 1001), None);
    }
}
