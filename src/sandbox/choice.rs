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
}

impl Wish {
    /// The ways that may be taken, strongest first.
    pub(super) fn candidates(self) -> Vec<Isolation> {
        let is_wanted = |it: &Isolation| self.isolation.is_none_or(|wanted| wanted == *it);
        let is_enough = |it: &Isolation| self.at_least.is_none_or(|least| *it >= least);
        Isolation::ALL.into_iter().filter(is_wanted).filter(is_enough).collect()
    }
}

/// A way to isolate steps, with the ids that it has to give. The better ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Namespaces, and files of any owner.
    ManyIds,
    /// Namespaces with one id; other owners are recorded beside the files.
    OneId,
    /// `chroot`.
    Chroot,
    /// `emulate`.
    Emulate,
}

impl Rung {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::ManyIds, Self::OneId, Self::Chroot, Self::Emulate];

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
                let is_machine_root = is_direct && probe.is_first_namespace;
                needs.push(if is_machine_root {
                    Technique::OverlayTrusted
                } else {
                    Technique::OverlayUser
                });
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
                Technique::RunFromStore,
            ]),
        }
        needs
    }

    /// What it has use for, and can do without.
    fn uses(self) -> &'static [Technique] {
        match self {
            Self::ManyIds | Self::OneId => &[Technique::FreshProc, Technique::NetworkNamespace],
            Self::Chroot => &[Technique::Mknod],
            Self::Emulate => &[Technique::Landlock, Technique::UserAttributes],
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
    let lacking = |technique: &&Technique| !probe.works(**technique);
    let needs = rung.needs(probe);
    let mut lacks: Vec<Lack> =
        needs.iter().filter(lacking).map(|it| advice::lack(probe, *it)).collect();
    // Reported once, by its cause: what was not tried builds upon what failed.
    if lacks.iter().any(|lack| lack.is_tried(probe)) {
        lacks.retain(|lack| lack.is_tried(probe));
    }
    match rung {
        // With one id it works, and is the rung below.
        Rung::ManyIds if probe.works(Technique::Privilege) && probe.own_ids <= 1 => {
            lacks.push(advice::given_one_id());
        }
        Rung::ManyIds if ids(probe) == Some(1) => lacks.push(advice::given_one_id()),
        Rung::Chroot if probe.uid != 0 => lacks = vec![advice::not_root()],
        _ => {}
    }
    let tried = |technique: &&&Technique| *probe.verdict(***technique) != Default::default();
    let uses = rung.uses().iter().filter(lacking_of(probe)).filter(|it| tried(&it));
    let misses = uses.map(|it| advice::lack(probe, *it)).collect();
    Judgement { rung, lacks, misses }
}

fn lacking_of(probe: &Probe) -> impl Fn(&&Technique) -> bool + '_ {
    |technique| !probe.works(**technique)
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
        let judgement = judge(probe, rung);
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
            (Some(wanted), None) => format!("the isolation `{wanted}` does not work here"),
            (None, Some(least)) => format!("no isolation as strong as `{least}` works here"),
            (Some(wanted), Some(least)) if wanted < least => {
                return format!(
                    "the isolation `{wanted}` is weaker than `{least}`, the least that is asked for"
                );
            }
            (Some(wanted), Some(_)) => format!("the isolation `{wanted}` does not work here"),
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
                text.push_str(&if self.wish.isolation.is_some() {
                    format!(": {reason}")
                } else {
                    format!("; {isolation}: {reason}")
                });
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
