//! The capabilities of a step: Docker's default fourteen, and none for an ordinary user; or all that
//! there are, where the step is to be insecure (rule A160).
//!
//! The bounding set keeps the fourteen for everyone, so that a setuid program gets them; nothing
//! is inheritable or ambient.
//!
//! Manual: <https://man7.org/linux/man-pages/man7/capabilities.7.html>

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// What root may do in a step of Docker's.
pub(super) const DOCKERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// What root may do in a step.
pub(super) fn kept(insecure: bool) -> CapabilitySet {
    if insecure { CapabilitySet::all() } else { DOCKERS }
}

/// Takes all capabilities but `kept` from whatever this process will ever execute.
pub(super) fn limit(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // The first number that the kernel does not know ends the list.
        let Ok(has) = capability_is_in_bounding_set(one) else { break };
        if has && !kept.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(clear_ambient_capability_set()?)
}

/// The sets that a process of the user `uid` starts with.
fn of_user(uid: u32, kept: CapabilitySet) -> CapabilitySets {
    let held = if uid == 0 { kept } else { CapabilitySet::empty() };
    CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() }
}

/// Gives this process the capabilities of the user `uid`, who as root may have `kept`, out of those
/// it holds.
pub(super) fn apply(uid: u32, kept: CapabilitySet) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.permitted;
    let sets = of_user(uid, kept);
    // In a surrounding container some of them may be gone already.
    let sets = CapabilitySets {
        effective: sets.effective & held,
        permitted: sets.permitted & held,
        ..sets
    };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_dockers_fourteen() {
        assert_eq!(DOCKERS.bits(), 0xa804_25fb);
        assert_eq!(of_user(0, kept(false)).effective, DOCKERS);
        assert!(of_user(0, kept(false)).inheritable.is_empty());
    }

    #[test]
    fn a104_an_ordinary_user_has_none() {
        assert!(of_user(1000, kept(false)).permitted.is_empty());
        assert!(of_user(1000, kept(true)).effective.is_empty());
    }
}
