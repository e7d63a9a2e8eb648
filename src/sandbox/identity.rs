//! Which ids this process has to give, and how it came by them.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::layer::{OverlayFormat, Owners};
use crate::sandbox::cgroup::Delegated;
use crate::sandbox::choice::Judgement;
use crate::sandbox::idmap::IdMap;
use crate::sandbox::probe::{Probe, Technique};
use crate::sandbox::program::Program;
use crate::sandbox::{Isolation, SandboxError, Style};

/// The name of the machine's first user namespace: the kernel's `PROC_USER_INIT_INO`.
const FIRST_NAMESPACE: &str = "user:[4026531837]";

/// What to do where there are several ids and one that is needed is not among them.
pub(super) const LONGER_RANGE: &str =
    "use a smaller id, or give yourself a longer range in /etc/subuid and /etc/subgid";

/// How the owners that an image names come to be on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// This is the machine's root, and ids mean what they say.
    Root,
    /// A user namespace with this many ids; owners are real in it.
    Range(u64),
    /// A user namespace with one id. Owners must be recorded beside the files.
    Single,
    /// One id, and a watcher that answers the step as if there were all. Owners are recorded beside
    /// the files.
    Emulated,
}

impl Identity {
    /// What this process is without entering anything: `None` for an ordinary user, and for the
    /// root of a user namespace that others have made.
    pub fn of_machine_root() -> Option<Self> {
        (is_first_namespace() && rustix::process::geteuid().is_root()).then_some(Self::Root)
    }
}

/// Whether this is the machine's first user namespace, so that ids mean what they say.
pub(super) fn is_first_namespace() -> bool {
    fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() == FIRST_NAMESPACE)
}

/// How many ids there are in this user namespace, of users or of groups, whichever are fewer.
pub(super) fn count_ids() -> u64 {
    let count = |path| IdMap::parse(&fs::read_to_string(path).unwrap_or_default()).count();
    count("/proc/self/uid_map").min(count("/proc/self/gid_map"))
}

/// To what a limit of memory applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryHold {
    /// To the command and all that it starts, together: a control group holds it.
    Step,
    /// To what each process of it has for itself: a resource limit holds that (`RLIMIT_DATA`).
    EachProcess,
}

/// Why an ordinary user's namespace has one id only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneId {
    /// No line for the user in this file.
    NotLent {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// Name or number.
        user: String,
        /// From here on nobody has been lent any.
        first_free: u32,
    },
    /// `newuidmap` or `newgidmap` is not installed.
    NoHelper {
        /// Which.
        program: &'static str,
    },
    /// The helper refused.
    HelperFailed {
        /// Its own words.
        said: String,
    },
    /// The surroundings gave one id to begin with.
    Given,
}

impl OneId {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let more = self.remedy();
        // Where there is one user only, another backend can still pretend to be all of them.
        if cfg!(target_arch = "x86_64") {
            format!("{more}; or build with `--isolation emulate`, which needs no ids")
        } else {
            more
        }
    }

    /// How to come by more ids.
    fn remedy(&self) -> String {
        match self {
            Self::NotLent { user, first_free, .. } => {
                format!("lend yourself a range of ids: `{}`", lend(user, *first_free))
            }
            Self::NoHelper { .. } => {
                "install newuidmap and newgidmap: the package is `uidmap` (Debian, Ubuntu) or \
                 `shadow-utils` (Fedora, Alpine: `shadow-uidmap`)"
                    .to_owned()
            }
            Self::HelperFailed { .. } => "newuidmap and newgidmap must be setuid root or have the \
                file capabilities cap_setuid and cap_setgid, and the ranges in /etc/subuid and \
                /etc/subgid must not overlap with others"
                .to_owned(),
            Self::Given => "run coracle outside of this user namespace".to_owned(),
        }
    }
}

impl OneId {
    /// What the words of a trial mean: a helper that is not installed is named.
    pub(super) fn of(said: Option<&str>, probe: &Probe) -> Self {
        match (&probe.not_lent, said) {
            (Some(why), _) => why.clone(),
            (None, Some("newuidmap")) => Self::NoHelper { program: "newuidmap" },
            (None, Some("newgidmap")) => Self::NoHelper { program: "newgidmap" },
            (None, said) => Self::HelperFailed { said: said.unwrap_or_default().to_owned() },
        }
    }
}

/// The command that lends a user as many ids as Linux distributions do.
pub(super) fn lend(user: &str, first: u32) -> String {
    let range = format!("{first}-{}", first.saturating_add(0xffff));
    format!("sudo usermod --add-subuids {range} --add-subgids {range} {user}")
}

impl fmt::Display for OneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLent { file, user, .. } => write!(f, "no range of ids for {user} in {file}"),
            Self::NoHelper { program } => write!(f, "{program} is not installed"),
            Self::HelperFailed { said } => f.write_str(said),
            Self::Given => f.write_str("the surrounding user namespace has one id"),
        }
    }
}

/// The power to run steps, and the ids for it. [`enter`](crate::sandbox::enter) gives it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    isolation: Isolation,
    identity: Identity,
    uids: IdMap,
    gids: IdMap,
    may_set_groups: bool,
    of: Option<String>,
    why_one: Option<OneId>,
    /// Whether overlayfs can keep changes where the store is.
    can_stack: bool,
    /// The stronger ways that do not work here, and why.
    passed_over: Vec<(Isolation, String)>,
    was_mentioned: Arc<AtomicBool>,
    /// Found out when it is first needed.
    control_groups: Arc<OnceLock<Option<Delegated>>>,
    without_wall: bool,
    program: Arc<Program>,
}

impl Sandbox {
    /// What this process has now. `of` is whose ids they are, if they were lent.
    pub(super) fn here(of: Option<String>, why_one: Option<OneId>) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (uids, gids) =
            (IdMap::parse(&read("/proc/self/uid_map")), IdMap::parse(&read("/proc/self/gid_map")));
        let identity = match uids.count().min(gids.count()) {
            _ if is_first_namespace() => Identity::Root,
            0 | 1 => Identity::Single,
            count => Identity::Range(count),
        };
        let may_set_groups = read("/proc/self/setgroups").trim() != "deny";
        let given = (identity == Identity::Single).then_some(OneId::Given);
        Self {
            isolation: Isolation::Namespaces,
            identity,
            uids,
            gids,
            may_set_groups,
            of,
            why_one: why_one.or(given),
            can_stack: false,
            passed_over: Vec::new(),
            was_mentioned: Arc::default(),
            control_groups: Arc::default(),
            without_wall: false,
            program: Arc::default(),
        }
    }

    /// Without any namespace of its own: `chroot` if the ids of this process are to be the step's, or
    /// else `emulate`.
    pub(super) fn without_namespaces(isolation: Isolation) -> Self {
        let here = Self::here(None, None);
        if isolation == Isolation::Chroot {
            return Self { isolation, why_one: None, ..here };
        }
        let identity = Identity::Emulated;
        let (uids, gids) = (IdMap::all(), IdMap::all());
        Self { isolation, identity, uids, gids, why_one: None, ..here }
    }

    /// The same, with what a probe has found, and for want of something better.
    pub(super) fn knowing(mut self, probe: &Probe, better: &[Judgement]) -> Self {
        let marks = self.has_trusted_marks();
        self.can_stack =
            probe.works(if marks { Technique::OverlayTrusted } else { Technique::OverlayUser });
        let stronger = better.iter().filter(|it| it.rung.isolation() > self.isolation);
        for judgement in stronger {
            let isolation = judgement.rung.isolation();
            if let Some(lack) = judgement.lacks.first()
                && self.passed_over.iter().all(|(known, _)| *known != isolation)
            {
                self.passed_over.push((isolation, lack.reason.clone()));
            }
        }
        self
    }

    /// Lets steps run in `chroot` where this kernel has no Landlock, which alone keeps root in there.
    pub(super) fn even_without_wall(self) -> Self {
        Self { without_wall: true, ..self }
    }

    pub(super) fn may_lack_wall(&self) -> bool {
        self.without_wall
    }

    /// How a step is kept in its root file system.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Whether files on disk can belong to others than this process's user.
    pub fn has_ids(&self) -> bool {
        self.owners() == Owners::Real
    }

    /// Whether a step sees the owners that an image names.
    pub fn shows_owners(&self) -> bool {
        self.has_ids() || self.identity == Identity::Emulated
    }

    /// How snapshots must keep owners for this sandbox.
    pub fn owners(&self) -> Owners {
        match self.identity {
            Identity::Root | Identity::Range(_) => Owners::Real,
            Identity::Single | Identity::Emulated => Owners::Recorded,
        }
    }

    /// How snapshots must mark what is hidden for this sandbox.
    pub fn overlay_format(&self) -> OverlayFormat {
        if self.has_trusted_marks() { OverlayFormat::Trusted } else { OverlayFormat::User }
    }

    /// In what shape snapshots must give root file systems to this sandbox.
    pub fn style(&self) -> Style {
        match self.isolation {
            Isolation::Namespaces if self.can_stack => Style::Overlay,
            Isolation::Namespaces | Isolation::Chroot => Style::Directory,
            Isolation::Emulate => Style::RecordedDirectory,
        }
    }

    /// How owners come to be here. `Root` goes with `trusted.overlay.*` marks in overlayfs layers,
    /// the others with `user.overlay.*`.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How to come by more ids; `None` if there are all.
    pub fn how_to_get_more_ids(&self) -> Option<String> {
        match (self.identity, &self.why_one) {
            (Identity::Root, _) => None,
            (_, Some(why)) => Some(why.hint()),
            (_, None) => Some(LONGER_RANGE.to_owned()),
        }
    }

    /// Why there is only one id, if so.
    pub fn why_one(&self) -> Option<&OneId> {
        self.why_one.as_ref()
    }

    /// One line for people: how steps are isolated, with which ids, and why not better.
    pub fn describe(&self) -> String {
        let mut text = format!("isolation: {}, {}", self.isolation, self.describe_ids());
        if self.without_wall {
            text.push_str(", with nothing that keeps root in there");
        }
        for (isolation, why) in &self.passed_over {
            text.extend(["; not ", isolation.name(), ": ", why.as_str()]);
        }
        text
    }

    /// [`describe`](Self::describe), the first time that anybody asks; `None` afterwards.
    pub fn introduce(&self) -> Option<String> {
        (!self.was_mentioned.swap(true, Ordering::Relaxed)).then(|| self.describe())
    }

    /// To what a limit of memory applies here.
    pub fn memory_hold(&self) -> MemoryHold {
        match self.control_groups() {
            Some(_) => MemoryHold::Step,
            None => MemoryHold::EachProcess,
        }
    }

    /// The control groups that are ours to share out, if there are any.
    pub(super) fn control_groups(&self) -> Option<&Delegated> {
        self.control_groups.get_or_init(Delegated::take).as_ref()
    }

    fn describe_ids(&self) -> String {
        let of = self.of.as_ref().map(|user| format!(" of {user}")).unwrap_or_default();
        match (self.identity, &self.why_one) {
            (Identity::Emulated, _) => "emulated ids".to_owned(),
            (Identity::Root, _) => "root of this machine".to_owned(),
            (Identity::Range(count), _) => format!("{count} ids{of}"),
            (Identity::Single, Some(why)) => format!("one id{of} ({why})"),
            (Identity::Single, None) => format!("one id{of}"),
        }
    }

    pub(super) fn has_trusted_marks(&self) -> bool {
        self.identity == Identity::Root && self.isolation == Isolation::Namespaces
    }

    pub(super) fn may_set_groups(&self) -> bool {
        self.may_set_groups
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn require_user(&self, id: u32) -> Result<(), SandboxError> {
        self.require("user", &self.uids, id)
    }

    pub(super) fn require_group(&self, id: u32) -> Result<(), SandboxError> {
        self.require("group", &self.gids, id)
    }

    fn require(&self, kind: &'static str, ids: &IdMap, id: u32) -> Result<(), SandboxError> {
        if ids.contains(id) {
            return Ok(());
        }
        let why = self.why_one.clone();
        Err(SandboxError::NoSuchId { kind, id, available: ids.count(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(identity: Identity, uids: IdMap, why_one: Option<OneId>) -> Sandbox {
        let gids = uids.clone();
        let of = Some("alice".to_owned());
        let isolation = Isolation::Namespaces;
        Sandbox {
            isolation,
            identity,
            uids,
            gids,
            may_set_groups: true,
            of,
            why_one,
            can_stack: true,
            passed_over: Vec::new(),
            was_mentioned: Arc::default(),
            control_groups: Arc::default(),
            without_wall: false,
            program: Arc::default(),
        }
    }

    #[test]
    fn a_description_says_whose_ids_and_how_many() {
        let map = IdMap::with_lent(1000, &[(100_000, 65_536)]);
        let range = sandbox(Identity::Range(map.count()), map, None);
        assert_eq!(range.describe(), "isolation: namespaces, 65537 ids of alice");
        let why = OneId::NoHelper { program: "newuidmap" };
        let single = sandbox(Identity::Single, IdMap::single(1000), Some(why));
        assert_eq!(
            single.describe(),
            "isolation: namespaces, one id of alice (newuidmap is not installed)"
        );
    }

    #[test]
    fn an_id_that_does_not_exist_is_refused_with_the_reason() {
        let (file, user) = ("/etc/subuid", "alice".to_owned());
        let why = OneId::NotLent { file, user, first_free: 231_072 };
        let single = sandbox(Identity::Single, IdMap::single(1000), Some(why.clone()));
        assert!(single.require_user(0).is_ok());
        let error = single.require_user(33).expect_err("no such user");
        assert_eq!(
            error.to_string(),
            "user 33 does not exist in this build's user namespace, which has 1 ids"
        );
        assert_eq!(error.hint(), Some(why.hint()));
        assert!(why.hint().contains("--add-subuids 231072-296607 --add-subgids 231072-296607"));
    }
}
