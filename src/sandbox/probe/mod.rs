//! What this place allows, found by doing it: some let a namespace be made but nothing be done in
//! it, and no version number or setting tells.
//!
//! Each technique is tried in a process that is thrown away, in a few milliseconds altogether. The
//! result is data, from which [`choose`](crate::sandbox::choose) decides without looking at the
//! machine again. Only what can matter to the decision is tried: where namespaces work, nothing
//! else is, unless all is asked for.

mod namespaces;
mod plain;
mod switches;
mod technique;
mod trial;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sandbox::idmap::name_of;
use crate::sandbox::{Isolation, OneId};
use crate::sys::process::await_one_thread;

pub use switches::Switches;
pub use technique::{Technique, Verdict, errno_name};

use namespaces::Way;

/// What a place was found to allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// The user that this is.
    pub uid: u32,
    /// The user's name, where `/etc/passwd` has one.
    pub name: Option<String>,
    /// How many users there are in this user namespace.
    pub own_ids: u64,
    /// Whether this is the machine's first user namespace.
    pub is_first_namespace: bool,
    /// The machine's settings that forbid namespaces.
    pub switches: Switches,
    /// Why there are no lent ids to try, if so.
    pub not_lent: Option<OneId>,
    /// How each technique fared.
    pub verdicts: BTreeMap<Technique, Verdict>,
    /// How long it took.
    pub took: Duration,
}

/// What the backend `chroot` is made of, besides Landlock.
const CHROOT: [Technique; 3] = [Technique::Chroot, Technique::Chown, Technique::Mknod];
/// What every backend without namespaces is made of.
const WATCHING: [Technique; 6] = [
    Technique::Notify,
    Technique::Trace,
    Technique::Landlock,
    Technique::OpenInRoot,
    Technique::UserAttributes,
    Technique::RunFromStore,
];

impl Probe {
    /// Tries everything. `place` is an empty directory in the store, which the caller removes.
    ///
    /// # Errors
    ///
    /// Fails if this process has more than one thread, or may start no other.
    pub fn all(place: &Path) -> io::Result<Self> {
        let mut probe = Self::begin()?;
        let started = Instant::now();
        probe.try_namespaces(place, true)?;
        probe.try_ids()?;
        probe.try_plain(place, &[&CHROOT[..], &WATCHING].concat())?;
        probe.took = started.elapsed();
        Ok(probe)
    }

    /// Tries what it takes to decide which of `candidates` works, the first that does first.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all).
    pub(super) fn enough(
        place: &Path,
        candidates: &[Isolation],
        works: impl Fn(&Self, Isolation) -> bool,
    ) -> io::Result<Self> {
        let mut probe = Self::begin()?;
        let started = Instant::now();
        for isolation in candidates {
            match isolation {
                Isolation::Namespaces => {
                    probe.try_namespaces(place, false)?;
                    // In a namespace to be made it matters how many ids there are if there is another
                    // way, and where owners cannot be recorded.
                    let matters = candidates.len() > 1 || !probe.works(Technique::UserAttributes);
                    if matters && probe.works(Technique::UserNamespace) {
                        probe.try_ids()?;
                    }
                }
                Isolation::Chroot if probe.uid == 0 => {
                    probe.try_plain(place, &[&CHROOT[..], &WATCHING].concat())?;
                }
                Isolation::Chroot => {}
                Isolation::Emulate => probe.try_plain(place, &WATCHING)?,
            }
            if works(&probe, *isolation) {
                break;
            }
        }
        probe.took = started.elapsed();
        Ok(probe)
    }

    /// How a technique fared.
    pub fn verdict(&self, technique: Technique) -> &Verdict {
        const UNTRIED: &Verdict = &Verdict::Untried;
        self.verdicts.get(&technique).unwrap_or(UNTRIED)
    }

    /// Whether a technique is known to work.
    pub fn works(&self, technique: Technique) -> bool {
        self.verdict(technique).works()
    }

    fn begin() -> io::Result<Self> {
        await_one_thread()?;
        let uid = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Ok(Self {
            uid,
            name: name_of(&passwd, uid).map(str::to_owned),
            own_ids: crate::sandbox::identity::count_ids(),
            is_first_namespace: crate::sandbox::identity::is_first_namespace(),
            switches: Switches::read(),
            ..Self::default()
        })
    }

    fn try_namespaces(&mut self, place: &Path, all: bool) -> io::Result<()> {
        // For those who are not root it never works without a user namespace.
        if self.uid == 0 {
            self.verdicts.extend(namespaces::try_way(Way::Direct, place, all)?);
        }
        if !self.works(Technique::Privilege) {
            self.verdicts.extend(namespaces::try_way(Way::UserNamespace, place, all)?);
        } else if all {
            self.verdicts.extend(namespaces::try_user_namespace()?);
        }
        self.try_plain(place, &[Technique::RunFromMemory, Technique::UserAttributes])
    }

    fn try_ids(&mut self) -> io::Result<()> {
        let name = self.name.as_deref();
        let found = namespaces::try_ids(self.uid, name)?;
        self.not_lent = crate::sandbox::enter::not_lent(self.uid, name);
        self.verdicts.extend([found]);
        Ok(())
    }

    /// Tries those of `wanted` that were not tried yet.
    fn try_plain(&mut self, place: &Path, wanted: &[Technique]) -> io::Result<()> {
        let with_memory = [wanted, &[Technique::RunFromMemory]].concat();
        let new = with_memory.into_iter().filter(|it| !self.verdicts.contains_key(it));
        let new: Vec<Technique> = new.collect();
        let found = plain::try_plain(place, &new)?;
        self.verdicts.extend(found);
        Ok(())
    }
}
