//! Which way to isolate steps is taken, out of what a place was found to allow. Pure.

use std::fmt;

use crate::sandbox::advice::{self, Lack};
use crate::sandbox::probe::{Probe, Technique};
use crate::sandbox::{Identity, Isolation};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// This way and no other (`--isolation`).
    pub isolation: Option<Isolation>,
    /// No weaker way than this (`--min-isolation`).
    pub at_least: Option<Isolation>,
    /// `chroot` even where this kernel has no Landlock, which alone keeps root in there
    /// (`--insecure-isolation`).
    pub insecure: bool,
}

impl Wish {
    /// The ways that may be taken, strongest first.
    pub(super) fn candidates(self) -> Vec<Isolation> {
        let is_wanted = |it: &Isolation| self.isolation.is_none_or(|wanted| wanted == *it);
        let is_enough = |it: &Isolation| self.at_least.is_none_or(|least| *it >= least);
        Isolation::ALL.into_iter().filter(is_wanted).filter(is_enough).collect()
    }
}

/// A way to isolate steps, with the ids that it has to give. The better ones come first: a step that
/// gives files away, or changes to another user, must work before anything else counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Namespaces, and files of any owner.
    ManyIds,
    /// `chroot`.
    Chroot,
    /// `emulate`.
    Emulate,
    /// Namespaces with one id: the owners that the base image has are recorded beside the files, and
    /// steps have no others to give.
    OneId,
}

impl Rung {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::ManyIds, Self::Chroot, Self::Emulate, Self::OneId];

    /// Which backend it is.
    pub fn isolation(self) -> Isolation {
        match self {
            Self::ManyIds | Self::OneId => Isolation::Namespaces,
            Self::Chroot => Isolation::Chroot,
            Self::Emulate => Isolation::Emulate,
        }
    }

    /// Which ids steps have on it.
    pub fn identity(self, probe: &Probe) -> Identity {
        let is_direct = probe.works(Technique::Privilege) || self == Self::Chroot;
        match self {
            Self::Emulate => Identity::Emulated,
            Self::OneId => Identity::Single,
            _ if is_direct && probe.is_first_namespace => Identity::Root,
            _ if is_direct => Identity::Range(probe.own_ids),
            _ => Identity::Range(ids(probe).unwrap_or(probe.own_ids)),
        }
    }

    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::ManyIds => "namespaces",
            Self::OneId => "namespaces with one id",
            Self::Chroot => "chroot",
            Self::Emulate => "emulate",
        }
    }

    /// What it cannot do without here.
    fn needs(self, probe: &Probe) -> Vec<Technique> {
        let is_direct = probe.works(Technique::Privilege);
        let mut needs = vec![Technique::RunFromMemory];
        match self {
            Self::ManyIds | Self::OneId => {
                needs.push(if is_direct { Technique::Privilege } else { Technique::UserNamespace });
                needs.push(Technique::Mount);
                needs.push(Technique::PivotRoot);
                if self == Self::ManyIds && !is_direct {
                    let is_root = probe.uid == 0;
                    needs.push(if is_root { Technique::OwnIds } else { Technique::LentIds });
                }
            }
            Self::Chroot => needs.extend([
                Technique::Chroot,
                Technique::Chown,
                Technique::Landlock,
                Technique::Notify,
                Technique::OpenInRoot,
                Technique::RunFromStore,
            ]),
            Self::Emulate => needs.extend([
                Technique::Notify,
                Technique::Trace,
                Technique::OpenInRoot,
                Technique::UserAttributes,
                Technique::RunFromStore,
            ]),
        }
        // Where the owners of files are recorded.
        if self == Self::OneId {
            needs.push(Technique::UserAttributes);
        }
        needs
    }

    /// What it has use for, and can do without.
    fn uses(self, probe: &Probe) -> &'static [Technique] {
        let is_machine_root = probe.works(Technique::Privilege) && probe.is_first_namespace;
        match self {
            Self::ManyIds | Self::OneId if is_machine_root => {
                &[Technique::OverlayTrusted, Technique::FreshProc, Technique::NetworkNamespace]
            }
            Self::ManyIds | Self::OneId => {
                &[Technique::OverlayUser, Technique::FreshProc, Technique::NetworkNamespace]
            }
            Self::Chroot => &[Technique::Mknod],
            Self::Emulate => &[Technique::Landlock],
        }
    }
}

/// How many ids a user namespace made here would have.
fn ids(probe: &Probe) -> Option<u64> {
    [Technique::LentIds, Technique::OwnIds].iter().find_map(|it| probe.verdict(*it).number())
}

/// One rung, and what stands in its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Which.
    pub rung: Rung,
    /// Without these it does not work. Empty if it does.
    pub lacks: Vec<Lack>,
    /// Without these it works, and steps see a difference.
    pub misses: Vec<Lack>,
}

/// Says what stands in the way of a rung.
pub fn judge(probe: &Probe, rung: Rung) -> Judgement {
    let lacking = |techniques: &[Technique]| -> Vec<Lack> {
        let lacking = techniques.iter().filter(|technique| !probe.works(**technique));
        lacking.map(|technique| advice::lack(probe, *technique)).collect()
    };
    let mut lacks = lacking(&rung.needs(probe));
    // Reported once, by its cause: what was not tried builds upon what failed, and more ids are of
    // no use without a namespace to have them in.
    if lacks.iter().any(|lack| lack.is_tried(probe)) {
        lacks.retain(|lack| lack.is_tried(probe));
    }
    if lacks.iter().any(|lack| lack.technique == Technique::UserNamespace) {
        lacks.retain(|lack| !matches!(lack.technique, Technique::OwnIds | Technique::LentIds));
    }
    match rung {
        // With one id it works, and is the rung below.
        Rung::ManyIds if probe.works(Technique::Privilege) && probe.own_ids <= 1 => {
            lacks.push(advice::given_one_id());
        }
        Rung::ManyIds if ids(probe) == Some(1) => lacks.push(advice::given_one_id()),
        Rung::Chroot if probe.uid != 0 => lacks = vec![advice::not_root()],
        Rung::Chroot => {
            let walls = lacks.iter_mut().filter(|lack| lack.technique == Technique::Landlock);
            walls.for_each(|lack| lack.remedies.push(advice::without_wall()));
        }
        _ => {}
    }
    let mut misses = lacking(rung.uses(probe));
    misses.retain(|lack| lack.is_tried(probe));
    Judgement { rung, lacks, misses }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The rung that is taken.
    pub rung: Rung,
    /// The better ones, best first, and why each was not.
    pub better: Vec<Judgement>,
}

/// No way that was asked for works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoIsolation {
    /// What was asked for.
    pub wish: Wish,
    /// The ways that would have done, best first, and what each lacks.
    pub judgements: Vec<Judgement>,
}

/// Takes the best rung that works here and that `wish` allows.
///
/// # Errors
///
/// Fails if there is none.
pub fn choose(probe: &Probe, wish: Wish) -> Result<Choice, NoIsolation> {
    let candidates = wish.candidates();
    let mut better = Vec::new();
    for rung in Rung::ALL.into_iter().filter(|it| candidates.contains(&it.isolation())) {
        let mut judgement = judge(probe, rung);
        if wish.insecure && rung == Rung::Chroot {
            judgement.lacks.retain(|lack| lack.technique != Technique::Landlock);
        }
        if judgement.lacks.is_empty() {
            return Ok(Choice { rung, better });
        }
        better.push(judgement);
    }
    Err(NoIsolation { wish, judgements: better })
}

impl fmt::Display for NoIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl NoIsolation {
    /// What is wrong, on one line.
    fn text(&self) -> String {
        let asked = match (self.wish.isolation, self.wish.at_least) {
            (None, Some(least)) => format!("no isolation as strong as `{least}` works here"),
            (Some(wanted), Some(least)) if wanted < least => {
                return format!(
                    "the isolation `{wanted}` is weaker than `{least}`, the least that is asked for"
                );
            }
            (Some(wanted), _) => format!("the isolation `{wanted}` does not work here"),
            (None, None) => "no way to isolate commands works here".to_owned(),
        };
        let mut named = Vec::new();
        let mut text = asked;
        for judgement in &self.judgements {
            let isolation = judgement.rung.isolation();
            let Some(lack) = judgement.lacks.first() else { continue };
            // Both rungs of namespaces lack the same; the one that asks for less says it best.
            if !named.contains(&isolation) {
                named.push(isolation);
                let reason = &lack.reason;
                if self.wish.isolation.is_none() {
                    text.extend(["; ", isolation.name()]);
                }
                text.extend([": ", reason.as_str()]);
            }
        }
        text
    }

    /// The way to have the best of them.
    pub(super) fn hint(&self) -> String {
        let lacks = self.judgements.iter().flat_map(|it| &it.lacks);
        let remedy = lacks.flat_map(|it| &it.remedies).next();
        match remedy {
            Some(remedy) => format!(
                "{}; `coracle doctor` lists every way",
                remedy.lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            ),
            None => "`coracle doctor` says what this place allows".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::probe::{Switches, Verdict};
    use crate::sandbox::{At, OneId};

    const EPERM: i32 = libc::EPERM;

    /// A place where everything works but what `refused` names; `untried` was not reached.
    fn place(uid: u32, refused: &[(Technique, i32)], untried: &[Technique]) -> Probe {
        let verdict = |technique: Technique| {
            let errno = refused.iter().find(|(it, _)| *it == technique).map(|(_, errno)| *errno);
            match errno {
                Some(errno) => Verdict::Refused { errno, said: None },
                None if untried.contains(&technique) => Verdict::Untried,
                None => Verdict::Works(match technique {
                    Technique::LentIds | Technique::OwnIds => Some(65_537),
                    Technique::Landlock => Some(6),
                    _ => None,
                }),
            }
        };
        Probe {
            uid,
            own_ids: u64::from(u32::MAX),
            is_first_namespace: true,
            verdicts: Technique::ALL.into_iter().map(|it| (it, verdict(it))).collect(),
            ..Probe::default()
        }
    }

    /// What comes after a user namespace.
    const INSIDE: [Technique; 7] = [
        Technique::Privilege,
        Technique::Mount,
        Technique::OverlayUser,
        Technique::OverlayTrusted,
        Technique::PivotRoot,
        Technique::FreshProc,
        Technique::NetworkNamespace,
    ];

    fn user(refused: &[(Technique, i32)], untried: &[Technique]) -> Probe {
        let ordinary = [Technique::Chroot, Technique::Chown, Technique::Mknod];
        let mut all: Vec<(Technique, i32)> = ordinary.map(|it| (it, EPERM)).to_vec();
        all.extend(refused);
        place(1000, &all, &[untried, &[Technique::Privilege, Technique::OwnIds]].concat())
    }

    fn root_pod() -> Probe {
        let refused = [(Technique::UserNamespace, EPERM), (Technique::OwnIds, EPERM)];
        place(0, &refused, &[&INSIDE[..], &[Technique::LentIds]].concat())
    }

    fn restricted_pod() -> Probe {
        let (file, user_name) = ("/etc/subuid", "1000".to_owned());
        let not_lent = OneId::NotLent { file, user: user_name, first_free: 100_000 };
        let refused = [(Technique::UserNamespace, EPERM), (Technique::LentIds, EPERM)];
        Probe { not_lent: Some(not_lent), ..user(&refused, &INSIDE) }
    }

    #[track_caller]
    fn check(probe: &Probe, rung: Rung, identity: Identity) {
        let choice = choose(probe, Wish::default()).expect("a way");
        assert_eq!((choice.rung, choice.rung.identity(probe)), (rung, identity), "{choice:#?}");
        assert!(choice.better.iter().all(|it| !it.lacks.is_empty()), "{choice:#?}");
    }

    /// The seven places, as `shared/reference/sandbox.md` has measured them, and some more.
    #[test]
    fn the_best_that_works_is_taken() {
        check(&place(0, &[], &[Technique::LentIds]), Rung::ManyIds, Identity::Root);
        let lent = user(&[(Technique::OverlayTrusted, libc::EIO)], &[]);
        check(&lent, Rung::ManyIds, Identity::Range(65_537));
        // One id is not enough for what steps do, so it is for who asks for it.
        let one = user(&[(Technique::LentIds, EPERM)], &[]);
        check(&one, Rung::Emulate, Identity::Emulated);
        let wish = Wish { at_least: Some(Isolation::Namespaces), ..Wish::default() };
        assert_eq!(choose(&one, wish).map(|choice| choice.rung), Ok(Rung::OneId));
        // Before seccomp could ask there was nothing better.
        let old = user(&[(Technique::LentIds, EPERM), (Technique::Notify, libc::EINVAL)], &[]);
        check(&old, Rung::OneId, Identity::Single);
        check(&root_pod(), Rung::Chroot, Identity::Root);
        check(&restricted_pod(), Rung::Emulate, Identity::Emulated);
        let own_users = Probe { is_first_namespace: false, own_ids: 65_536, ..root_pod() };
        check(&own_users, Rung::Chroot, Identity::Range(65_536));
        let limit = [(Technique::UserNamespace, libc::ENOSPC), (Technique::LentIds, libc::ENOSPC)];
        check(&user(&limit, &INSIDE), Rung::Emulate, Identity::Emulated);
        // CAP_SYS_ADMIN in the namespace of a pod, with Docker's filter: no pivot_root.
        let refused = [(Technique::PivotRoot, EPERM), (Technique::OverlayTrusted, EPERM)];
        let admin = place(0, &refused, &[Technique::LentIds]);
        let admin = Probe { is_first_namespace: false, own_ids: 65_536, ..admin };
        check(&admin, Rung::Chroot, Identity::Range(65_536));
        // A store on a container's own root: slower, and as well kept.
        let on_overlay = [(Technique::OverlayUser, libc::EINVAL)];
        check(&user(&on_overlay, &[]), Rung::ManyIds, Identity::Range(65_537));
        // A store without extended attributes has no place to record owners in.
        let no_attributes = [(Technique::UserAttributes, libc::EOPNOTSUPP)];
        check(&user(&no_attributes, &[]), Rung::ManyIds, Identity::Range(65_537));
        let one = user(&[no_attributes[0], (Technique::LentIds, EPERM)], &[]);
        let none = choose(&one, Wish::default()).expect_err("no way");
        assert_eq!(none.judgements[3].lacks[0].technique, Technique::UserAttributes);
        // Namespaces of one id, in which nothing more can be made.
        let refused = [(Technique::Chown, libc::EINVAL)];
        let one = Probe { own_ids: 1, is_first_namespace: false, ..place(0, &refused, &[]) };
        check(&one, Rung::Emulate, Identity::Emulated);
    }

    #[test]
    fn each_better_one_is_out_for_a_reason_and_has_a_way() {
        let choice = choose(&restricted_pod(), Wish::default()).expect("a way");
        let rungs: Vec<Rung> = choice.better.iter().map(|it| it.rung).collect();
        assert_eq!(rungs, [Rung::ManyIds, Rung::Chroot]);
        let [lack] = &choice.better[0].lacks[..] else { panic!("{choice:#?}") };
        assert_eq!(lack.technique, Technique::UserNamespace);
        assert_eq!(lack.errno.as_deref(), Some("EPERM"));
        let in_pod = lack.remedies.iter().find(|it| it.at == At::Kubernetes).expect("a way");
        assert_eq!(in_pod.lines[1], "  seccompProfile: {type: Unconfined}");
        let [lack] = &choice.better[1].lacks[..] else { panic!("{choice:#?}") };
        assert_eq!(lack.reason, "this is not uid 0");
    }

    #[test]
    fn a_switch_of_the_machine_is_named_with_the_command_that_turns_it() {
        let switches = Switches { apparmor: true, ..Switches::default() };
        let refused = user(&[(Technique::Mount, libc::EACCES)], &INSIDE[2..]);
        let judgement = judge(&Probe { switches, ..refused }, Rung::OneId);
        let [lack] = &judgement.lacks[..] else { panic!("{judgement:#?}") };
        assert_eq!(lack.reason, "AppArmor takes the power from user namespaces");
        assert!(lack.remedies[0].lines[0].starts_with("sudo sysctl -w kernel.apparmor_"));
    }

    #[test]
    fn a_wish_is_kept_or_refused_with_the_reason() {
        let wish = |isolation, at_least| Wish { isolation, at_least, insecure: false };
        let forced = |it| choose(&root_pod(), wish(Some(it), None)).map(|choice| choice.rung);
        assert_eq!(forced(Isolation::Emulate), Ok(Rung::Emulate));
        assert_eq!(forced(Isolation::Chroot), Ok(Rung::Chroot));
        let none = forced(Isolation::Namespaces).expect_err("refused");
        assert_eq!(
            none.to_string(),
            "the isolation `namespaces` does not work here: the surrounding container or a \
             security module refuses user namespaces"
        );
        assert!(none.hint().contains("seccomp=unconfined"), "{}", none.hint());
        let least = |it| choose(&restricted_pod(), wish(None, Some(it)));
        assert_eq!(least(Isolation::Emulate).map(|choice| choice.rung), Ok(Rung::Emulate));
        let none = least(Isolation::Chroot).expect_err("refused").to_string();
        assert!(none.starts_with("no isolation as strong as `chroot` works here; "), "{none}");
        assert!(none.ends_with("; chroot: this is not uid 0"), "{none}");
        let both = wish(Some(Isolation::Emulate), Some(Isolation::Chroot));
        let none = choose(&root_pod(), both).expect_err("refused").to_string();
        assert!(none.contains("is weaker than"), "{none}");
    }

    #[test]
    fn chroot_without_a_wall_is_for_those_who_ask_for_it() {
        let mut probe = root_pod();
        let missing = Verdict::Refused { errno: libc::ENOSYS, said: None };
        probe.verdicts.insert(Technique::Landlock, missing);
        check(&probe, Rung::Emulate, Identity::Emulated);
        let lack = &judge(&probe, Rung::Chroot).lacks[0];
        assert!(lack.remedies.iter().any(|it| it.lines[0].contains("--insecure-isolation")));
        let wish = Wish { insecure: true, ..Wish::default() };
        assert_eq!(choose(&probe, wish).map(|choice| choice.rung), Ok(Rung::Chroot));
    }

    #[test]
    fn what_a_step_can_do_without_is_told_too() {
        let masked = user(&[(Technique::FreshProc, EPERM)], &[]);
        let judgement = judge(&masked, Rung::ManyIds);
        assert!(judgement.lacks.is_empty());
        assert_eq!(judgement.misses[0].technique, Technique::FreshProc);
    }
}
