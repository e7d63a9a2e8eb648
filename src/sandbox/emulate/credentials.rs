//! Who an emulated process is: user, groups, capabilities; and how it may become somebody else.
//!
//! The rules are the kernel's, of `capabilities(7)`, `credentials(7)` and `setuid(2)`.

use std::sync::Arc;

use rustix::io::Errno;

use crate::sandbox::{User, caps};

/// One bit of a capability set.
pub(super) mod cap {
    pub(in crate::sandbox) const CHOWN: u64 = 1 << 0;
    pub(in crate::sandbox) const DAC_OVERRIDE: u64 = 1 << 1;
    pub(in crate::sandbox) const FOWNER: u64 = 1 << 3;
    pub(in crate::sandbox) const FSETID: u64 = 1 << 4;
    pub(in crate::sandbox) const KILL: u64 = 1 << 5;
    pub(in crate::sandbox) const SETGID: u64 = 1 << 6;
    pub(in crate::sandbox) const SETUID: u64 = 1 << 7;
    pub(in crate::sandbox) const SETPCAP: u64 = 1 << 8;
    pub(in crate::sandbox) const MKNOD: u64 = 1 << 27;
    pub(in crate::sandbox) const SETFCAP: u64 = 1 << 31;
    /// Those that go with the user of file accesses: `CHOWN` to `FSETID`, `MKNOD` and others.
    pub(in crate::sandbox) const FILES: u64 = 0x1f | MKNOD | 1 << 9 | 1 << 32;
}

/// "As it was", in the calls that set several ids.
pub(super) const SAME: u32 = u32::MAX;

/// Real, effective, saved, and for access to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) files: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    /// Whether an unprivileged process may become `id`.
    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// `setresuid` and `setresgid`.
    fn set(&mut self, new: [u32; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && new.iter().any(|id| *id != SAME && !self.has(*id)) {
            return Err(Errno::PERM);
        }
        let fields = [&mut self.real, &mut self.effective, &mut self.saved];
        for (field, id) in fields.into_iter().zip(new) {
            if id != SAME {
                *field = id;
            }
        }
        self.files = self.effective;
        Ok(())
    }

    /// `setreuid` and `setregid`: the saved id follows in some cases.
    fn set_pair(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let own = |id| id == SAME || id == self.real || id == self.effective;
        if !privileged && (!own(real) || !(own(effective) || effective == self.saved)) {
            return Err(Errno::PERM);
        }
        let follows = real != SAME || (effective != SAME && effective != self.real);
        if real != SAME {
            self.real = real;
        }
        if effective != SAME {
            self.effective = effective;
        }
        if follows {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// `setuid` and `setgid`.
    fn set_one(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            self.effective = id;
            self.files = id;
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }
}

/// The capability sets of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) bounding: u64,
    pub(super) ambient: u64,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) users: Ids,
    pub(super) groups: Ids,
    pub(super) supplementary: Arc<[u32]>,
    pub(super) capabilities: Capabilities,
    pub(super) keeps_capabilities: bool,
    pub(super) no_new_privileges: bool,
}

impl Credentials {
    /// What a step starts with.
    pub(super) fn of_user(user: &User) -> Self {
        let kept = caps::DOCKERS.bits();
        let held = if user.uid == 0 { kept } else { 0 };
        // With the main group among them, no program can shed it (CVE-2022-36109).
        let supplementary = [user.gid].into_iter().chain(user.groups.iter().copied()).collect();
        Self {
            users: Ids::all(user.uid),
            groups: Ids::all(user.gid),
            supplementary,
            capabilities: Capabilities {
                effective: held,
                permitted: held,
                inheritable: 0,
                bounding: kept,
                ambient: 0,
            },
            keeps_capabilities: false,
            no_new_privileges: false,
        }
    }

    /// Whether it has a capability.
    pub(super) fn can(&self, capability: u64) -> bool {
        self.capabilities.effective & capability != 0
    }

    /// Whether it belongs to a group, for access to files.
    pub(super) fn is_in_group(&self, gid: u32) -> bool {
        self.groups.files == gid || self.supplementary.contains(&gid)
    }

    /// `setuid`.
    pub(super) fn set_user(&mut self, id: u32) -> Result<(), Errno> {
        self.change_users(|ids, privileged| ids.set_one(id, privileged))
    }

    /// `setreuid`.
    pub(super) fn set_user_pair(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        self.change_users(|ids, privileged| ids.set_pair(real, effective, privileged))
    }

    /// `setresuid`.
    pub(super) fn set_users(&mut self, new: [u32; 3]) -> Result<(), Errno> {
        self.change_users(|ids, privileged| ids.set(new, privileged))
    }

    /// `setgid`.
    pub(super) fn set_group(&mut self, id: u32) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.groups.set_one(id, privileged)
    }

    /// `setregid`.
    pub(super) fn set_group_pair(&mut self, real: u32, effective: u32) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.groups.set_pair(real, effective, privileged)
    }

    /// `setresgid`.
    pub(super) fn set_groups(&mut self, new: [u32; 3]) -> Result<(), Errno> {
        let privileged = self.can(cap::SETGID);
        self.groups.set(new, privileged)
    }

    /// `setgroups`.
    pub(super) fn set_supplementary(&mut self, groups: Vec<u32>) -> Result<(), Errno> {
        if !self.can(cap::SETGID) {
            return Err(Errno::PERM);
        }
        self.supplementary = groups.into();
        Ok(())
    }

    /// `setfsuid`: returns what it was; an id that may not be had changes nothing.
    pub(super) fn set_user_for_files(&mut self, id: u32) -> u32 {
        let before = self.users.files;
        if id != SAME && (id == before || self.users.has(id) || self.can(cap::SETUID)) {
            self.users.files = id;
            if before == 0 && id != 0 {
                self.capabilities.effective &= !cap::FILES;
            } else if before != 0 && id == 0 {
                self.capabilities.effective |= self.capabilities.permitted & cap::FILES;
            }
        }
        before
    }

    /// `setfsgid`.
    pub(super) fn set_group_for_files(&mut self, id: u32) -> u32 {
        let before = self.groups.files;
        if id != SAME && (id == before || self.groups.has(id) || self.can(cap::SETGID)) {
            self.groups.files = id;
        }
        before
    }

    fn change_users(
        &mut self,
        change: impl FnOnce(&mut Ids, bool) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let privileged = self.can(cap::SETUID);
        let was_root = [self.users.real, self.users.effective, self.users.saved].contains(&0);
        let was_effective = self.users.effective == 0;
        change(&mut self.users, privileged)?;
        let is_root = [self.users.real, self.users.effective, self.users.saved].contains(&0);
        let sets = &mut self.capabilities;
        if was_root && !is_root && !self.keeps_capabilities {
            (sets.permitted, sets.effective, sets.ambient) = (0, 0, 0);
        }
        if was_effective && self.users.effective != 0 {
            sets.effective = 0;
        } else if !was_effective && self.users.effective == 0 {
            sets.effective = sets.permitted;
        }
        Ok(())
    }

    /// `capset`: effective, permitted, inheritable.
    pub(super) fn set_capabilities(&mut self, new: [u64; 3]) -> Result<(), Errno> {
        let [effective, permitted, inheritable] = new;
        let old = self.capabilities;
        let inheritable_limit = if self.can(cap::SETPCAP) {
            old.inheritable | old.bounding
        } else {
            old.inheritable | old.permitted
        };
        let allowed = permitted & !old.permitted == 0
            && effective & !permitted == 0
            && inheritable & !inheritable_limit == 0
            && inheritable & !(old.inheritable | old.bounding) == 0;
        if !allowed {
            return Err(Errno::PERM);
        }
        let ambient = old.ambient & permitted & inheritable;
        self.capabilities = Capabilities { effective, permitted, inheritable, ambient, ..old };
        Ok(())
    }

    /// What it is after an exec of a file with these owners, where the file is setuid or setgid.
    /// Says whether that gave it another identity.
    pub(super) fn execute(&mut self, setuid: Option<u32>, setgid: Option<u32>) -> bool {
        let before = (self.users.effective, self.groups.effective);
        if !self.no_new_privileges {
            if let Some(uid) = setuid {
                self.users.effective = uid;
            }
            if let Some(gid) = setgid {
                self.groups.effective = gid;
            }
        }
        for ids in [&mut self.users, &mut self.groups] {
            ids.saved = ids.effective;
            ids.files = ids.effective;
        }
        self.keeps_capabilities = false;
        let changed = before != (self.users.effective, self.groups.effective);
        let sets = &mut self.capabilities;
        if changed {
            sets.ambient = 0;
        }
        let is_root = self.users.effective == 0 || self.users.real == 0;
        sets.permitted = if is_root { sets.bounding | sets.inheritable } else { sets.ambient };
        sets.effective = match self.users.effective {
            0 => sets.permitted,
            _ => sets.ambient,
        };
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials::of_user(&User { uid, gid: uid, ..User::default() })
    }

    #[test]
    fn root_becomes_anybody_and_not_back() {
        let mut who = user(0);
        who.set_groups([33, 33, 33]).expect("root may");
        who.set_users([33, 33, 33]).expect("root may");
        assert_eq!(who.capabilities.permitted, 0);
        assert_eq!(who.set_users([SAME, 0, SAME]), Err(Errno::PERM));
        assert_eq!(who.set_user(0), Err(Errno::PERM));
        assert_eq!(who.set_supplementary(vec![0]), Err(Errno::PERM));
    }

    #[test]
    fn a_saved_id_leads_back_with_the_capabilities() {
        let mut who = user(0);
        who.set_users([SAME, 33, 0]).expect("root may");
        assert!(!who.can(cap::CHOWN));
        who.set_users([SAME, 0, SAME]).expect("it was saved");
        assert!(who.can(cap::CHOWN));
    }

    #[test]
    fn a_setuid_program_gives_its_owners_rights() {
        let mut who = user(1000);
        assert!(who.execute(Some(0), None));
        assert_eq!((who.users.real, who.users.effective, who.users.saved), (1000, 0, 0));
        assert!(who.can(cap::SETUID));
        who.set_user(0).expect("privileged");
        assert_eq!(who.users.real, 0);
        let mut other = user(1000);
        other.no_new_privileges = true;
        assert!(!other.execute(Some(0), None));
        assert!(!other.can(cap::SETUID));
    }

    #[test]
    fn files_can_be_accessed_as_somebody_else() {
        let mut who = user(0);
        assert_eq!(who.set_user_for_files(33), 0);
        assert!(!who.can(cap::DAC_OVERRIDE) && who.can(cap::SETUID));
        assert_eq!(who.set_user_for_files(0), 33);
        assert!(who.can(cap::DAC_OVERRIDE));
    }

    #[test]
    fn capabilities_are_dropped_for_good() {
        let mut who = user(0);
        let less = who.capabilities.permitted & !cap::CHOWN;
        who.set_capabilities([less, less, 0]).expect("less is allowed");
        let more = less | cap::CHOWN;
        assert_eq!(who.set_capabilities([more, more, 0]), Err(Errno::PERM));
        assert!(!who.can(cap::CHOWN));
    }
}
