//! Why a technique does not work here, in plain words, and the exact way to have it. Pure.

use crate::sandbox::identity::lend;
use crate::sandbox::probe::{Probe, Technique, Verdict, errno_name};
use crate::sandbox::{OneId, Refusal};

/// Something that a rung lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What.
    pub technique: Technique,
    /// The kernel's name for the error, if there was one.
    pub errno: Option<String>,
    /// Why, as a sentence without a full stop.
    pub reason: String,
    /// The ways to have it. None if there is none that coracle knows.
    pub remedies: Vec<Remedy>,
}

impl Lack {
    /// Whether it is known to be lacking, and not only to be built upon something that is.
    pub(super) fn is_tried(&self, probe: &Probe) -> bool {
        *probe.verdict(self.technique) != Verdict::Untried
    }
}

/// One way to have something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Where it is to be done.
    pub at: At,
    /// Lines to type or to write, exactly.
    pub lines: Vec<String>,
}

/// Where something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// On the machine, by its administrator.
    Machine,
    /// In the command that starts a container.
    Docker,
    /// In the manifest of a pod's container.
    Kubernetes,
    /// In how coracle is called.
    Coracle,
}

impl At {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
            Self::Coracle => "coracle",
        }
    }
}

/// What `technique` lacks here.
pub(super) fn lack(probe: &Probe, technique: Technique) -> Lack {
    let verdict = probe.verdict(technique);
    let errno = verdict.errno();
    let (reason, remedies) = match (verdict, technique) {
        (Verdict::Died, _) => (
            format!("the process that tried it ({technique}) was killed, perhaps by a filter"),
            unconfined(),
        ),
        (Verdict::Untried, _) => (format!("{technique} was not tried"), Vec::new()),
        (_, Technique::UserNamespace) => {
            refused(Refusal::of(false, errno.unwrap_or_default(), probe.switches))
        }
        (_, Technique::Mount) if probe.works(Technique::UserNamespace) => {
            refused(Refusal::of(true, errno.unwrap_or_default(), probe.switches))
        }
        (Verdict::Refused { said, .. }, Technique::LentIds) => {
            ids(&OneId::of(said.as_deref(), probe))
        }
        _ => plain(probe, technique, errno.unwrap_or_default()),
    };
    Lack { technique, errno: errno.map(errno_name), reason, remedies }
}

/// There is only one id to begin with.
pub(super) fn given_one_id() -> Lack {
    let (reason, remedies) = ids(&OneId::Given);
    Lack { technique: Technique::OwnIds, errno: None, reason, remedies }
}

/// `chroot` is for root.
pub(super) fn not_root() -> Lack {
    let reason = "this is not uid 0".to_owned();
    let remedies = vec![
        remedy(At::Docker, ["docker run --user 0"]),
        remedy(At::Kubernetes, ["securityContext:", "  runAsUser: 0"]),
    ];
    Lack { technique: Technique::Chroot, errno: None, reason, remedies }
}

/// The way to `chroot` without Landlock.
pub(super) fn without_wall() -> Remedy {
    remedy(At::Coracle, ["--insecure-isolation, if every step is trusted like coracle itself"])
}

fn refused(refusal: Refusal) -> (String, Vec<Remedy>) {
    let remedies = match refusal {
        Refusal::Limit => {
            vec![remedy(At::Machine, ["sudo sysctl -w user.max_user_namespaces=15000"])]
        }
        Refusal::Switch => {
            vec![remedy(At::Machine, ["sudo sysctl -w kernel.unprivileged_userns_clone=1"])]
        }
        Refusal::AppArmor => vec![remedy(
            At::Machine,
            ["sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
        )],
        Refusal::Kernel => Vec::new(),
        Refusal::Outside => unconfined(),
    };
    (refusal.to_string(), remedies)
}

fn ids(why: &OneId) -> (String, Vec<Remedy>) {
    let remedies = match why {
        OneId::NotLent { user, first_free, .. } => {
            vec![remedy(At::Machine, [lend(user, *first_free)])]
        }
        OneId::NoHelper { .. } => vec![remedy(At::Machine, ["sudo apt-get install uidmap"])],
        OneId::HelperFailed { .. } => vec![
            remedy(At::Machine, ["sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap"]),
            remedy(At::Kubernetes, ["securityContext:", "  allowPrivilegeEscalation: true"]),
        ],
        OneId::Given => {
            vec![remedy(At::Docker, ["run coracle outside of the user namespace that it is in"])]
        }
    };
    (why.to_string(), remedies)
}

/// Without the filter and the profile that a container engine puts around a container.
fn unconfined() -> Vec<Remedy> {
    vec![
        remedy(
            At::Docker,
            ["docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined"],
        ),
        remedy(
            At::Kubernetes,
            [
                "securityContext:",
                "  seccompProfile: {type: Unconfined}",
                "  appArmorProfile: {type: Unconfined}",
            ],
        ),
    ]
}

fn capability(name: &str) -> Vec<Remedy> {
    vec![
        remedy(At::Docker, [format!("docker run --cap-add {name}")]),
        remedy(
            At::Kubernetes,
            ["securityContext:".to_owned(), format!("  capabilities: {{add: [{name}]}}")],
        ),
    ]
}

/// The store on a file system that is not the container's own.
fn volume() -> Vec<Remedy> {
    vec![
        remedy(At::Coracle, ["--root DIR, with DIR on a local disk, a volume or a tmpfs"]),
        remedy(At::Docker, ["docker run --volume coracle:/store, and --root /store"]),
        remedy(
            At::Kubernetes,
            [
                "volumes: [{name: store, emptyDir: {}}]",
                "volumeMounts: [{name: store, mountPath: /store}]   # and --root /store",
            ],
        ),
    ]
}

fn plain(probe: &Probe, technique: Technique, errno: i32) -> (String, Vec<Remedy>) {
    let kernel = |version: &str, what: &str| {
        (format!("this kernel has no {what} (Linux {version})"), Vec::new())
    };
    let words = |text: &str, remedies| (text.to_owned(), remedies);
    match (technique, errno) {
        (Technique::OverlayUser | Technique::OverlayTrusted, libc::ENODEV) => words(
            "this kernel has no overlayfs, so each step copies its root directory",
            vec![remedy(At::Machine, ["sudo modprobe overlay"])],
        ),
        (Technique::OverlayUser | Technique::OverlayTrusted, libc::EPERM | libc::EACCES) => {
            words("overlayfs is refused here, so each step copies its root directory", unconfined())
        }
        (Technique::OverlayUser | Technique::OverlayTrusted, _) => words(
            "overlayfs cannot keep changes on the store's file system, so each step copies its \
                 root directory",
            volume(),
        ),
        (Technique::Mount | Technique::PivotRoot, _) => {
            words("the surrounding container or a security module refuses it", unconfined())
        }
        (Technique::FreshProc, _) => words(
            "parts of /proc are masked here, so steps see this /proc, with process numbers that \
             are not theirs",
            vec![
                remedy(At::Docker, ["docker run --security-opt systempaths=unconfined"]),
                remedy(
                    At::Kubernetes,
                    [
                        "hostUsers: false   # of the pod",
                        "securityContext:",
                        "  procMount: Unmasked",
                    ],
                ),
            ],
        ),
        (Technique::NetworkNamespace, _) => {
            words("no network namespace can be made, so `--network=none` fails", unconfined())
        }
        (Technique::OwnIds, _) => words("the ids of this container may not be mapped", Vec::new()),
        (Technique::Chroot, _) => {
            words("this container's root has no CAP_SYS_CHROOT", capability("SYS_CHROOT"))
        }
        (Technique::Chown, libc::EINVAL) => ids(&OneId::Given),
        (Technique::Chown, _) => {
            words("this container's root has no CAP_CHOWN", capability("CHOWN"))
        }
        (Technique::Mknod, _) => {
            words("no devices can be made, so those outside are shown", capability("MKNOD"))
        }
        (Technique::Notify, libc::EBUSY) => words(
            "another program answers this process's system calls already, as if coracle ran in a \
             step of its own",
            Vec::new(),
        ),
        (Technique::Notify, libc::ENOSYS | libc::EINVAL) => kernel("5.14", "seccomp notification"),
        (Technique::Notify, _) => words("seccomp(2) is refused here", unconfined()),
        (Technique::Trace, libc::ENOSYS) => {
            words("it is not made for this kind of machine yet", Vec::new())
        }
        (Technique::Trace, _) => words(
            "ptrace is refused here",
            vec![
                remedy(At::Machine, ["sudo sysctl -w kernel.yama.ptrace_scope=1"]),
                remedy(At::Docker, ["docker run --security-opt seccomp=unconfined"]),
            ],
        ),
        (Technique::Landlock, libc::EOPNOTSUPP) => words(
            "Landlock is switched off",
            vec![remedy(
                At::Machine,
                ["boot with the kernel parameter lsm=landlock,… (see /sys/kernel/security/lsm)"],
            )],
        ),
        (Technique::Landlock, libc::ENOSYS) => kernel("5.13", "Landlock"),
        (Technique::Landlock, _) => words("Landlock is refused here", unconfined()),
        (Technique::OpenInRoot, libc::ENOSYS) => kernel("5.6", "openat2"),
        (Technique::OpenInRoot, _) => words("openat2 is refused here", unconfined()),
        (Technique::UserAttributes, _) => words(
            "the store's file system has no extended attributes (user.*), in which the owners of files \
             are recorded",
            volume(),
        ),
        (Technique::RunFromStore, libc::EACCES | libc::EPERM) => {
            words("the store is on a file system that is mounted noexec", volume())
        }
        (Technique::RunFromMemory, libc::EACCES | libc::EPERM) => words(
            "programs may not be run from memory",
            vec![remedy(At::Machine, ["sudo sysctl -w vm.memfd_noexec=0"])],
        ),
        _ => {
            let what = std::io::Error::from_raw_os_error(errno);
            let uid = probe.uid;
            (format!("{technique} fails for uid {uid}: {what}"), Vec::new())
        }
    }
}

fn remedy<S: Into<String>>(at: At, lines: impl IntoIterator<Item = S>) -> Remedy {
    Remedy { at, lines: lines.into_iter().map(Into::into).collect() }
}
