//! What an emulated user may do with a file: on disk everything belongs to one user, so the kernel
//! would allow it all.
//!
//! The rules are the kernel's, of `path_resolution(7)` and `capabilities(7)`.

use std::os::fd::AsFd as _;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::sandbox::emulate::credentials::{Credentials, cap};
use crate::sandbox::emulate::records::Owner;
use crate::sandbox::emulate::resolve::{Around, own_path};
use crate::sandbox::emulate::world::World;

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;

const STICKY: u32 = 0o1000;

/// Whether the credentials for files give the rights `wanted`, bits of `rwx`.
pub(super) fn permits(who: &Credentials, owner: &Owner, wanted: u32) -> Result<(), Errno> {
    let bits = if who.users.files == owner.uid {
        owner.mode >> 6
    } else if who.is_in_group(owner.gid) {
        owner.mode >> 3
    } else {
        owner.mode
    };
    let lacking = wanted & !bits & (READ | WRITE | EXECUTE);
    if lacking == 0 {
        return Ok(());
    }
    let is_directory = owner.kind() == FileType::Directory;
    let may_ever_run = is_directory || owner.mode & 0o111 != 0;
    if who.can(cap::DAC_OVERRIDE) && (wanted & EXECUTE == 0 || may_ever_run) {
        return Ok(());
    }
    Err(Errno::ACCESS)
}

/// Whether it may do what only the owner of a file may.
pub(super) fn is_owner(who: &Credentials, owner: &Owner) -> Result<(), Errno> {
    if who.users.files == owner.uid || who.can(cap::FOWNER) { Ok(()) } else { Err(Errno::PERM) }
}

impl World {
    /// Whether names may be made and removed in a directory.
    pub(super) fn may_change_names(
        &self,
        who: &Credentials,
        around: &Around,
    ) -> Result<Owner, Errno> {
        let owner = self.records.owner(&around.stat, || own_path(around.fd.as_fd()));
        permits(who, &owner, WRITE | EXECUTE)?;
        self.require_writable(&around.stat, around.fd.as_fd())?;
        Ok(owner)
    }

    /// Whether a file may be removed from or moved out of a directory that may be changed.
    pub(super) fn may_remove(
        who: &Credentials,
        directory: &Owner,
        file: &Owner,
    ) -> Result<(), Errno> {
        let mine = [file.uid, directory.uid].contains(&who.users.files);
        if directory.mode & STICKY == 0 || mine || who.can(cap::FOWNER) {
            return Ok(());
        }
        Err(Errno::PERM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::User;

    fn owner(uid: u32, gid: u32, mode: u32) -> Owner {
        Owner { uid, gid, mode, device: 0 }
    }

    fn user(uid: u32, groups: &[u32]) -> Credentials {
        let groups = groups.to_vec();
        Credentials::of_user(&User { uid, gid: uid, groups, home: String::new() })
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let check = |who: &Credentials, owner: Owner, wanted, expected: bool| {
            assert_eq!(permits(who, &owner, wanted).is_ok(), expected, "{owner:?} {wanted}");
        };
        let bob = user(1000, &[27]);
        check(&bob, owner(1000, 0, 0o100_077), READ, false);
        check(&bob, owner(0, 27, 0o100_704), READ, false);
        check(&bob, owner(0, 27, 0o100_640), READ, true);
        check(&bob, owner(0, 0, 0o100_644), WRITE, false);
        check(&bob, owner(0, 0, 0o100_644), READ, true);
        let root = user(0, &[]);
        check(&root, owner(1000, 0, 0o100_000), READ | WRITE, true);
        check(&root, owner(1000, 0, 0o100_666), EXECUTE, false);
        check(&root, owner(1000, 0, 0o100_001), EXECUTE, true);
        check(&root, owner(1000, 0, 0o040_000), EXECUTE, true);
    }

    #[test]
    fn sticky_directories_keep_the_files_of_others() {
        let (bob, tmp) = (user(1000, &[]), owner(0, 0, 0o041_777));
        assert!(World::may_remove(&bob, &tmp, &owner(1000, 0, 0o100_644)).is_ok());
        assert_eq!(World::may_remove(&bob, &tmp, &owner(7, 0, 0o100_666)), Err(Errno::PERM));
        let open = owner(0, 0, 0o040_777);
        assert!(World::may_remove(&bob, &open, &owner(7, 0, 0o100_666)).is_ok());
    }
}
